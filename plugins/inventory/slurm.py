# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: slurm
short_description: Nodes of a Slurm cluster as hosts, its partitions as groups
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Asks a cluster twice (C(scontrol show node) and C(scontrol show partition)) and makes every node a host, with its state, its GPUs and why it is out.
  - Every host carries C(mad_skip=true), so that no playbook of this collection runs on a compute node by accident. Jobs go through the cluster's
    login node, which is a host of an inventory of its own.
  - "Groups: C(slurm_nodes) has all nodes, C(slurm_partition_NAME) those of a partition, C(slurm_state_NAME) those in a state (C(idle), C(mixed),
    C(allocated), C(down), ...), C(slurm_flag_NAME) those with a mark beside it (C(drain), C(not_responding), ...), C(slurm_gpu_NAME) those with a type of GPU."
  - The group of a partition has the variables C(slurm_partition), C(slurm_partition_state), C(slurm_partition_default), C(slurm_partition_max_time) and
    C(slurm_partition_gpus).
  - The file's name must end in C(slurm.yml) or C(slurm.yaml).
options:
  plugin:
    description: Says that a file is for this plugin.
    type: str
    required: true
    choices: [mad.engine.slurm]
  command_prefix:
    description:
      - Words before C(scontrol), to ask a cluster from another machine, such as C(ssh -o BatchMode=yes login.example.com).
      - A list of words, or text that is split as a shell would. Nothing in it is expanded here; a remote shell reads the words of C(scontrol), which are plain.
    type: raw
    default: []
  partitions:
    description: Only nodes of these partitions. Empty takes all, also nodes without a partition.
    type: list
    elements: str
    default: []
  states:
    description: Only nodes in these states, such as V(idle). Empty takes all.
    type: list
    elements: str
    default: []
  usable_only:
    description: Leave out nodes on which Slurm starts nothing (down, drained, in maintenance, not responding).
    type: bool
    default: false
  timeout:
    description: Seconds that each of the two commands may take.
    type: int
    default: 60
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - C(scontrol) here, or where O(command_prefix) leads
"""

EXAMPLES = r"""
# cluster.slurm.yml, on a login node
plugin: mad.engine.slurm

