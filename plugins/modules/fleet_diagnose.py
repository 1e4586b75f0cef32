#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of mad.engine.fleet_diagnose; the action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_diagnose
short_description: Find the bad hosts of a fleet by comparing hosts of one hardware class with each other
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Needs no baseline. A host is bad when it is slower than the core of its hardware class, when its runs scatter more than theirs, or when all
    its runs fail where nearly all other hosts succeed. Up to nearly half of a class may be bad without moving its core.
  - Of the hosts that are called bad, at most 1 percent are healthy on average (procedure of Benjamini and Hochberg), and no deviation below
    O(same_within) accuses anybody. A class needs 6 hosts that ran the same; four runs of a host say something about its scatter.
  - Bad hosts are written into an inventory file with the group C(mad_quarantined), which sets C(mad_skip). They stay in it until
    O(state=released) takes them out.
  - The answer is kept in the campaign's folder as C(diagnosis.json), for M(mad.engine.perf_report).
requirements:
  - numpy and scipy on the controller
options:
  state:
    description: V(diagnosed) judges the hosts of O(candidate); V(released) takes O(hosts) out of the file O(quarantine).
    type: str
    choices: [diagnosed, released]
    default: diagnosed
  results:
    description: The folder of all campaigns.
    type: path
    default: results
  database_url:
    description:
      - The history, a URL or the path of an SQLite file; by default C(history.db) in O(results), if there is one.
      - It is asked for campaigns that have no folder in O(results), such as imported ones or those of another controller.
    type: str
  candidate:
    description: Whose hosts are judged, a campaign, a folder, a C(perf.csv), C(last) or C(last:5). By default the newest campaign with results.
    type: raw
  same_within:
    description: The deviation that is nobody's fault, as a part or in percent; C(2%) by default.
    type: raw
  better:
    description: Which way is better, C(higher) or C(lower), by metric, for metrics whose unit does not say it; without it they accuse no host.
    type: raw
  rules:
    description:
      - A rule file of SuperBench (C(superbench.rules)), applied beside the statistics. Metrics are called C(<model>/<metric>), the baseline of
        C(variance) is the core of the hardware class. Its criteria are read as syntax and never run; what is no comparison or arithmetic of
        the argument is refused.
    type: path
  quarantine:
    description: The inventory file of bad hosts. It is made when it is absent; a file that holds anything else is refused.
    type: path
  hosts:
    description: With O(state=released), the hosts to take out, as a list or as text with commas; C(all) for every one.
    type: raw
  output:
    description: A file on the controller to which RV(hosts) is written as a JSON list.
    type: path
  show:
    description: Print the table. Nothing is printed under a stdout callback that writes JSON.
    type: bool
    default: true
attributes:
  check_mode:
    description: Judges and prints, writes nothing.
    support: full
  diff_mode:
    description: Shows what changes in O(quarantine).
    support: full
  connection:
    description: Runs wholly on the controller and opens no connection.
    support: none
seealso:
  - module: mad.engine.slurm_node
  - name: How to read a diagnosis
    description: What makes a host bad, and what the statistics cannot say.
    link: https://github.com/mad-engine/mad.engine/blob/main/docs/fleet.md
"""

EXAMPLES = r"""
- name: Which hosts are bad?
  mad.engine.fleet_diagnose:
    results: /srv/results
    candidate: nightly-20261122
    quarantine: /srv/results/quarantine.yml
  run_once: true
  register: fleet

- name: One of them was repaired
  mad.engine.fleet_diagnose:
    state: released
    quarantine: /srv/results/quarantine.yml
    hosts: node7
  run_once: true
"""

RETURN = r"""
hosts:
  description:
    - One dictionary for each host, bad ones first, with C(host), C(hardware), C(verdict) (C(healthy), C(slow), C(unsteady), C(failing), C(rule)
      or C(unjudged)), C(bad), C(p), C(reason) and C(evidence).
    - Each piece of evidence has C(kind), C(model), C(args), C(metric), C(deviation) (a part), C(value), C(usual) of the class, C(runs) and C(hosts).
  type: list
  elements: dict
  returned: O(state=diagnosed)
bad:
  description: Names of the bad hosts.
  type: list
  elements: str
  returned: O(state=diagnosed)
  sample: [node7]
reasons:
  description: One line for each bad host, fit for a drain.
  type: dict
  returned: O(state=diagnosed)
  sample: {node7: "mad.engine: slow: llama tokens_per_second -8.1% against 60 hosts"}
counts:
  description: How many hosts have each verdict.
  type: dict
  returned: O(state=diagnosed)
lines:
  description: The printed table, line by line.
  type: list
  elements: str
  returned: O(state=diagnosed)
candidate:
  description: Whose hosts were judged.
  type: str
  returned: O(state=diagnosed)
added:
  description: Hosts that were not in the file before.
  type: list
  elements: str
  returned: when O(quarantine) is given
released:
  description: Hosts that were taken out.
  type: list
  elements: str
  returned: O(state=released)
quarantined:
  description: All hosts in the file now.
  type: list
  elements: str
  returned: when O(quarantine) is given
output:
  description: The file that holds RV(hosts).
  type: str
  returned: when O(output) is given
"""
