#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_node
short_description: Cordon nodes of a Kubernetes cluster with a reason, and give back those that were cordoned so
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs on a host that reaches the API of the cluster. What runs on a node goes on; no new pod is put there.
  - A node that is cordoned already keeps whatever it says. Only nodes that this module cordoned, and that nobody has set since, are ever given back.
    What was not touched is said under RV(left).
  - Reason, campaign, person and time stand in annotations of the node (C(mad.engine/cordon-reason), C(mad.engine/cordon-campaign),
    C(mad.engine/cordon-by), C(mad.engine/cordon-at)), which go when it is given back.
requirements:
  - The Python package C(kubernetes) on the host that the module runs on.
  - The rights to C(list), C(get) and C(patch) C(nodes). One that is missing is an error that names it.
options:
  nodes:
    description:
      - The nodes by their names in the cluster, with O(state=cordoned) a dictionary of reasons, else a list or a dictionary.
      - A node that the cluster does not know is an error, and nothing is done.
    type: raw
    required: true
  state:
    description: V(cordoned) puts no more pods on the node; V(uncordoned) gives it back.
    type: str
    default: cordoned
    choices: [cordoned, uncordoned]
  campaign:
    description: Name of the campaign that is the evidence.
    type: str
    default: ""
  by:
    description: Who asks for it. Empty means the user and the name of the host that the module runs on.
    type: str
    default: ""
extends_documentation_fragment:
  - mad.engine.cluster_access
attributes:
  check_mode:
    description: Says what it would do.
    support: full
  diff_mode:
    description: Shows each node that changes, with its reason.
    support: full
seealso:
  - module: mad.engine.fleet_diagnose
  - module: mad.engine.slurm_node
"""

EXAMPLES = r"""
- name: Take a node out
  mad.engine.k8s_node:
    nodes:
      node7: "mad.engine: slow: llama tokens_per_second -8.1% against 60 hosts"
    campaign: nightly
  delegate_to: localhost

- name: It was repaired
  mad.engine.k8s_node:
    nodes: [node7]
    state: uncordoned
  delegate_to: localhost
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
  sample: {node9: "is cordoned already: no reason is given (kubectl-cordon)"}
"""

import getpass
import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base import drains
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_cordon
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_client import Api, Connection


def run(module: AnsibleModule) -> t.Dict[str, t.Any]:
    """Look, decide, do."""
    given, asked = module.params, drains.asked(module.params["nodes"])
    cordoning = given["state"] == "cordoned"
    api = Api(Connection(kubeconfig=given["kubeconfig"], context=given["context"]), patience=60.0)
    k8s_cordon.check_rights(api)
    cluster = k8s_cordon.known(api)
    change = k8s_cordon.to_cordon(cluster, asked) if cordoning else k8s_cordon.to_uncordon(cluster, list(asked))
    if cordoning and not module.check_mode:
        who = given["by"] or "%s@%s" % (getpass.getuser(), socket.gethostname())
        k8s_cordon.cordon(api, cluster, change, given["campaign"], who)
    elif not module.check_mode:
        k8s_cordon.uncordon(api, cluster, change)
    return drains.answer(change, cordoning, "cordoned")


def main() -> None:
    """One task."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "raw", "required": True},
            "state": {"type": "str", "default": "cordoned", "choices": ["cordoned", "uncordoned"]},
            "campaign": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "kubeconfig": {"type": "str", "default": ""},
            "context": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except MadError as error:
        module.fail_json(msg=error.message)


if __name__ == "__main__":
    main()
