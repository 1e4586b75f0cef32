# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of a context as data: types, spellings that mean the same, what this release refuses, what only other targets read."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..base.quoting import is_env_name
from ..containers.registry import check_reference
from ..facts.gpu import expand_indexes
from ..results import aggregate
from .launchers import canonical

Check = Callable[[Any, str], Any]
Path = Tuple[str, ...]

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*\Z")
PRIVILEGES = ("sys_admin", "seccomp_unconfined", "ipc_host")


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise scalars.wrong(key, "text", value)
    return scalars.to_text(value, key)


def _image(value: Any, key: str) -> str:
    text = _text(value, key).strip()
    return check_reference(text, key) if text else ""


def _word(value: Any, key: str) -> str:
    text = _text(value, key).strip().upper()
    if text and not _WORD.match(text):
        raise scalars.wrong(key, "one word like AMD or UBUNTU", value)
    return text


def _indexes(value: Any, key: str) -> str:
    expand_indexes(value, key)
    return str(value).strip()


def _dict(value: Any, key: str) -> Dict[str, Any]:
    if not isinstance(value, Mapping):
        raise scalars.wrong(key, "a dict", value)
    return dict(value)


def _list(value: Any, key: str) -> List[Any]:
    if not isinstance(value, list):
        raise scalars.wrong(key, "a list", value)
    return value


def _environment(value: Any, key: str) -> Dict[str, str]:
    variables = scalars.text_dict(value, key)
    for name in variables:
        if not is_env_name(name):
            raise InvalidInput("%s: %r is not a name for an environment variable (letters, digits and _, no leading digit)" % (key, name))
    return variables


def _mounts(value: Any, key: str) -> Dict[str, str]:
    """Container path (a :ro or :rw behind it is allowed) -> path on the host; both absolute, taken as they are, nothing is expanded."""
    mounts = scalars.text_dict(value, key)
    for target, source in mounts.items():
        for side, path in (("container", re.sub(r":r[ow]\Z", "", target)), ("host", source)):
            if not path.startswith("/") or ":" in path or "\n" in path or "/../" in path + "/":
                raise InvalidInput(
                    "%s: %s is not an absolute path on the %s without ':' and '..' (container path on the left, host path on the right; "
                    "~ and variables are not expanded)" % (key, scalars.shown(path), side)
                )
    return mounts


def _render_nodes(value: Any, key: str) -> List[int]:
    return [scalars.to_int(item, "%s[%d]" % (key, index), 0) for index, item in enumerate(_list(value, key))]


def _texts(value: Any, key: str) -> List[str]:
    return [_text(item, "%s[%d]" % (key, index)) for index, item in enumerate(_list(value, key))]


def _patterns(value: Any, key: str) -> List[str]:
    """An empty list would switch the error scan off in silence."""
    patterns = _texts(value, key)
    if not patterns or not all(patterns):
        raise scalars.wrong(
            key, "a list of one or more texts that are not empty (log_error_pattern_scan: false switches the scan off)", value
        )
    return patterns


def _scripts(value: Any, key: str) -> List[Dict[str, str]]:
    """[{path, args?}]"""
    found = []
    for index, item in enumerate(_list(value, key)):
        where = "%s[%d]" % (key, index)
        entry = {"path": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str) or not entry["path"].strip():
            raise scalars.wrong(where, "a dict with path and perhaps args", item)
        unknown = sorted(set(entry) - {"path", "args"})
        if unknown:
            raise InvalidInput("%s: unknown key %r; path and args are known" % (where, unknown[0]))
        found.append({"path": entry["path"], "args": scalars.to_text(entry.get("args", ""), where + ".args")})
    return found


def _privileges(value: Any, key: str) -> Dict[str, bool]:
    unknown = sorted(set(_dict(value, key)) - set(PRIVILEGES))
    if unknown:
        raise InvalidInput("%s: unknown key %r; known are %s" % (key, unknown[0], ", ".join(PRIVILEGES)))
    return {name: scalars.to_bool(item, "%s.%s" % (key, name)) for name, item in value.items()}


