# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter launch_command: a Python program's command line under a launcher."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import launchers

DOCUMENTATION = r"""
name: launch_command
short_description: The shell command that starts a program under a launcher
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Gives the command line that starts a program on one node, for a rendered job (sbatch script, pod command).
  - The same table of launchers serves all targets and the variable E(MAD_MULTI_NODE_RUNNER) that model scripts read.
  - Every word is quoted. O(node_rank), O(master_addr) and O(hostfile) may be a single reference like V($SLURM_PROCID), which the shell fills in.
  - Launchers whose scripts start their own processes (C(vllm), C(sglang), C(primus), C(slurm_multi)) add nothing.
positional: _input, launcher
options:
  _input:
    description: The program and its arguments as words. C(python3) in front is left out behind a launcher that starts Python itself.
    type: list
    elements: str
    required: true
  launcher:
    description:
      - One of C(python), C(torchrun), C(deepspeed), C(megatron-lm), C(torchtitan), C(primus), C(vllm), C(sglang), C(sglang-disagg),
        C(slurm_multi), or an alias of these.
      - Empty means torchrun.
    type: str
    default: ""
  nnodes:
    description: Number of nodes.
    type: int
    default: 1
  nproc_per_node:
    description: Number of processes (GPUs) on each node.
    type: int
    default: 1
  master_addr:
    description: Address of the first node. Needed with more than one node.
    type: str
    default: ""
  master_port:
    description: Port on the first node.
    type: int
    default: 29500
  node_rank:
    description: Number of this node, counted from 0.
    type: str
    default: "0"
  hostfile:
    description: Path of the host file (DeepSpeed on several nodes).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: One node, eight processes
  ansible.builtin.debug:
    msg: "{{ ['python3', 'train.py', '--name', 'a b'] | mad.engine.launch_command('torchrun', nproc_per_node=8) }}"
    # torchrun --standalone --nproc_per_node=8 train.py --name 'a b'

- name: Four nodes of a Slurm job
  ansible.builtin.debug:
    msg: >-
      {{ ['train.py'] | mad.engine.launch_command('torchrun', nnodes=4, nproc_per_node=8,
                                                  master_addr='$MASTER_ADDR', node_rank='$SLURM_PROCID') }}
"""

RETURN = r"""
_value:
  description: One line of shell text.
  type: str
"""


def launch_command(
    argv: t.Any,
    launcher: str = "",
    nnodes: int = 1,
    nproc_per_node: int = 1,
    master_addr: str = "",
    master_port: int = launchers.DEFAULT_PORT,
    node_rank: int | str = 0,
    hostfile: str = "",
) -> str:
    """One line of shell text."""
    try:
        if not isinstance(argv, (list, tuple)) or not argv:
            raise scalars.wrong("launch_command", "a list of words", argv)
        return launchers.shell_command(
            [scalars.to_text(word, "launch_command[%d]" % index) for index, word in enumerate(argv)],
            launcher,
            nnodes=scalars.to_int(nnodes, "nnodes", 1),
            nproc_per_node=scalars.to_int(nproc_per_node, "nproc_per_node", 1),
            master_addr=scalars.to_text(master_addr, "master_addr"),
            master_port=scalars.to_int(master_port, "master_port", 1),
            node_rank=scalars.to_text(node_rank, "node_rank"),
            hostfile=scalars.to_text(hostfile, "hostfile"),
        )
    except InvalidInput as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"launch_command": launch_command}
