#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_node
short_description: Drain nodes of a Slurm cluster with a reason, and give back those that were drained so
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs on a host where C(scontrol) works, as a user that Slurm lets change nodes (an operator or administrator).
  - A node that is out already keeps its state and its reason. Only nodes whose reason begins with C(mad.engine:) are ever given back. What
    was not touched is said under RV(left).
options:
  nodes:
    description:
      - The nodes by their Slurm names, with O(state=drained) a dictionary of reasons, else a list or a dictionary.
      - A node that the cluster does not know is an error, and nothing is done.
    type: raw
    required: true
  state:
    description: V(drained) lets running jobs end and starts no more; V(resumed) gives the node back.
    type: str
    default: drained
    choices: [drained, resumed]
attributes:
  check_mode:
    description: Says what it would do.
    support: full
  diff_mode:
    description: Shows each node that changes, with its reason.
    support: full
seealso:
  - module: mad.engine.fleet_diagnose
"""

EXAMPLES = r"""
- name: Take a node out
  mad.engine.slurm_node:
    nodes:
      node7: "mad.engine: slow: llama tokens_per_second -8.1% against 60 hosts"

- name: It was repaired
  mad.engine.slurm_node:
    nodes: [node7]
    state: resumed
"""

RETURN = r"""
nodes:
  description: Names of the nodes that were (in check mode would be) changed.
  type: list
  elements: str
  returned: success
  sample: [node7]
left:
  description: Nodes that were not touched, with why.
  type: dict
  returned: success
  sample: {node9: "is out already: fan broken"}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base import drains
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_client, slurm_drain


def run(module: AnsibleModule) -> t.Dict[str, t.Any]:
    """Look, decide, do."""
    slurm, asked = slurm_client.Slurm(), drains.asked(module.params["nodes"])
    draining = module.params["state"] == "drained"
    cluster = slurm_drain.known(slurm)
    change = slurm_drain.to_drain(cluster, asked) if draining else slurm_drain.to_resume(cluster, list(asked))
    if change.wanted and not module.check_mode:
        (slurm_drain.drain if draining else slurm_drain.resume)(slurm, change)
    return drains.answer(change, draining, "drained")


def main() -> None:
    """One task."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "raw", "required": True},
            "state": {"type": "str", "default": "drained", "choices": ["drained", "resumed"]},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except MadError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
