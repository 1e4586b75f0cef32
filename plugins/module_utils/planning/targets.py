# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan knows of each target: whose facts decide, what a place says, what is refused by name. Here a target is switched on."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ..base.errors import InvalidInput
from ..slurm import slurm_runtimes
from . import target_k8s, target_slurm

Facts = Optional[Dict[str, Any]]
Context = Mapping[str, Any]

SUPPORTED_TARGETS = ("local", "slurm", "k8s")


class Target(NamedTuple):
    """One target.

    `adjust` may add to the context what follows from its own section. `facts` are what decides how runs are filled: of the host that
    answered, or what the context declares of the nodes behind it.
    """

    adjust: Callable[[Context], Dict[str, Any]]
    facts: Callable[[Context, Facts], Facts]
    place: Callable[[Context], Dict[str, Any]]  # of a run, beside `target` and `host`; it is part of the run's id
    several_nodes: bool  # whether one run may have more than one node
    runtime: Callable[[Context], str]  # what mad_runtime=auto means there; "" lets the facts decide
    more_runtimes: Tuple[str, ...]  # that only this target has
    check: Callable[[Context, Mapping[str, Any]], None]  # (context, options of the plan): InvalidInput names what does not work there


def _as_it_is(context: Context) -> Dict[str, Any]:
    return dict(context)


def _facts_decide(_context: Context) -> str:
    return ""


def _detected(_context: Context, facts: Facts) -> Facts:
    return facts


def _nothing_more(_context: Context) -> Dict[str, Any]:
    return {}


def _all_works(_context: Context, _options: Mapping[str, Any]) -> None:
    return None


TARGETS: Dict[str, Target] = {
    "local": Target(_as_it_is, _detected, _nothing_more, False, _facts_decide, (), _all_works),
    "k8s": Target(_as_it_is, target_k8s.facts, target_k8s.place, True, target_k8s.runtime, (), target_k8s.check),
    "slurm": Target(target_slurm.adjust, target_slurm.facts, target_slurm.place, True, target_slurm.runtime, slurm_runtimes.SANDBOXES, target_slurm.check),
}


def name_of(context: Context) -> str:
    """The target that a context asks for."""
    return str(context.get("deploy") or "local")


def of(context: Context) -> Target:
    """The target of a context; one that is not known here plans like a local one until it is refused."""
    return TARGETS.get(name_of(context), TARGETS["local"])


def login_node(context: Context) -> str:
    """The host on which a host's work is done, "" for itself."""
    return str((context.get("slurm") or {}).get("login_node") or "") if name_of(context) == "slurm" else ""


def supported(host: str, context: Context) -> str:
    """The name of a host's target; InvalidInput for one that is not switched on."""
    name = name_of(context)
    if name not in SUPPORTED_TARGETS:
        known = ", ".join(SUPPORTED_TARGETS)
        raise InvalidInput("host %s: target %s is not supported by this release; supported: %s" % (host, name, known))
    return name


def check(host: str, context: Context, options: Mapping[str, Any]) -> None:
    """InvalidInput for a target that is not switched on, and for what the host's target cannot do."""
    name = supported(host, context)
    try:
        TARGETS[name].check(context, options)
    except InvalidInput as error:
        raise InvalidInput("host %s: %s" % (host, error.message)) from error
