#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_explain
short_description: Say what differs between two rows
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Compares two runs in everything that was recorded of them. What was asked for (card, args, context, contents of the files), where they
    ran (facts of the machine, GPUs), with what (image, commits, version), and how they ended.
  - Reads the campaign folders; of a run whose folder is gone, its row in the history. Runs wholly on the controller.
options:
  baseline:
    description: A run id, or a beginning of it that only one run has, or C(CAMPAIGN/ID). The same run of two campaigns has the same id.
    type: str
    required: true
  candidate:
    description: The other run, in the same form.
    type: str
    required: true
  campaign:
    description: The campaign of ids that name none.
    type: str
    default: ""
  results:
    description: Folder that holds the campaigns.
    type: path
    default: results
  database_url:
    description: The history, as path of an SQLite file or as URL. By default C(history.db) in O(results).
    type: str
    default: ""
  output:
    description: A file to write the differences to, as a JSON list.
    type: path
    default: ""
  show:
    description: Print the table.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Writes no file.
  diff_mode:
    support: none
    description: Its answer is a difference.
"""

EXAMPLES = r"""
- name: Why is tonight slower than last night?
  mad.engine.perf_explain:
    results: /srv/results
    baseline: nightly-1127/3f2a
    candidate: nightly-1128/3f2a
  run_once: true
"""

RETURN = r"""
differences:
  description:
    - Each difference with C(section), C(what) (a dotted path), C(baseline) and C(candidate) (null where it is absent) and C(change), relative,
      where both are numbers.
  type: list
  elements: dict
  returned: success
lines:
  description: The table, line by line.
  type: list
  elements: str
  returned: success
"""

# The action plugin does everything; this file only holds the documentation.
