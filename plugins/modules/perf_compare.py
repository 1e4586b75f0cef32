#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of mad.engine.perf_compare; the action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_compare
short_description: Say what became slower or faster, by how much, and how certain that is
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Compares the results of a candidate with those of a baseline, or with declared values. For every model, arguments, metric and hardware
    class it gives the ratio of the two, an interval for that ratio, and one of four verdicts, C(improved), C(regressed), C(same) or
    C(inconclusive).
  - The interval and the verdict come from a rank test within each host, which is exact for every kind of noise; the number of comparisons is
    corrected for by the procedure of Benjamini and Hochberg. With too few or too noisy runs the verdict is C(inconclusive), with its reason.
  - Only successful runs with a number are compared. A file that is read is never written to, but for C(perf.csv) and
    C(comparison.json) of a candidate's own campaign folder, see O(relative_change).
requirements:
  - numpy and scipy on the controller
options:
  results:
    description: The folder of all campaigns.
    type: path
    default: results
  database_url:
    description:
      - The history, a URL or the path of an SQLite file; by default C(history.db) in O(results), if there is one.
      - It is asked for campaigns that have no folder in O(results), such as imported ones or those of another controller.
    type: str
  baseline:
    description:
      - What to compare with, a campaign in O(results), a folder, a C(perf.csv) (also one of madengine), C(last) for the newest other campaign
        or C(last:5) for the newest five. Several are taken together, as a list or as text with commas.
      - With three and more campaigns, what differs from campaign to campaign counts as noise.
      - Required unless O(references) or a card of the candidate declares values.
    type: raw
  candidate:
    description: What is judged, in the same words; by default the newest campaign that has results.
    type: raw
  references:
    description:
      - Declared values with tolerances, a dictionary or a YAML or JSON file, C({model pattern - {hardware or host pattern - {metric - [value,
        low, high]}}}). The bounds are parts of the value, C(-0.05) is five percent less, C(null) means no limit.
      - A card may declare the same for its own model under C(reference).
    type: raw
  same_within:
    description: The change that counts as none, as a part or in percent; C(2%) by default.
    type: raw
  better:
    description:
      - Which way is better, C(higher) or C(lower), by metric, for metrics whose unit does not say it. Without it such a change is
        C(inconclusive).
    type: raw
  repeats_max:
    description:
      - The most runs that a comparison may take. Then it is decided at fixed numbers of runs (4, 6, 9 and so on, up to this), each with so
        much certainty that looking several times raises no more false alarms than looking once.
    type: raw
  fail_on:
    description:
      - What must not be found, the verdict C(regressed) or C(inconclusive), or C(missing), a model of the baseline that has no number in the
        candidate. A list, or text with commas. RV(message) says what was found; the task itself does not fail, so that its answer can be used.
    type: raw
  relative_change:
    description:
      - Fill the column C(relative_change) in the C(perf.csv) of the candidate's campaign folder (0.05 is five percent more than the median of
        the baseline), and keep the verdicts there in C(comparison.json) for M(mad.engine.perf_report). A candidate that is no campaign
        folder is not written to.
    type: bool
    default: true
  output:
    description: A file on the controller to which RV(comparisons) is written as a JSON list, in one step.
    type: path
  show:
    description: Print the table. Nothing is printed under a stdout callback that writes JSON.
    type: bool
    default: true
attributes:
  check_mode:
    description: Compares and prints, writes nothing.
    support: full
  diff_mode:
    description: Shows what changes in O(output).
    support: full
  connection:
    description: Runs wholly on the controller and opens no connection.
    support: none
seealso:
  - name: How to read a comparison
    description: What the verdicts mean, which statistics are behind them, and what they cannot say.
    link: https://github.com/mad-engine/mad.engine/blob/main/docs/compare.md
"""

EXAMPLES = r"""
- name: Is tonight slower than the last five nights?
  mad.engine.perf_compare:
    results: /srv/results
    baseline: last:5
    candidate: nightly-20261122
    fail_on: regressed
    output: /srv/results/nightly-20261122/verdicts.json
  run_once: true
  register: compared

- name: Then stop here
  ansible.builtin.fail:
    msg: "{{ compared.message }}"
  when: compared.message != ''
  run_once: true

- name: Against a perf.csv of madengine, five percent counting as nothing
  mad.engine.perf_compare:
    baseline: /srv/old/perf.csv
    candidate: /srv/new/perf.csv
    same_within: 5%
  run_once: true

- name: Against declared values
  mad.engine.perf_compare:
    references:
      llm/*:
        "*MI300X*":
          tokens_per_second: [14000, -0.05, null]
  run_once: true
"""

RETURN = r"""
comparisons:
  description:
    - One dictionary for each model, arguments, metric, hardware class and number of GPUs, those that regressed first.
    - C(effect) is the ratio candidate to baseline (0.97 is three percent less), C(low) and C(high) the ends of its interval, null where there
      are too few runs for one; C(confidence) is that of the interval. C(p_adjusted) is corrected for the number of comparisons.
    - C(model) is the name in C(perf.csv), C(card) that in C(models.json), which is shorter for the rows of C(multiple_results).
    - C(better) is empty where nobody says which way is better, C(missing) names the side that has no number, C(reason) says why a verdict is
      C(inconclusive), C(repeats_needed) how many runs a side and host would probably decide.
  type: list
  elements: dict
  returned: when both sides could be read
  sample:
    - card: hash_sha256
      model: hash_sha256
      args: ""
      metric: MB_per_second
      hardware: 2x Intel(R) Xeon(R) Processor
      n_gpus: "0"
      nnodes: "1"
      verdict: regressed
      reason: ""
      better: higher
      margin: 0.02
      effect: 0.752
      low: 0.731
      high: 0.769
      change_percent: -24.8
      confidence: 0.95
      method: rank
      p: 0.00011
      p_adjusted: 0.00044
      baseline: {campaigns: [before], runs: 6, failed: 0, median: 1666.5, hosts: [node1]}
      candidate: {campaigns: [after], runs: 6, failed: 0, median: 1253.2, hosts: [node1]}
      missing: ""
      hosts: 1
      noise: 0.012
      repeats_needed: 0
counts:
  description: How many comparisons have each verdict.
  type: dict
  returned: when both sides could be read
  sample: {improved: 0, regressed: 1, same: 3, inconclusive: 2}
lines:
  description: The printed table, line by line.
  type: list
  elements: str
  returned: when both sides could be read
further:
  description:
    - With O(repeats_max) and a candidate that is one campaign folder, what it still has to run, for O(mad.engine.campaign_plan#module:further).
      Empty when everything is decided, or has as many repeats as it may have.
  type: list
  elements: dict
  returned: when both sides could be read
  sample: [{model: hash_sha256, args: "", host: node1, repeats: 6}]
message:
  description: What of O(fail_on) was found, empty when nothing was.
  type: str
  returned: when both sides could be read
  sample: "mad_fail_on=regressed: 1 of 3 comparisons: llama -4.8%"
baseline:
  description: What was compared with.
  type: str
  returned: when both sides could be read
candidate:
  description: What was judged.
  type: str
  returned: when both sides could be read
output:
  description: The file that holds the comparisons.
  type: str
  returned: when O(output) is given
"""
