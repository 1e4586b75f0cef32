#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_store
short_description: Close the ledger of a campaign and write its results
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Gives every planned run its one row, whatever happened to its host, and writes C(perf.csv), C(perf_entry.csv), C(perf_entry.json) and
    C(summary.json) in the campaign folder, C(last-summary.json) beside it, and the rows of the index C(history.db).
  - Runs wholly on the controller, once a play (C(run_once)); it needs no host.
  - A run whose host was unreachable before it began fails with class C(infra); one that was started and never heard of again with class
    C(lost_contact). A run that was left running on purpose (O(wait=false)) has no row yet and is counted as pending.
  - The files are the truth. When the index cannot be written the play is warned and the campaign folder is complete;
    C(mad.engine.database) makes the index again.
  - Running it a second time changes nothing.
options:
  campaign_dir:
    description: The campaign's folder, as M(mad.engine.campaign_plan) returned it.
    type: path
    required: true
  hosts:
    description:
      - How each host of the play ended. The keys are names of hosts, the values dictionaries with C(state), C(reason) and C(class).
      - C(state) is C(ok), C(unreachable) (never reached), C(lost) (contact was lost), C(failed) (the play gave the host up) or
        C(stopped) (nothing more was to start).
      - C(class) is the failure class of runs that were never started there; without it that is C(infra).
      - Runs of hosts that are not named here keep their row; those without a row that were never started get one of class C(infra).
    type: dict
    default: {}
  wait:
    description: Whether the play waited for its runs. With V(false) a run without a result on a host with state C(ok) stays pending.
    type: bool
    default: true
  perf_output:
    description:
      - A C(perf.csv) to bring the rows into, besides the campaign's own; it may be one that madengine wrote. Its columns and cells
        stay as they are, further columns are added behind them.
      - Rows of the same campaign, run and attempt are replaced, so that nothing stands there twice.
    type: path
    default: ""
  summary_output:
    description: A file to copy C(summary.json) to.
    type: path
    default: ""
  database_url:
    description: The index, as path of an SQLite file or as URL of SQLite or PostgreSQL. By default C(history.db) beside the campaigns.
    type: str
    default: ""
  build:
    description:
      - What became of the builds, as a dictionary with C(built) (a number) and C(failed) (reason by image name).
      - By default it is read from the campaign's C(build_manifest.json).
    type: dict
  show:
    description: Print the table of results.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Says what it would write and writes nothing; the index is not looked at.
  diff_mode:
    support: none
    description: The rows are its diff; they are printed.
"""

EXAMPLES = r"""
- name: Write the results of a campaign
  mad.engine.perf_store:
    campaign_dir: /srv/results/nightly
    hosts:
      node1:
        state: ok
      node2:
        state: unreachable
        reason: No route to host
    perf_output: /srv/results/perf.csv
  run_once: true
  register: stored

- name: Fail as madengine would
  ansible.builtin.fail:
    msg: "exit_code {{ stored.exit_code }}: {{ stored.message }}"
  when: stored.exit_code != 0
  run_once: true
"""

RETURN = r"""
campaign:
  description: Name of the campaign.
  type: str
  returned: success
campaign_dir:
  description: Its folder.
  type: str
  returned: success
counts:
  description:
    - Planned runs (C(total)), those with a row (C(done)), by status (C(success), C(failure), C(skipped)), and those on their way
      (C(running)); C(queued) is always 0 here.
  type: dict
  returned: success
  sample: {total: 12, done: 12, success: 10, failure: 2, skipped: 0, running: 0, queued: 0}
exit_code:
  description:
    - In madengine's meaning. 0 nothing failed, 1 something could not be written, 2 a build or push failed, 3 a run failed (wins over 2).
  type: int
  returned: success
message:
  description: One sentence that says what failed.
  type: str
  returned: success
table:
  description: Path of the campaign's C(perf.csv).
  type: str
  returned: success
lines:
  description: The printed table, line by line; at most 200 rows, failures first.
  type: list
  elements: str
  returned: success
summary:
  description: Path of C(summary.json).
  type: str
  returned: success
resume_command:
  description: The command line that takes the campaign up again.
  type: str
  returned: success
mad_summary:
  description: A small dictionary for M(ansible.builtin.set_stats) with C(campaign), C(campaign_dir), C(exit_code), counts, failure classes.
  type: dict
  returned: success
"""

# The action plugin does everything; this file only holds the documentation.
