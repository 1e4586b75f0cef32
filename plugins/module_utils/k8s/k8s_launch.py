# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod of a run executes, as far as it differs from run to run: the command under its launcher, and the launcher's variables."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ..base.errors import InvalidInput
from ..base.quoting import is_env_name
from ..contexts import launch_text, launchers

HOSTFILE = "/.mad/hostfile"
# What pod.sh has set when the lines run; nothing else is ever expanded.
KNOWN_THERE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "MAD_COLLECT", "MAD_ADDRESSES", "MAD_POD_NAME", "MAD_POD_NAMESPACE", "MAD_POD_IP")
# The script starts servers on the other nodes, which nothing but the end of the first one ends.
SERVING = ("sglang", "sglang-disagg")
_RUN_BY_SHELL = 'exec $MAD_MULTI_NODE_RUNNER "$@"'


def nodes_of(run: Mapping[str, Any]) -> int:
    """How many pods a run has."""
    return int((run.get("launcher") or {}).get("nnodes") or 1)


def check(run: Mapping[str, Any]) -> None:
    """Refuse a launcher that pods cannot serve."""
    launch = run.get("launcher") or {}
    name = str(launch.get("name") or "")
    if name == "slurm_multi":
        raise InvalidInput(
            "model %s: launcher slurm_multi starts its own Slurm steps; it runs on target slurm only" % run.get("model"), "placement"
        )
    launchers.check_nodes(name, nodes_of(run))


def ends_with_first(run: Mapping[str, Any], wanted: Any) -> bool:
    """Whether the other pods end when the first one has: as asked (`k8s.end_with_first`), else as the launcher needs."""
    if nodes_of(run) < 2:
        return False
    if wanted is not None:
        return bool(wanted)
    name = str((run.get("launcher") or {}).get("name") or "")
    if name == "vllm":  # replicas that each end by themselves, unless people made one server of them
        return (run.get("env") or {}).get("VLLM_DISTRIBUTED_BACKEND") not in (
            None,
            "",
            "none",
            "auto",
        ) and "VLLM_DISTRIBUTED_BACKEND" in given(run)
    return name in SERVING


def command(run: Mapping[str, Any]) -> List[str]:
    """The words of the model's command. A Python file runs under its launcher; a shell script calls the launcher itself."""
    argv = [str(word) for word in run["command"]["argv"]]
    launch = run.get("launcher") or {}
    name = str(launch.get("name") or "")
    plain = argv[:1] in (["python3"], ["python"])
    if not plain or name in ("", "python") or not launchers.runner(name, 1, int(launch["nproc_per_node"])):
        return argv
    return ["bash", "-c", _RUN_BY_SHELL, "mad.engine", *argv[1:]]


def variables(run: Mapping[str, Any]) -> Dict[str, str]:
    """{name: value with references}: the launcher's variables on each node, and what madengine's pods have."""
    launch = run["launcher"]
    found = launch_text.variables(launch, int((run.get("gpus") or {}).get("count") or 0), str(run.get("model") or ""))
    found = {name: value.replace("${MAD_HOSTFILE}", HOSTFILE) for name, value in found.items()}
    found.update(
        MAD_DEPLOYMENT_TYPE="kubernetes",
        MAD_K8S_JOB="true",
        MAD_K8S_POD_NAME="${MAD_POD_NAME}",
        MAD_K8S_NAMESPACE="${MAD_POD_NAMESPACE}",
    )
    if launch.get("name") == "sglang" and nodes_of(run) > 1:
        found["SGLANG_HOST_IP"] = "${MAD_POD_IP}"
    return found


def given(run: Mapping[str, Any]) -> Sequence[str]:
    """Variables that card or context set: the launcher's leave them alone."""
    return [str(name) for name in run.get("given_env") or []]


def lines(run: Mapping[str, Any]) -> List[str]:
    """`export` lines of the launcher's variables, sorted; only references to KNOWN_THERE are left to the shell."""
    wanted = {name: value for name, value in variables(run).items() if name not in given(run)}
    for name in wanted:
        if not is_env_name(name):
            raise InvalidInput("%r is not a name for an environment variable" % name)
    return ["export %s=%s" % (name, launch_text.shell_text(wanted[name], KNOWN_THERE)) for name in sorted(wanted)]


def plain_environment(run: Mapping[str, Any]) -> Dict[str, str]:
    """The run's own variables, without those that the launcher sets on this target."""
    own = set(variables(run)) - set(given(run))
    return {str(name): str(value) for name, value in (run.get("env") or {}).items() if name not in own}
