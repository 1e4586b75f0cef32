#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: campaign_wait
short_description: Wait until the hosts of a campaign are to be asked again
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs wholly on the controller and sleeps once for the whole play, so that no host holds a fork while its models run.
  - While a pause is at most 16 seconds long and there is a fork for every host, the hosts wait instead (RV(monitor) says for how long, as
    C(patience), at least 8 seconds), and answer as soon as their runs have ended. Not with O(max_failures), and not where live output is shown.
  - Waits 1, 2, 4, 8, 16 seconds, then every 30 seconds, or the number of hosts divided by 5 where that is more; less when a host is about to finish.
  - A host that does not answer is asked after a growing pause and given up after O(contact_timeout) seconds. Its runs go on.
  - Building block of the playbook C(mad.engine.run); of little use elsewhere.
options:
  campaign_dir:
    description: Folder of the campaign on the controller.
    type: path
    required: true
  hosts:
    description: The inventory hosts that were started and are waited for.
    type: list
    elements: str
    required: true
  polls:
    description: For each host the registered result of its last M(mad.engine.container_run) task.
    type: dict
    default: {}
  state:
    description: What the previous round returned as RV(monitor). Without it, the answers to the start in O(polls) are taken down and nothing is waited for.
    type: dict
    default: {}
  contact_timeout:
    description: Seconds without an answer after which a host is given up.
    type: int
    default: 600
  max_failures:
    description: Number (V(5)) or share (V(10%)) of failed runs above which nothing more is started. Empty accepts any number.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: In check mode it does not sleep.
  diff_mode:
    support: none
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Wait for the next poll
  mad.engine.campaign_wait:
    campaign_dir: /srv/results/20261122T101500Z
    hosts: "{{ ansible_play_hosts_all }}"
    polls: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'mad_poll'))) }}"
    state: "{{ mad_round.monitor }}"
  run_once: true
  register: mad_round
"""

RETURN = r"""
monitor:
  description:
    - State to hand to the next round.
    - V(finished) says whether every host is done or given up, V(asked) which hosts are to be asked now, V(rounds) how many rounds come
      next, V(stop) why nothing more is to be started.
  type: dict
  returned: success
campaign_dir:
  description: Folder of the campaign.
  type: str
  returned: success
"""

# The action plugin does everything; this file only holds the documentation.
