# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: what a target assumes below the user's context. Plain data, without any site's own names (partitions, storage, interfaces)."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ..base.merge import merge

Preset = Mapping[str, Any]

_K8S_DEFAULTS: Preset = {
    "gpu_vendor": "AMD",
    "guest_os": "UBUNTU",
    "debug": False,
    "k8s": {
        "namespace": "default",
        "image_pull_policy": "Always",
        "ttl_seconds_after_finished": None,
        "allow_privileged_profiling": None,
        "nfs_storage_class": None,
        "storage_class": None,
        "data_storage_class": None,
        "recreate_shared_data_pvc": False,
        "secrets": {"strategy": "from_local_credentials", "image_pull_secret_names": [], "runtime_secret_name": None},
    },
    "env_vars": {"OMP_NUM_THREADS": "8"},
}
_K8S_VENDORS: Mapping[str, Preset] = {
    "AMD": {"k8s": {"gpu_resource_name": "amd.com/gpu"}},
    "NVIDIA": {
        "k8s": {"gpu_resource_name": "nvidia.com/gpu"},
        "env_vars": {
            "NCCL_DEBUG": "INFO",
            "NCCL_IB_DISABLE": "1",
            "NCCL_P2P_DISABLE": "0",
            "NCCL_P2P_LEVEL": "NVL",
            "OMP_NUM_THREADS": "12",
        },
    },
}
_AMD_TUNING: Mapping[str, str] = {
    "TORCH_NCCL_HIGH_PRIORITY": "1",
    "GPU_MAX_HW_QUEUES": "2",
    "HSA_ENABLE_SDMA": "0",
    "HSA_FORCE_FINE_GRAIN_PCIE": "1",
    "RCCL_ENABLE_HIPGRAPH": "0",
}
_MIOPEN: Mapping[str, str] = {"MIOPEN_FIND_MODE": "1", "MIOPEN_USER_DB_PATH": "/tmp/.miopen"}
_SEVERAL_NODES: Mapping[str, str] = {"NCCL_DEBUG_SUBSYS": "INIT,NET", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "NCCL_TIMEOUT": "600"}
_K8S_AMD_MULTI_GPU: Preset = {"env_vars": {"NCCL_DEBUG": "WARN", "NCCL_IB_DISABLE": "1", **_AMD_TUNING, **_MIOPEN}}
_K8S_SINGLE_GPU: Preset = {"k8s": {"memory": "16Gi", "memory_limit": "32Gi", "cpu": "8", "cpu_limit": "16"}}
_K8S_MULTI_GPU: Preset = {
    "k8s": {"memory": "64Gi", "memory_limit": "128Gi", "cpu": "16", "cpu_limit": "32"},
    "distributed": {"enabled": True, "backend": "nccl", "launcher": "torchrun", "port": 29500},
}
_K8S_MULTI_NODE: Preset = merge(_K8S_MULTI_GPU, {"k8s": {"host_ipc": True}, "env_vars": _SEVERAL_NODES})

_SLURM_DEFAULTS: Preset = {
    # No `time`: the job's limit comes from the model's timeout and a margin for staging.
    "slurm": {"gpus_per_node": 8, "exclusive": True, "modules": []},
    "distributed": {"nnodes": 1, "backend": "nccl", "port": 29500},
    "env_vars": {"OMP_NUM_THREADS": "8", **_MIOPEN},
}
_SLURM_SINGLE_NODE: Preset = {"env_vars": {"NCCL_DEBUG": "WARN"}}
_SLURM_MULTI_NODE: Preset = {
    "env_vars": {"NCCL_DEBUG": "WARN", "NCCL_IB_DISABLE": "1", **_AMD_TUNING, **_SEVERAL_NODES},
}

# These lie below the model's card, which lies below the context: so they are no part of that.
_BELOW_THE_CARD = ("distributed", "env_vars")


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, (int, str)) and str(value).strip().isdigit() else default


def _k8s_layers(context: Mapping[str, Any]) -> List[Preset]:
    distributed = context.get("distributed", {})
    vendor = str(context.get("gpu_vendor", _K8S_DEFAULTS["gpu_vendor"]))
    several_nodes = _whole(distributed.get("nnodes"), 1) > 1
    several_gpus = _whole(context.get("n_gpus"), 1) > 1 or bool(distributed.get("enabled") or distributed.get("launcher"))
    layers = [_K8S_DEFAULTS, _K8S_VENDORS.get(vendor, {})]
    if not several_nodes and (vendor == "NONE" or context.get("n_gpus") == 0):
        return layers  # the profiles are about GPUs
    if vendor == "AMD" and (several_nodes or several_gpus):
        layers.append(_K8S_AMD_MULTI_GPU)
    layers.append(_K8S_MULTI_NODE if several_nodes else _K8S_MULTI_GPU if several_gpus else _K8S_SINGLE_GPU)
    return layers


def _slurm_layers(context: Mapping[str, Any]) -> List[Preset]:
    several = _whole(context.get("distributed", {}).get("nnodes"), 1) > 1
    return [_SLURM_DEFAULTS, _SLURM_MULTI_NODE if several else _SLURM_SINGLE_NODE]


def _layers(context: Mapping[str, Any]) -> List[Preset]:
    layers = {"k8s": _k8s_layers, "slurm": _slurm_layers}.get(str(context.get("deploy")))
    return layers(context) if layers else []


def apply_presets(context: Mapping[str, Any]) -> Dict[str, Any]:
    """A normalised context over the presets of its target, but for what lies below a model's card; the local target has none."""
    return merge(*({key: layer[key] for key in layer if key not in _BELOW_THE_CARD} for layer in _layers(context)), context)


def launch_defaults(context: Mapping[str, Any]) -> Dict[str, Any]:
    """`distributed` as the presets have it."""
    return dict(merge(*(layer.get("distributed", {}) for layer in _layers(context))))


def variable_defaults(context: Mapping[str, Any], nodes: int) -> Dict[str, str]:
    """`env_vars` as the presets have them for a run of so many nodes, which its card may have said."""
    layers = _layers(merge(context, {"distributed": {"nnodes": nodes}}))
    return dict(merge(*(layer.get("env_vars", {}) for layer in layers)))
