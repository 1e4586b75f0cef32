# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Presets: the values of the reference, below the user's, without any site's own names."""

from __future__ import annotations

import json

import pytest

from ansible_collections.mad.engine.plugins.module_utils.contexts import context, presets


def preset(layer: dict) -> dict:
    return presets.apply_presets(context.normalise([layer])["context"])


def test_local_has_none() -> None:
    assert preset({"gpu_vendor": "AMD"}) == {"deploy": "local", "gpu_vendor": "AMD"}


def test_k8s_single_gpu() -> None:
    result = preset({"k8s": {"gpu_count": 1}})
    assert result["gpu_vendor"] == "AMD" and result["guest_os"] == "UBUNTU"
    wanted = {"memory": "16Gi", "memory_limit": "32Gi", "cpu": "8", "cpu_limit": "16", "gpu_resource_name": "amd.com/gpu"}
    assert wanted.items() <= result["k8s"].items() and result["n_gpus"] == 1 and "backoff_limit" not in result["k8s"]
    assert presets.variable_defaults(result, 1) == {"OMP_NUM_THREADS": "8"} and not {"env_vars", "distributed"} & set(result)
    assert "kubeconfig" not in result["k8s"], "KUBECONFIG and the service account of a pod count where nothing is said"


def test_k8s_nvidia_multi_gpu() -> None:
    result = preset({"k8s": {"gpu_count": 8}, "gpu_vendor": "NVIDIA"})
    assert result["k8s"]["gpu_resource_name"] == "nvidia.com/gpu" and result["k8s"]["memory"] == "64Gi"
    variables = presets.variable_defaults(result, 1)
    assert variables["NCCL_P2P_LEVEL"] == "NVL" and variables["OMP_NUM_THREADS"] == "12"
    assert "distributed" not in result, "a card's own stands above it"
    defaults = presets.launch_defaults(result)
    assert defaults["launcher"] == "torchrun" and defaults["port"] == 29500


def test_k8s_without_gpus_asks_for_nothing() -> None:
    for layer in ({"k8s": {}, "gpu_vendor": "none"}, {"k8s": {"gpu_count": 0}}):
        assert not {"memory", "cpu", "memory_limit", "cpu_limit"} & set(preset(layer)["k8s"])


def test_k8s_multi_node() -> None:
    result = preset({"k8s": {}, "distributed": {"nnodes": 2}})
    variables = presets.variable_defaults(result, 2)
    assert result["k8s"]["host_ipc"] is True and variables["NCCL_TIMEOUT"] == "600" and variables["GPU_MAX_HW_QUEUES"] == "2"


def test_slurm() -> None:
    assert preset({"slurm": {}})["slurm"] == {"gpus_per_node": 8, "exclusive": True, "modules": []}
    several = preset({"slurm": {"nodes": 2}})
    assert "time" not in several["slurm"] and several["distributed"]["nnodes"] == 2
    assert presets.variable_defaults(several, 2)["NCCL_DEBUG_SUBSYS"] == "INIT,NET" and "partition" not in several["slurm"]
    assert "NCCL_DEBUG_SUBSYS" in presets.variable_defaults(preset({"slurm": {}}), 2), "a card may ask for several nodes"
    assert presets.variable_defaults(preset({}), 1) == {}


def test_the_user_s_values_win() -> None:
    result = preset({"slurm": {"time_limit": 60, "gpus_per_node": 4}, "env_vars": {"OMP_NUM_THREADS": 1}, "nnodes": 1})
    assert result["slurm"]["time"] == 60 and result["slurm"]["gpus_per_node"] == 4 and result["env_vars"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    "layer",
    [{"k8s": {"gpu_count": 8}}, {"k8s": {}, "nnodes": 2}, {"k8s": {}, "gpu_vendor": "NVIDIA"}, {"slurm": {}}, {"slurm": {"nodes": 2}}],
)
def test_no_site_s_private_names(layer: dict) -> None:
    text = json.dumps(preset(layer))
    for word in ("banff", 'rccl"', "amd-rccl", "eth0", "NCCL_SOCKET_IFNAME", "gfx90a"):
        assert word not in text
    assert context.normalise([preset(layer)])["context"] == preset(layer), "presets are written in the normal form"
