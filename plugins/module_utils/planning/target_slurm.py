# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's side of target slurm: what the context declares of nodes that nobody can look at before a job runs on them."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ..base.errors import InvalidInput
from ..slurm import slurm_options, slurm_time
from . import target_nodes
from .plan_gpu import NO_GPU

CARD_KEYS = ("nodes", "time")  # of a card's own section, read where the context says nothing
# Of the context: Slurm decides these on the node.
_SLURM_CHOOSES = {
    "docker_gpus": "Slurm chooses the GPUs; say how many with slurm.gpus_per_node",
    "docker_cpus": "Slurm chooses the CPUs; say how many with slurm.cpus_per_task",
    "gpu_renderDs": "a job finds the render nodes of the GPUs that Slurm gave it",
}


def options(context: Mapping[str, Any]) -> slurm_options.Options:
    """The section `slurm` of a context, checked."""
    return slurm_options.parse(context.get("slurm") or {})


def card_nodes(card: Mapping[str, Any]) -> Dict[str, Any]:
    """What a card says of its nodes in its own section, as a layer of a context. InvalidInput for a section that cannot be read."""
    section = card.get("slurm") or {}
    if section.get("time") is not None:
        slurm_time.parse(section["time"], "model %s: slurm.time" % card["name"])
    return {"slurm": {"nodes": section["nodes"]}} if section.get("nodes") else {}


def card_seconds(card: Mapping[str, Any]) -> int:
    """The limit in a card's own section; 0 where it has none that can be read."""
    try:
        return int(slurm_time.parse((card.get("slurm") or {}).get("time") or 0, "slurm.time"))
    except InvalidInput:
        return 0


def card_notes(card: Mapping[str, Any], context: Mapping[str, Any]) -> List[str]:
    """What stands in a card's own section and has no effect: sites and people choose it, for all models of a host."""
    section, own = card.get("slurm") or {}, context.get("slurm") or {}
    unread = [key for key in sorted(section) if key not in CARD_KEYS and not key.startswith("_") and section[key] != own.get(key)]
    return ["model %s: slurm.%s of the card has no effect; write it into mad_context of the host" % (card["name"], key) for key in unread]


def adjust(context: Mapping[str, Any]) -> Dict[str, Any]:
    """The context with the section's number of GPUs where none is set at the top: on a cluster it counts above a card's n_gpus."""
    count = 0 if context.get("gpu_vendor") == NO_GPU else options(context).gpus_per_node
    return dict({"n_gpus": count}, **context)


def facts(context: Mapping[str, Any], _detected: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """What is known of the nodes: vendor and number of GPUs, and that the runtime is there. A login node's own facts say nothing about them."""
    vendor = str(context.get("gpu_vendor") or NO_GPU)
    count = 0 if vendor == NO_GPU else max(options(context).gpus_per_node, int(context.get("n_gpus") or 0), 0)
    return target_nodes.facts(context, vendor, count)


def runtime(context: Mapping[str, Any]) -> str:
    """What mad_runtime=auto means on the nodes."""
    return options(context).runtime or "docker"


def place(context: Mapping[str, Any]) -> Dict[str, Any]:
    """Partition and nodes, where the context names them: the same model elsewhere is another run."""
    section = options(context)
    return {name: getattr(section, name) for name in ("partition", "nodelist", "constraint") if getattr(section, name)}


def check(context: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """InvalidInput for what does not work on Slurm, and for what must be said because nothing can be detected."""
    options(context)
    for key, why in _SLURM_CHOOSES.items():
        if context.get(key):
            raise InvalidInput("%s cannot be set for target slurm: %s" % (key, why))
    if settings.get("keep_alive"):
        raise InvalidInput("mad_keep_alive is not supported for target slurm: a job ends with its model; mad_keep_model_dir keeps its files")
    if not context.get("gpu_vendor"):
        raise InvalidInput("target slurm needs gpu_vendor in mad_context (AMD, NVIDIA, INTEL or NONE): a login node does not show its nodes' GPUs")