# From a workstation, only the nodes of one partition that can take jobs, with a group for nodes with free GPUs
# plugin: mad.engine.slurm
# command_prefix: ssh -o BatchMode=yes login.example.com
# partitions: [gpu]
# usable_only: true
# groups:
#   with_free_gpus: slurm_gpus > slurm_gpus_used
# keyed_groups:
#   - key: slurm_features
#     prefix: feature
"""

import re
import shlex
import subprocess
import typing as t

from ansible.errors import AnsibleParserError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.base.quoting import split_words
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_nodes


def group_name(kind: str, name: str) -> str:
    """A name that Ansible takes for a group."""
    return "slurm_%s_%s" % (kind, re.sub(r"[^A-Za-z0-9_]", "_", name))


def variables(node: slurm_nodes.Node) -> dict[str, t.Any]:
    """What a host knows of itself."""
    return {
        "mad_skip": True,
        "slurm_node": node.name,
        "slurm_address": node.address,
        "slurm_hostname": node.hostname,
        "slurm_state": node.state,
        "slurm_flags": list(node.flags),
        "slurm_usable": node.usable(),
        "slurm_reason": node.reason,
        "slurm_partitions": list(node.partitions),
        "slurm_features": list(node.features),
        "slurm_gpus": node.gpus,
        "slurm_gpus_used": node.gpus_used,
        "slurm_gpu_type": node.gpu_type,
        "slurm_cpus": node.cpus,
        "slurm_cpus_used": node.cpus_used,
        "slurm_memory_mb": node.memory_mb,
        "slurm_gres": node.gres,
        "slurm_architecture": node.architecture,
        "slurm_version": node.version,
    }


def groups(node: slurm_nodes.Node) -> list[str]:
    """The groups of a node, beside the one of all."""
    found = [group_name("state", node.state)]
    found += [group_name("partition", name) for name in node.partitions]
    found += [group_name("flag", name) for name in node.flags]
    return found + [group_name("gpu", name) for name in node.gpu_type.split(",") if name]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Nodes and partitions."""

    NAME = "mad.engine.slurm"
    inventory: t.Any

    def verify_file(self, path: str) -> bool:
        """Only files whose name says that they are for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("slurm.yml", "slurm.yaml"))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Ask the cluster, or the cache; fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        answers = self._answers(path, cache)
        nodes, partitions = slurm_nodes.nodes(answers["nodes"]), slurm_nodes.partitions(answers["partitions"])
        if not nodes:
            raise AnsibleParserError("%s: scontrol named no node; it said: %r" % (path, answers["nodes"][:200]))
        inventory.add_group("slurm_nodes")
        for node in self._wanted(nodes, partitions, path):
            self._add(node)
        for partition in partitions:
            self._describe(partition, nodes)

    def _answers(self, path: str, cache: bool) -> dict[str, str]:
        """What both commands print; from the cache where it may be."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        use, renew = cache and self.get_option("cache"), self.get_option("cache")
        if use:
            try:
                return dict(self._cache[key])
            except KeyError:
                pass
        found = {"nodes": self._ask(slurm_nodes.NODES, path), "partitions": self._ask(slurm_nodes.PARTITIONS, path)}
        if renew:
            self._cache[key] = found
        return found

    def _prefix(self, path: str) -> list[str]:
        given = self.get_option("command_prefix") or []
        if isinstance(given, str):
            try:
                return split_words(given, "%s: command_prefix" % path)
            except InvalidInput as error:
                raise AnsibleParserError(error.message) from error
        if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
            raise AnsibleParserError("%s: command_prefix: text or a list of words was expected, not %r" % (path, given))
        return [str(word) for word in given]

    def _ask(self, command: t.Sequence[str], path: str) -> str:
        argv = [*self._prefix(path), *command]
        shown = " ".join(shlex.quote(word) for word in argv)
        seconds = self.get_option("timeout")
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise AnsibleParserError("%s: no answer in %s s from: %s" % (path, seconds, shown)) from error
        except OSError as error:
            hint = "run this on a login node, or set command_prefix to reach one (ssh login.example.com)"
            raise AnsibleParserError("%s: %s cannot be started (%s); %s" % (path, argv[0], error.strerror, hint)) from error
        if done.returncode:
            words = (to_text(done.stderr).strip() or to_text(done.stdout).strip())[-500:] or "nothing"
            raise AnsibleParserError("%s: exit status %d of: %s; it said: %s" % (path, done.returncode, shown, words))
        return str(to_text(done.stdout))

    def _wanted(
        self, nodes: t.Sequence[slurm_nodes.Node], partitions: t.Sequence[slurm_nodes.Partition], path: str
    ) -> list[slurm_nodes.Node]:
        names, states = self.get_option("partitions"), [str(state).lower() for state in self.get_option("states")]
        known = {partition.name for partition in partitions}
        unknown = sorted(set(names) - known)
        if unknown:
            raise AnsibleParserError(
                "%s: the cluster has no partition %s; it has %s" % (path, unknown[0], ", ".join(sorted(known)) or "none")
            )
        return [
            node
            for node in nodes
            if (not names or set(names) & set(node.partitions))
            and (not states or node.state in states)
            and (node.usable() or not self.get_option("usable_only"))
        ]

    def _add(self, node: slurm_nodes.Node) -> None:
        host = self.inventory.add_host(node.name, group="slurm_nodes")
        for name, value in variables(node).items():
            self.inventory.set_variable(host, name, value)
        for group in groups(node):
            self.inventory.add_child(self.inventory.add_group(group), host)
        strict, values = self.get_option("strict"), self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), values, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), values, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), values, host, strict=strict)

    def _describe(self, partition: slurm_nodes.Partition, nodes: t.Sequence[slurm_nodes.Node]) -> None:
        group = group_name("partition", partition.name)
        if group not in self.inventory.groups:
            return  # without one of the wanted nodes
        described = {
            "slurm_partition": partition.name,
            "slurm_partition_state": partition.state,
            "slurm_partition_default": partition.default,
            "slurm_partition_max_time": partition.max_time,
            "slurm_partition_gpus": sum(node.gpus for node in nodes if partition.name in node.partitions),
        }
        for name, value in described.items():
            self.inventory.set_variable(group, name, value)
