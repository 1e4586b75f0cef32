# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of a cluster as data: what the API server's Node objects say about GPUs, labels, taints and whether pods go there."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from .k8s_checks import amount

# What device plugins call a GPU, by vendor; a part of one (MIG, a shared one) counts as its own resource.
VENDORS = {"AMD": r"amd\.com/(gpu|.*partition.*)", "NVIDIA": r"nvidia\.com/(gpu(\.shared)?|mig-.*)", "INTEL": r"gpu\.intel\.com/(i915|xe)"}
# Labels that name the product, as the vendors' labellers write them, the best first.
PRODUCTS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "beta.amd.com/gpu.product-name",
    "amd.com/gpu.family",
    "gpu.intel.com/product",
)
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


class Node(NamedTuple):
    """One node."""

    name: str
    ready: bool
    schedulable: bool  # not cordoned
    problems: Tuple[str, ...]  # why it is not ready, and what it lacks
    gpus: int  # that pods can get
    gpus_present: int  # that the node has; more than `gpus` when some are broken
    gpu_vendor: str  # AMD, NVIDIA, INTEL, NONE
    gpu_resource: str
    gpu_product: str
    cpus: float
    memory_bytes: int
    labels: Mapping[str, str]
    taints: Tuple[str, ...]  # key=value:effect
    addresses: Mapping[str, str]  # {InternalIP: ...}
    kernel: str
    kubelet: str
    os_image: str
    runtime: str
    architecture: str

    def usable(self) -> bool:
        """Whether the scheduler would put a pod here that tolerates its taints."""
        return self.ready and self.schedulable


def nodes(items: Sequence[Mapping[str, Any]]) -> List[Node]:
    """Nodes out of the items of a NodeList, by name. What an item does not say is empty, 0 or false."""
    return sorted((_node(item) for item in items), key=lambda node: node.name)


def _node(item: Mapping[str, Any]) -> Node:
    metadata, spec, status = (_dict(item, key) for key in ("metadata", "spec", "status"))
    allocatable, capacity, info = (_dict(status, key) for key in ("allocatable", "capacity", "nodeInfo"))
    labels = {str(name): str(value) for name, value in _dict(metadata, "labels").items()}
    vendor, resource = _gpu(capacity, allocatable)
    ready, problems = _conditions(status.get("conditions") or [])
    return Node(
        name=str(metadata.get("name") or ""),
        ready=ready,
        schedulable=not spec.get("unschedulable"),
        problems=problems,
        gpus=_whole(allocatable.get(resource)),
        gpus_present=_whole(capacity.get(resource)),
        gpu_vendor=vendor,
        gpu_resource=resource,
        gpu_product=next((labels[name] for name in PRODUCTS if labels.get(name)), ""),
        cpus=amount(str(allocatable.get("cpu") or "0")),
        memory_bytes=int(amount(str(allocatable.get("memory") or "0"))),
        labels=labels,
        taints=tuple(_taint(taint) for taint in spec.get("taints") or []),
        addresses={str(entry.get("type")): str(entry.get("address")) for entry in status.get("addresses") or []},
        kernel=str(info.get("kernelVersion") or ""),
        kubelet=str(info.get("kubeletVersion") or ""),
        os_image=str(info.get("osImage") or ""),
        runtime=str(info.get("containerRuntimeVersion") or ""),
        architecture=str(info.get("architecture") or ""),
    )


def _dict(item: Mapping[str, Any], key: str) -> Dict[str, Any]:
    value = item.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _whole(value: Any) -> int:
    return int(amount(str(value or "0")))


def _gpu(capacity: Mapping[str, Any], allocatable: Mapping[str, Any]) -> Tuple[str, str]:
    """(vendor, resource) of the GPUs: the resource that most of them are given out as."""
    found = [
        (_whole(allocatable.get(name)), _whole(capacity.get(name)), vendor, name)
        for name in sorted(set(capacity) | set(allocatable))
        for vendor, pattern in VENDORS.items()
        if re.match(pattern + r"\Z", name)
    ]
    dummy, dummy2, vendor, name = max(found, default=(0, 0, "NONE", ""))
    return vendor, name


def _conditions(conditions: Sequence[Mapping[str, Any]]) -> Tuple[bool, Tuple[str, ...]]:
    """(ready, problems)."""
    ready, problems = False, []
    for condition in conditions:
        kind, true = condition.get("type"), condition.get("status") == "True"
        if kind == "Ready":
            ready = true
        if (kind == "Ready" and not true) or (kind in _PRESSURES and true):
            words = str(condition.get("message") or condition.get("reason") or kind)
            problems.append("%s: %s" % (kind, " ".join(words.split())))
    return ready, tuple(problems)


def _taint(taint: Mapping[str, Any]) -> str:
    value = "=%s" % taint["value"] if taint.get("value") else ""
    return "%s%s:%s" % (taint.get("key"), value, taint.get("effect"))
