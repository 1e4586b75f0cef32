# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many GPUs a run gets, and out of which: the card's wish, the context's limits, the host's devices."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ..base import scalars
from ..base.errors import InvalidInput, MadError
from ..facts.gpu import expand_indexes
from .unresolved import is_unresolved, unresolved

NO_GPU = "NONE"


def requested(card: Mapping[str, Any], context: Mapping[str, Any]) -> int:
    """GPUs asked for: the context's number, else the card's; -1 means all."""
    if "n_gpus" in context:
        return int(context["n_gpus"])
    return scalars.to_int(card.get("n_gpus", "1"), "model %s: n_gpus" % card.get("name"), -1, "a number of GPUs, or -1 for all")


def wish(card: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Any]:
    """The `gpus` of a run as far as no host is needed to say it."""
    wanted = requested(card, context)
    vendor: Any = context.get("gpu_vendor") or unresolved("known when the host answers")
    pool: Any = unresolved("known when the host answers")
    if vendor == NO_GPU:
        pool = []
    elif context.get("docker_gpus"):
        pool = expand_indexes(context["docker_gpus"], "docker_gpus")
    nodes = {str(index): "/dev/dri/renderD%d" % node for index, node in enumerate(context.get("gpu_renderDs", []))}
    result = {
        "vendor": vendor,
        "count": unresolved("n_gpus %d: known with the host's GPUs" % wanted, requested=wanted),
        "pool": pool,
        "devices": nodes or unresolved("known when the host answers"),
    }
    return result if is_unresolved(pool) else dict(result, **_counted(result, None))


def _has(indexes: Optional[List[int]]) -> str:
    return "" if indexes is None else "; the host has %s" % (",".join(map(str, indexes)) or "none")


def _too_many(wanted: int, pool: List[int], present: List[int]) -> str:
    text = "Too many gpus requested(%d). System has %d gpus." % (wanted, len(present))
    if pool == present:
        return text
    return text + " docker_gpus in mad_context allows %d: %s" % (len(pool), ",".join(map(str, pool)))


def _counted(gpus: Mapping[str, Any], present: Optional[List[int]]) -> Dict[str, Any]:
    """count and pool for a known pool; `present` are the host's indexes, None when the host is not known."""
    wanted, pool = int(gpus["count"]["requested"]), list(gpus["pool"])
    if not pool and gpus["vendor"] == NO_GPU and wanted in (-1, 0, 1):
        return {"count": 0, "pool": []}  # a card without n_gpus says 1: on a host without GPUs that is no GPU
    if wanted == -1 and not pool:
        raise MadError("All GPUs requested (n_gpus -1), and none was found", "placement")
    if wanted > len(pool):
        raise MadError(_too_many(wanted, pool, pool if present is None else present), "placement")
    strange = [] if present is None else [index for index in pool if index not in present]
    if strange:
        raise MadError("docker_gpus names GPU %d%s" % (strange[0], _has(present)), "placement")
    return {"count": len(pool) if wanted == -1 else wanted, "pool": pool}


def settle(gpus: Mapping[str, Any], vendor: str, gpu: Mapping[str, Any]) -> Dict[str, Any]:
    """`gpus` with everything filled from the facts of a host (`gpu` is facts["gpu"]); MadError of class placement when it cannot be had."""
    if vendor == NO_GPU:
        return dict(dict(gpus, vendor=vendor, devices={}), **_settled_count(dict(gpus, vendor=vendor, pool=[]), None))
    devices = list(gpu.get("devices") or [])
    present = [int(device["index"]) for device in devices]
    filled = dict(gpus, vendor=vendor)
    if is_unresolved(filled["pool"]):
        filled["pool"] = present
    if is_unresolved(filled["devices"]):
        filled["devices"] = {str(device["index"]): str(device.get("render_node") or "") for device in devices}
    problems = "; ".join(str(problem) for problem in gpu.get("problems") or [])
    try:
        return dict(filled, **_settled_count(filled, present))
    except MadError as error:
        raise MadError(error.message + (". Problems found there: %s" % problems if problems else ""), error.failure_class) from error


def _settled_count(gpus: Mapping[str, Any], present: Optional[List[int]]) -> Dict[str, Any]:
    count = gpus["count"]
    wanted = count if is_unresolved(count) else {"requested": count}
    return _counted(dict(gpus, count=wanted), present)


def check_cpus(context: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Refuse docker_cpus that the host does not have; unknown counts refuse nothing."""
    total = (facts.get("cpu") or {}).get("count")
    if not context or not isinstance(total, int) or total < 1:
        return
    beyond = [index for index in expand_indexes(context, "docker_cpus") if index >= total]
    if beyond:
        raise MadError("docker_cpus names CPU %d; the host has %d (0-%d)" % (beyond[0], total, total - 1), "placement")


def node_count_error(nnodes: int, model: str) -> InvalidInput:
    """Local runs are runs on one machine."""
    return InvalidInput(
        "model %s asks for %d nodes; target local is one machine. Set distributed.nnodes: 1 in mad_context to run it on one, "
        "or use slurm or k8s" % (model, nnodes),
        "placement",
    )
