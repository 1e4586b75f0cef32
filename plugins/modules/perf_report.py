#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_report
short_description: Write a report of campaigns
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Writes one HTML file that opens without a network, with an overview, the verdicts of comparison and diagnosis, charts over time, a heat
    map of the fleet and a page for each run; or Markdown for a comment on a pull request, or tables of CSV files as HTML as madengine makes
    them.
  - Runs wholly on the controller, once a play (C(run_once)); it needs no host and reads files of the campaign folders and the history only.
  - What a model printed is shown as text and never executed; secrets stand in none of the files it reads.
  - The same campaigns give the same file, so a second time changes nothing.
options:
  results:
    description: Folder that holds the campaigns.
    type: path
    default: results
  campaigns:
    description:
      - Names of the campaigns to report on, the newest last; V(last) is the newest there is, finished or not.
      - By default the newest. Of several, all runs are in the report.
    type: list
    elements: str
    default: []
  format:
    description:
      - What to write.
      - V(html) writes C(report.html) and V(markdown) C(report.md) into the folder of the (last) campaign.
      - V(csv-html) writes O(source), by default the campaign's C(perf.csv), as a table into an C(.html) file beside it (madengine's
        C(report to-html)).
      - V(email) writes all CSV files of the folder O(source), by default the campaign's, into C(run_results.html) there (madengine's
        C(report to-email)); nothing is sent.
    type: list
    elements: str
    default: [html]
    choices: [html, markdown, csv-html, email]
  output:
    description: The file to write instead; only with one format.
    type: path
    default: ""
  source:
    description: The CSV file for V(csv-html), the folder of CSV files for V(email).
    type: path
    default: ""
  history:
    description:
      - In a report of one campaign, how many earlier ones of O(results) that ran the same models the charts over time show; 0 none.
      - They are read from the history, see O(database_url).
    type: int
    default: 30
  database_url:
    description: The history of all campaigns, a URL or the path of an SQLite file. By default C(history.db) in O(results).
    type: str
    default: ""
  baseline:
    description:
      - Compare the (last) campaign with this and show the verdicts; a campaign, a folder, a C(perf.csv), V(last) or V(last:5), as in
        M(mad.engine.perf_compare).
      - By default the report shows what the last M(mad.engine.perf_compare) left in the campaign's folder, if there was one.
    type: raw
  same_within:
    description: With O(baseline), the change that counts as none, such as V(2%).
    type: raw
  better:
    description: With O(baseline), V(higher) or V(lower) by metric, where the unit does not say it.
    type: raw
  optional:
    description: When the report cannot be written, warn instead of failing. For the end of a play whose rows are worth more.
    type: bool
    default: false
  show:
    description: Print where each file is.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Says whether it would write, and writes nothing.
  diff_mode:
    support: none
    description: A report is not for reading line by line.
"""

EXAMPLES = r"""
- name: The newest campaign, as a page and as a comment
  mad.engine.perf_report:
    results: /srv/results
    format: [html, markdown]
  run_once: true

- name: What changed, for a comment on a pull request
  mad.engine.perf_report:
    format: [markdown]
    baseline: last:5
  run_once: true

- name: A month of nights
  mad.engine.perf_report:
    results: /srv/results
    campaigns: [nightly-01, nightly-02, nightly-03]
    output: /srv/www/november.html
  run_once: true

- name: A table of any perf.csv
  mad.engine.perf_report:
    format: [csv-html]
    source: /home/me/perf.csv
  run_once: true
"""

RETURN = r"""
files:
  description: Path of what was written, or would be, for each format.
  type: dict
  returned: success
  sample: {html: /srv/results/nightly/report.html}
"""

# The action plugin does everything; this file only holds the documentation.
