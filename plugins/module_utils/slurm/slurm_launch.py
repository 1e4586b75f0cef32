# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model finds in its environment inside a Slurm job: the launcher table's variables, with what only the job knows left to its shell."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ..base.errors import InvalidInput
from ..base.quoting import is_env_name, quote
from ..containers import engine
from ..contexts import launch_text, launchers
from . import slurm_runtimes

# What the job's script has set when these lines run; nothing else is ever expanded.
KNOWN_THERE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MAD_HOSTFILE", "MAD_COLLECT", "MAD_ADDRESSES", "SLURM_JOB_ID")
# Chosen by Slurm, passed on where it set them.
FROM_SLURM = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL")


def shell_text(value: str) -> str:
    """A value as shell text: `${NAME}` of KNOWN_THERE is filled in by the shell, everything else stands for itself."""
    return launch_text.shell_text(value, KNOWN_THERE)


def starts_itself(name: str) -> bool:
    """Whether a launcher's script runs once, on the first node, and starts its own steps."""
    return name == launchers.SELF_STARTED


def variables(launch: Mapping[str, Any], gpus: int, model: str = "", image: str = "") -> Dict[str, str]:
    """{name: value with references} of a run's launcher (`launcher` of the plan) on its nodes; InvalidInput for too few nodes.

    `image` is by what name or id the nodes' engine knows the run's image.
    """
    name, prefill, decode = str(launch.get("name") or ""), launch.get("prefill_nodes"), launch.get("decode_nodes")
    own = {"MAD_DEPLOYMENT_TYPE": "slurm", "MAD_IN_SLURM_JOB": "1", "MAD_SLURM_JOB_ID": "${SLURM_JOB_ID}"}
    if starts_itself(name):
        split = {key: str(value) for key, value in {"xP": prefill, "yD": decode}.items() if value is not None}
        shown = {"DOCKER_IMAGE_NAME": image} if image else {}
        return {**launch_text.own_variables(launch, gpus), **own, **split, **shown, "MAD_MULTI_NODE_RUNNER": ""}
    return {**launch_text.variables(launch, gpus, model), **own}


def variables_of(run: Mapping[str, Any]) -> Dict[str, str]:
    """`variables` of a resolved run."""
    image = run.get("image") or {}
    known = str(image.get("registry_image") or image.get("digest") or image.get("name") or "") if run.get("runtime") != "host" else ""
    return variables(run["launcher"], int((run.get("gpus") or {}).get("count") or 0), str(run.get("model") or ""), known)


def of_run(run: Mapping[str, Any]) -> str:
    """The body of the script's function launch_environment. Variables that a person gave the run (`given_env`) are left alone."""
    launch, given = run["launcher"], [str(name) for name in run.get("given_env") or []]
    wanted = {name: value for name, value in variables_of(run).items() if name not in given}
    from_slurm = [name for name in FROM_SLURM if name not in slurm_runtimes.forgotten(run)]
    text: List[str] = [
        "MAD_COLLECT=true",
        'if [ "$NODE_RANK" -ne 0 ]; then MAD_COLLECT=false; fi',
    ]
    if int(launch["nnodes"]) > 1:
        inside = slurm_runtimes.inside(str(run.get("runtime"))) and not starts_itself(str(launch.get("name") or ""))
        text += _several(str(launch.get("name") or ""), int(launch["nproc_per_node"]), inside)
    for name in sorted(wanted):
        if not is_env_name(name):
            raise InvalidInput("%r is not a name for an environment variable" % name)
        text.append("export %s=%s" % (name, shell_text(wanted[name])))
    names = sorted(wanted) + [name for name in from_slurm if name not in given]
    names += [name for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if int(launch["nnodes"]) > 1 and name not in given]
    text.append("names=(%s)" % " ".join(names))
    return "\n".join("  " + line for line in text)


def _several(name: str, processes: int, inside: bool) -> List[str]:
    """What only a job of several nodes needs: how they talk to each other, and who they are."""
    text = [
        'export NCCL_SOCKET_IFNAME="${wanted_interface:-$(network_interface)}"',
        'export GLOO_SOCKET_IFNAME="$NCCL_SOCKET_IFNAME"',
    ]
    if name == "deepspeed":
        text += [
            'for host in $MAD_NODES; do echo "$(address_of "$host") slots=%d"; done >"$io/hostfile"' % processes,
            "MAD_HOSTFILE=%s" % (quote(engine.CONTROL + "/hostfile") if inside else '"$io/hostfile"'),
        ]
    if name == "sglang-disagg":
        text += [
            "MAD_ADDRESSES=''",
            'for host in $MAD_NODES; do MAD_ADDRESSES="${MAD_ADDRESSES:+$MAD_ADDRESSES,}$(address_of "$host")"; done',
        ]
    return text
