#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: campaign_info
short_description: Look up a campaign on the controller
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs wholly on the controller; reads the campaign's folder and changes nothing.
options:
  results:
    description: Folder that holds the campaigns.
    type: path
    default: results
  campaign:
    description:
      - Name of the campaign; V(last) is the newest one that is not finished.
      - V(none) asks for no campaign, only for the C(target) of each host of the play that takes part, as inventory and command line say it.
    type: str
    default: last
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Which campaign is open?
  mad.engine.campaign_info:
    results: /srv/results
  register: mad_open
"""

RETURN = r"""
campaign:
  description: Its name.
  type: str
  returned: success, unless O(campaign=none)
campaign_dir:
  description: Its folder.
  type: str
  returned: success, unless O(campaign=none)
finished:
  description: Whether every planned run has a final row.
  type: bool
  returned: success, unless O(campaign=none)
counts:
  description: Planned runs (V(total)) and those with a final row (V(done)).
  type: dict
  returned: success, unless O(campaign=none)
hosts:
  description: For each inventory host of the plan its V(target), its V(login_node), its number of V(runs) and how many of them are V(unfinished).
  type: dict
  returned: success
"""

# The action plugin does everything; this file only holds the documentation.
