# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes out of Node objects, also half empty ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_nodes

FIXTURE = Path(__file__).resolve().parents[5] / "tests" / "fixtures" / "k8s" / "nodes.json"


def recorded() -> Dict[str, k8s_nodes.Node]:
    return {node.name: node for node in k8s_nodes.nodes(json.loads(FIXTURE.read_text("utf-8"))["items"])}


def test_gpus_labels_and_taints() -> None:
    node = recorded()["gpu-1"]
    assert (node.gpus, node.gpus_present, node.gpu_vendor, node.gpu_resource) == (8, 8, "AMD", "amd.com/gpu")
    assert node.gpu_product == "AMD_Instinct_MI300X_OAM" and node.taints == ("amd.com/gpu=present:NoSchedule",)
    assert node.usable() and node.addresses["InternalIP"] == "10.0.0.11" and node.memory_bytes == 2113500412 * 1024
    assert (node.kernel, node.kubelet, node.architecture) == ("5.15.0-119-generic", "v1.36.2", "amd64")


def test_a_broken_gpu_and_a_cordoned_node() -> None:
    node = recorded()["gpu-2"]
    assert (node.gpus, node.gpus_present, node.gpu_vendor) == (7, 8, "NVIDIA") and node.cpus == 127.5
    assert node.ready and not node.schedulable and not node.usable() and node.problems == ("DiskPressure: kubelet has disk pressure",)
    assert node.taints == ("node.kubernetes.io/unschedulable:NoSchedule",)


def test_a_lost_node_and_an_empty_one() -> None:
    found = recorded()
    assert not found["cpu-1"].ready and found["cpu-1"].problems == ("Ready: Kubelet stopped posting node status.",)
    assert (found["cpu-1"].gpus, found["cpu-1"].gpu_vendor) == (0, "NONE")
    assert not found["bare"].ready and found["bare"].labels == {} and list(found) == sorted(found)


@pytest.mark.parametrize(
    "resource,vendor", [("nvidia.com/mig-1g.10gb", "NVIDIA"), ("nvidia.com/gpu.shared", "NVIDIA"), ("gpu.intel.com/xe", "INTEL")]
)
def test_parts_of_gpus(resource: str, vendor: str) -> None:
    item = {
        "metadata": {"name": "n"},
        "status": {"capacity": {resource: "14", "nvidia.com/gpu": "0"}, "allocatable": {resource: "14", "nvidia.com/gpu": "0"}},
    }
    (node,) = k8s_nodes.nodes([item])
    assert (node.gpus, node.gpu_vendor, node.gpu_resource) == (14, vendor, resource)


@given(
    st.dictionaries(
        st.sampled_from(["metadata", "spec", "status"]), st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
    )
)
def test_anything_is_a_node(item: Dict[str, Any]) -> None:
    assert len(k8s_nodes.nodes([item])) == 1
