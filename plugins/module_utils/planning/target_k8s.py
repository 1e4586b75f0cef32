# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's side of target k8s: what the context declares of a cluster's nodes, which nobody can look at before a pod runs on them."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..base.errors import InvalidInput
from ..k8s import k8s_options
from . import target_nodes
from .plan_gpu import NO_GPU

MOST_GPUS = 64  # of one node; which number a node really has, its scheduler knows
# Of the context: the cluster decides these.
_CLUSTER_CHOOSES = {
    "docker_gpus": "the device plugin chooses the GPUs; say how many with n_gpus",
    "docker_cpus": "the kubelet chooses the CPUs; say how many with k8s.cpu",
    "gpu_renderDs": "a pod finds the render nodes of the GPUs that it was given",
}


def options(context: Mapping[str, Any]) -> k8s_options.Options:
    """The section `k8s` of a context, checked."""
    return k8s_options.parse(context)


def facts(context: Mapping[str, Any], _detected: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """What is known of the nodes: vendor and number of GPUs, and that containers run there."""
    vendor = str(context.get("gpu_vendor") or NO_GPU)
    most = options(context).node_gpus or max(MOST_GPUS, int(context.get("n_gpus") or 0))
    return target_nodes.facts(context, vendor, 0 if vendor == NO_GPU else most)


def runtime(_context: Mapping[str, Any]) -> str:
    """Containers, by whatever runtime the nodes have."""
    return "docker"


def place(context: Mapping[str, Any]) -> Dict[str, Any]:
    """Namespace and node selector: the same model on other nodes is another run."""
    section = options(context)
    found: Dict[str, Any] = {"namespace": section.namespace}
    if section.node_selector:
        found["selector"] = dict(section.node_selector)
    return found


def check(context: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """InvalidInput for what does not work on a cluster, and for what must be said because nothing can be detected."""
    section = options(context)  # says what is wrong in it
    if context.get("n_gpus") == -1 and not section.node_gpus and context.get("gpu_vendor") != NO_GPU:
        raise InvalidInput("n_gpus is -1 (all), and a pod asks for a number of GPUs: set k8s.node_gpus, how many a node has, or a number in n_gpus")
    for key, why in _CLUSTER_CHOOSES.items():
        if context.get(key):
            raise InvalidInput("%s cannot be set for target k8s: %s" % (key, why))
    if settings.get("runtime") in ("host", "podman"):
        raise InvalidInput("mad_runtime %s cannot be set for target k8s: its nodes run containers; leave it out" % settings["runtime"])
    if not context.get("gpu_vendor"):
        raise InvalidInput("target k8s needs gpu_vendor in mad_context (AMD, NVIDIA, INTEL or NONE): the API does not show it")
