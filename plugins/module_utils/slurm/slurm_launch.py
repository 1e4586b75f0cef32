# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model finds in its environment inside a Slurm job: the launcher table's variables, with what only the job knows left to its shell."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence

from ..base.errors import InvalidInput
from ..base.quoting import is_env_name, quote
from ..contexts import launchers

# What the job's script has set when these lines run; nothing else is ever expanded.
KNOWN_THERE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MAD_HOSTFILE", "MAD_COLLECT", "MAD_ADDRESSES", "SLURM_JOB_ID")
# Chosen by Slurm, passed on where it set them.
FROM_SLURM = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL")
_REFERENCE = re.compile(r"\$\{(%s)\}" % "|".join(KNOWN_THERE))


def shell_text(value: str) -> str:
    """A value as shell text: `${NAME}` of KNOWN_THERE is filled in by the shell, everything else stands for itself."""
    parts = []
    position = 0
    for match in _REFERENCE.finditer(value):
        if match.start() > position:
            parts.append(quote(value[position : match.start()]))
        parts.append('"${%s}"' % match.group(1))
        position = match.end()
    if position < len(value) or not parts:
        parts.append(quote(value[position:]))
    return "".join(parts)


def _own(launch: Mapping[str, Any], gpus: int) -> Dict[str, str]:
    """Variables that every job has, as madengine names them, beside the launcher's own."""
    nodes, processes = int(launch["nnodes"]), int(launch["nproc_per_node"])
    return {
        "MAD_DEPLOYMENT_TYPE": "slurm",
        "MAD_IN_SLURM_JOB": "1",
        "MAD_SLURM_JOB_ID": "${SLURM_JOB_ID}",
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


def variables(launch: Mapping[str, Any], gpus: int) -> Dict[str, str]:
    """{name: value with references} of a run's launcher (`launcher` of the plan) on its nodes; InvalidInput for too few nodes."""
    name, nodes, processes = str(launch.get("name") or ""), int(launch["nnodes"]), int(launch["nproc_per_node"])
    if name == "slurm_multi":
        return {**_own(launch, gpus), "MAD_MULTI_NODE_RUNNER": ""}
    table = launchers.environment(name, nodes, processes, "${MASTER_ADDR}", "${MASTER_PORT}", "${NODE_RANK}", "${MAD_HOSTFILE}")
    found = {**_own(launch, gpus), **table}
    if name == "sglang-disagg":
        prefill, decode = launchers.disagg_split(nodes, launch.get("prefill_nodes"), launch.get("decode_nodes"))
        found.update(SGLANG_DISAGG_PREFILL_NODES=str(prefill), SGLANG_DISAGG_DECODE_NODES=str(decode), SGLANG_NODE_IPS="${MAD_ADDRESSES}")
    return found


def lines(launch: Mapping[str, Any], gpus: int, given: Sequence[str] = (), from_slurm: Sequence[str] = FROM_SLURM) -> str:
    """The body of the script's function launch_environment. Variables that a person gave the run (`given`) are left alone.

    `from_slurm` are those that Slurm sets and the model is to see.
    """
    wanted = {name: value for name, value in variables(launch, gpus).items() if name not in given}
    text: List[str] = [
        "MAD_COLLECT=true",
        'if [ "$NODE_RANK" -ne 0 ]; then MAD_COLLECT=false; fi',
    ]
    if int(launch["nnodes"]) > 1:
        text += _several(str(launch.get("name") or ""), int(launch["nproc_per_node"]))
    for name in sorted(wanted):
        if not is_env_name(name):
            raise InvalidInput("%r is not a name for an environment variable" % name)
        text.append("export %s=%s" % (name, shell_text(wanted[name])))
    names = sorted(wanted) + [name for name in from_slurm if name not in given]
    names += [name for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if int(launch["nnodes"]) > 1 and name not in given]
    text.append("names=(%s)" % " ".join(names))
    return "\n".join("  " + line for line in text)


def of_run(run: Mapping[str, Any]) -> str:
    """The lines of a resolved run. An engine that is given some of NVIDIA's GPUs numbers them anew: Slurm's numbers would be wrong inside."""
    gpus = run.get("gpus") or {}
    inside = gpus.get("vendor") == "NVIDIA" and run.get("runtime") in ("docker", "podman")
    names = [name for name in FROM_SLURM if not (inside and name == "CUDA_VISIBLE_DEVICES")]
    return lines(run["launcher"], int(gpus.get("count") or 0), [str(name) for name in run.get("given_env") or []], names)


def _several(name: str, processes: int) -> List[str]:
    """What only a job of several nodes needs: how they talk to each other, and who they are."""
    text = [
        'export NCCL_SOCKET_IFNAME="${wanted_interface:-$(network_interface)}"',
        'export GLOO_SOCKET_IFNAME="$NCCL_SOCKET_IFNAME"',
    ]
    if name == "deepspeed":
        text += [
            'MAD_HOSTFILE="$io/hostfile"',
            'for host in $MAD_NODES; do echo "$(address_of "$host") slots=%d"; done >"$MAD_HOSTFILE"' % processes,
            '[ -z "$container" ] || MAD_HOSTFILE=/.mad/hostfile',
        ]
    if name == "sglang-disagg":
        text += [
            "MAD_ADDRESSES=''",
            'for host in $MAD_NODES; do MAD_ADDRESSES="${MAD_ADDRESSES:+$MAD_ADDRESSES,}$(address_of "$host")"; done',
        ]
    return text