def _count(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 1)


def _gpus(value: Any, key: str) -> int:
    return scalars.to_int(value, key, -1, "a number of GPUs, or -1 for all")


def _port(value: Any, key: str) -> int:
    port = scalars.to_int(value, key, 1, "a port from 1 to 65535")
    if port > 65535:
        raise scalars.wrong(key, "a port from 1 to 65535", value)
    return port


def _timeout(value: Any, key: str) -> int:
    return scalars.to_seconds(value, key, "seconds, 0 for no limit, or -1 for the card's")


def _scalar(value: Any, key: str) -> str:
    return scalars.to_text(value, key)


def _deploy(value: Any, key: str) -> str:
    if isinstance(value, str) and value.strip().lower() in TARGETS:
        return TARGETS[value.strip().lower()]
    raise scalars.wrong(key, "one of %s" % ", ".join(sorted(TARGETS)), value)


TARGETS = {"local": "local", "docker": "local", "slurm": "slurm", "k8s": "k8s", "kubernetes": "k8s"}

# Key: what its value becomes. A key that stands nowhere here is kept as it is (a CONTEXT header may ask for it).
KEYS: Dict[str, Check] = {
    "deploy": _deploy,
    "gpu_vendor": _word,
    "guest_os": _word,
    "host_os": _word,
    "ctx_test": _scalar,
    "numa_balancing": _scalar,
    "docker_build_arg": scalars.text_dict,
    "docker_env_vars": _environment,
    "env_vars": _environment,
    "docker_mounts": _mounts,
    "docker_gpus": _indexes,
    "docker_cpus": _indexes,
    "docker_privileges": _privileges,
    "gpu_renderDs": _render_nodes,
    "n_gpus": _gpus,
    "pre_scripts": _scripts,
    "post_scripts": _scripts,
    "encapsulate_script": _text,
    "model_args": _text,
    "timeout": _timeout,
    "log_error_pattern_scan": scalars.to_bool,
    "log_error_benign_patterns": _texts,
    "log_error_patterns": _patterns,
    "MAD_CONTAINER_IMAGE": _image,
    "distributed": _dict,
    "slurm": _dict,
    "k8s": _dict,
    "debug": scalars.to_bool,
    "live_output": scalars.to_bool,
    "monitor": scalars.to_bool,
    "cleanup_on_failure": scalars.to_bool,
    "tools": _list,
    "data": _dict,
    "shared_data": _text,
    "rocenv_mode": _text,
    "gen_sys_env_details": scalars.to_bool,
    "generate_sys_env_details": scalars.to_bool,
    "vllm": _dict,
    "deployment_config": _dict,
    "skip_perf_collection": scalars.to_bool,
    "MAD_ROCM_PATH": _text,
    "SHM_SIZE": _text,
    "mirrorlocal": _text,
    "context": _dict,
    "cluster": _dict,
    "baremetal_vm": _dict,
    "require_pinned_image": scalars.to_bool,
}

# Below `distributed`.
DISTRIBUTED_KEYS: Dict[str, Check] = {
    "launcher": lambda value, key: canonical(_text(value, key), key),
    "nnodes": _count,
    "nproc_per_node": _count,
    "port": _port,
    "backend": _text,
    "enabled": scalars.to_bool,
    "sglang_disagg": _dict,
    "vllm_disagg": _dict,
    "primus": _dict,
    "aggregation": lambda value, key: aggregate.check(_dict(value, key), key),
}

