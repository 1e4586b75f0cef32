# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: k8s_nodes
short_description: Nodes of a Kubernetes cluster as hosts
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Asks the API server for its nodes and makes every node a host, with its GPUs, labels, taints, and why no pod goes there.
  - Every host carries C(mad_skip=true), so that no playbook of this collection runs on a node by accident. Jobs go through the API, from a host
    of an inventory of its own.
  - "Groups: C(k8s_nodes) has all nodes, C(k8s_state_ready), C(k8s_state_not_ready) and C(k8s_state_cordoned) those in a state, C(k8s_vendor_NAME) those
    with GPUs of a vendor (C(amd), C(nvidia), C(intel), C(none)), C(k8s_gpu_NAME) those with a product."
  - C(k8s_gpus) is the number of GPUs that pods can get; C(k8s_gpus_present) is larger when the device plugin calls some of them broken.
  - The file's name must end in C(k8s_nodes.yml) or C(k8s_nodes.yaml).
options:
  plugin:
    description: Says that a file is for this plugin.
    type: str
    required: true
    choices: [mad.engine.k8s_nodes]
  kubeconfig:
    description:
      - File that says how the cluster is reached.
      - Empty takes those of C(KUBECONFIG), merged, else C(~/.kube/config), else the service account of this pod.
    type: str
    default: ""
  context:
    description: Context in it. Empty takes its current one.
    type: str
    default: ""
  label_selector:
    description: Only nodes with these labels, as C(kubectl get nodes -l) takes them.
    type: str
    default: ""
  usable_only:
    description: Leave out nodes to which no pod goes (not ready, cordoned).
    type: bool
    default: false
  timeout:
    description: Seconds for which an API server that does not answer is asked again.
    type: int
    default: 60
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - the Python package C(kubernetes) on the controller
  - the right to C(list) C(nodes)
"""

EXAMPLES = r"""
# cluster.k8s_nodes.yml
plugin: mad.engine.k8s_nodes

# Only nodes with GPUs, a group for those with a broken one, and one for each zone
# plugin: mad.engine.k8s_nodes
# kubeconfig: ~/.kube/prod
# label_selector: nvidia.com/gpu.present=true
# groups:
#   broken: k8s_gpus < k8s_gpus_present
# keyed_groups:
#   - key: k8s_labels['topology.kubernetes.io/zone']
#     prefix: zone
"""

import re
import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_nodes
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_client import Api, Connection


def group_name(kind: str, name: str) -> str:
    """A name that Ansible takes for a group."""
    return "k8s_%s_%s" % (kind, re.sub(r"[^A-Za-z0-9_]", "_", name))


def variables(node: k8s_nodes.Node) -> dict[str, t.Any]:
    """What a host knows of itself."""
    return {
        "mad_skip": True,
        "k8s_node": node.name,
        "k8s_ready": node.ready,
        "k8s_schedulable": node.schedulable,
        "k8s_usable": node.usable(),
        "k8s_problems": list(node.problems),
        "k8s_gpus": node.gpus,
        "k8s_gpus_present": node.gpus_present,
        "k8s_gpu_vendor": node.gpu_vendor,
        "k8s_gpu_resource": node.gpu_resource,
        "k8s_gpu_product": node.gpu_product,
        "k8s_cpus": node.cpus,
        "k8s_memory_bytes": node.memory_bytes,
        "k8s_labels": dict(node.labels),
        "k8s_taints": list(node.taints),
        "k8s_addresses": dict(node.addresses),
        "k8s_kernel": node.kernel,
        "k8s_kubelet": node.kubelet,
        "k8s_os_image": node.os_image,
        "k8s_runtime": node.runtime,
        "k8s_architecture": node.architecture,
    }


def groups(node: k8s_nodes.Node) -> list[str]:
    """The groups of a node, beside the one of all."""
    found = [group_name("state", "ready" if node.ready else "not_ready"), group_name("vendor", node.gpu_vendor.lower())]
    found += [] if node.schedulable else [group_name("state", "cordoned")]
    return found + ([group_name("gpu", node.gpu_product)] if node.gpu_product else [])


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Nodes as hosts."""

    NAME = "mad.engine.k8s_nodes"
    inventory: t.Any

    def verify_file(self, path: str) -> bool:
        """Only files whose name says that they are for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("k8s_nodes.yml", "k8s_nodes.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Ask the API server, or the cache; fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        found = k8s_nodes.nodes(self._items(path, cache))
        inventory.add_group("k8s_nodes")
        for node in found:
            if node.usable() or not self.get_option("usable_only"):
                self._add(node)

    def _items(self, path: str, cache: bool) -> list[dict[str, t.Any]]:
        """The nodes as the API server has them; from the cache where it may be."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        use, renew = cache and self.get_option("cache"), self.get_option("cache")
        if use:
            try:
                return list(self._cache[key])
            except KeyError:
                pass
        connection = Connection(kubeconfig=str(self.get_option("kubeconfig") or ""), context=str(self.get_option("context") or ""))
        try:
            items, dummy = Api(connection, float(self.get_option("timeout"))).list("nodes", str(self.get_option("label_selector") or ""))
        except MadError as error:
            raise AnsibleParserError("%s: %s" % (path, error.message)) from error
        if renew:
            self._cache[key] = items
        return items

    def _add(self, node: k8s_nodes.Node) -> None:
        host = self.inventory.add_host(node.name, group="k8s_nodes")
        for name, value in variables(node).items():
            self.inventory.set_variable(host, name, value)
        for group in groups(node):
            self.inventory.add_child(self.inventory.add_group(group), host)
        strict, values = self.get_option("strict"), self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), values, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), values, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), values, host, strict=strict)
