# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher table's variables for a job of a cluster: what only the job itself knows stays a reference for its shell."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping, Sequence

from ..base.quoting import quote
from . import launchers


def shell_text(value: str, known: Sequence[str]) -> str:
    """A value as shell text: `${NAME}` of a known name is filled in by the shell, everything else stands for itself."""
    parts = []
    position = 0
    for match in re.finditer(r"\$\{(%s)\}" % "|".join(known), value):
        if match.start() > position:
            parts.append(quote(value[position : match.start()]))
        parts.append('"${%s}"' % match.group(1))
        position = match.end()
    if position < len(value) or not parts:
        parts.append(quote(value[position:]))
    return "".join(parts)


def own_variables(launch: Mapping[str, Any], gpus: int) -> Dict[str, str]:
    """Variables that every job has, as madengine names them, beside the launcher's own."""
    nodes, processes = int(launch["nnodes"]), int(launch["nproc_per_node"])
    return {
        "MAD_LAUNCHER_TYPE": str(launch.get("name") or ""),
        "MAD_NODE_RANK": "${NODE_RANK}",
        "MAD_TOTAL_NODES": str(nodes),
        "MAD_COLLECT_METRICS": "${MAD_COLLECT}",
        "MASTER_ADDR": "${MASTER_ADDR}",
        "MASTER_PORT": "${MASTER_PORT}",
        "NNODES": str(nodes),
        "NODE_RANK": "${NODE_RANK}",
        "NPROC_PER_NODE": str(processes),
        "GPUS_PER_NODE": str(gpus),
        "WORLD_SIZE": str(nodes * processes),
    }


def variables(launch: Mapping[str, Any], gpus: int, model: str = "") -> Dict[str, str]:
    """{name: value with references} of a run's launcher (`launcher` of the plan) on its nodes; InvalidInput for too few nodes.

    The references are NODE_RANK, MASTER_ADDR, MASTER_PORT, MAD_COLLECT, MAD_HOSTFILE and MAD_ADDRESSES.
    """
    name, nodes, processes = str(launch.get("name") or ""), int(launch["nnodes"]), int(launch["nproc_per_node"])
    table = launchers.environment(name, nodes, processes, "${MASTER_ADDR}", "${MASTER_PORT}", "${NODE_RANK}", "${MAD_HOSTFILE}")
    found = {**own_variables(launch, gpus), **table}
    if name == "primus":
        found.update(launchers.primus_variables(model, launch.get("primus") or {}))
    if name == "sglang-disagg":
        prefill, decode = launchers.disagg_split(nodes, launch.get("prefill_nodes"), launch.get("decode_nodes"))
        found.update(SGLANG_DISAGG_PREFILL_NODES=str(prefill), SGLANG_DISAGG_DECODE_NODES=str(decode), SGLANG_NODE_IPS="${MAD_ADDRESSES}")
    return found