# The one place of a value, and the other places where people write it.
SPELLINGS: Tuple[Tuple[Path, Tuple[Path, ...]], ...] = (
    (("k8s",), (("kubernetes",),)),
    (("distributed", "launcher"), (("launcher",), ("launcher", "type"))),
    (("distributed", "nnodes"), (("nnodes",), ("launcher", "nnodes"), ("slurm", "nodes"))),
    (("distributed", "nproc_per_node"), (("nproc_per_node",), ("launcher", "nproc_per_node"))),
    (("distributed", "port"), (("distributed", "master_port"), ("launcher", "master_port"))),
    (("gpu_vendor",), (("k8s", "gpu_vendor"),)),
    (("slurm", "time"), (("slurm", "time_limit"),)),
    # What presets set must have its one name before they come below it.
    (("k8s", "cpu"), (("k8s", "cpu_request"),)),
    (("k8s", "memory"), (("k8s", "memory_request"),)),
    (("k8s", "gpu_resource_name"), (("k8s", "gpu_resource"),)),
    (("k8s", "host_ipc"), (("k8s", "hostIPC"),)),
    (("n_gpus",), (("gpus_per_node",), ("gpu_count",), ("num_gpus",), ("ngpus",), ("k8s", "gpu_count"))),
)
LAUNCHER_KEYS = frozenset(("type", "nnodes", "nproc_per_node", "master_port"))

# Refused when set (false and empty are fine), with what to do instead.
REFUSED: Dict[str, str] = {
    "tools": "profiling tools come in a later release",
    "data": "data providers come in a later release; mount what the model needs with docker_mounts",
    "shared_data": "data providers come in a later release; mount what the model needs with docker_mounts",
    "rocenv_mode": "the environment report comes in a later release",
    "gen_sys_env_details": "the environment report comes in a later release",
    "generate_sys_env_details": "the environment report comes in a later release",
    "mirrorlocal": "data providers come in a later release; mount what the model needs with docker_mounts",
    "vllm": "nothing reads it; set env_vars or distributed",
    "context": "write what stands in it (env_vars, docker_env_vars) at the top of the context",
    "cluster": "checks of the fabric come in a later release; write what NCCL needs into env_vars",
    "baremetal_vm": "virtual machines are not started for a run; make a host of the inventory of one",
    "require_pinned_image": "an image that we built is compared by its id before it runs; pin another one as NAME@sha256:... in MAD_CONTAINER_IMAGE",
    "deployment_config": "write what stands in it (slurm, k8s, distributed, env_vars) at the top of the context",
    "skip_perf_collection": "every run has its row; mad_perf_output says where a copy goes",
    "MAD_ROCM_PATH": "detection finds ROCm by itself; for the container set docker_env_vars.ROCM_PATH",
    "SHM_SIZE": "write --shm-size into the card's additional_docker_run_options",
}

# Whose values reach the model character by character.
VARIABLES = ("docker_env_vars", "env_vars")

# Left out with a warning: what they are for happens anyway.
NEEDLESS: Dict[Path, str] = {("slurm", "results_dir"): "results come home by themselves"}

# Below these, and at the top, a key that begins with _ is a comment (`_comment`, `_description`): it is left out.
WITH_COMMENTS = ("slurm", "k8s", "kubernetes", "distributed")
COMMENT = "_"

# Read by these targets only; elsewhere they are kept with a warning.
ONLY_FOR: Dict[str, Tuple[str, ...]] = {
    "debug": ("k8s",),
    "live_output": ("k8s",),
    "monitor": ("slurm", "k8s"),
    "cleanup_on_failure": ("k8s",),
}

# What they are where nobody says them: said so, they need no warning.
DEFAULTS: Dict[str, bool] = {"debug": False, "live_output": False, "monitor": True, "cleanup_on_failure": True}

# Words of build manifests and of other tools for what has another name here.
MEANT: Dict[str, str] = {
    "target": "deploy",
    "deployment": "deploy, and what stands in its config at the top",
    "nodes": "nnodes",
    "num_nodes": "nnodes",
    "image": "MAD_CONTAINER_IMAGE",
    "docker_image": "MAD_CONTAINER_IMAGE",
    "args": "model_args",
    "gpus": "n_gpus, or docker_gpus for which",
    "mounts": "docker_mounts",
}

# Compared with an unknown key for a near miss: every name that means something anywhere at the top.
TOP_NAMES = tuple(sorted(set(KEYS) | {path[0] for _one, others in SPELLINGS for path in others} | {"nnodes", "nproc_per_node", "launcher"}))
