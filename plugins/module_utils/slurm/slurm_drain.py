# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking nodes out of a cluster with a reason, and giving back exactly those: what somebody else took out is never touched.

Our mark is how the reason begins. A node that is out already keeps its own reason; one whose reason somebody has rewritten since is theirs.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence

from ..base.drains import MARK, Change, named, reason
from ..base.errors import MadError
from .slurm_client import Slurm
from .slurm_nodes import NODES, Node, nodes


def known(slurm: Slurm) -> Dict[str, Node]:
    """{name: node} of the cluster."""
    answer = slurm.call(*NODES)
    if answer.code:
        raise MadError("the nodes cannot be listed: scontrol: %s" % answer.words())
    return {node.name: node for node in nodes(answer.output)}


def to_drain(cluster: Mapping[str, Node], wanted: Mapping[str, str]) -> Change:
    """Which of {name: reason} are still in."""
    change = Change({}, {})
    for name, node in named(cluster, wanted):
        if "drain" in node.flags or node.state in ("drained", "draining"):
            change.left[name] = "is out already: %s" % (node.reason or "no reason is given")
        else:
            change.wanted[name] = reason(wanted[name])
    return change


def to_resume(cluster: Mapping[str, Node], names: Sequence[str]) -> Change:
    """Which of these were taken out by us."""
    change = Change({}, {})
    for name, node in named(cluster, dict.fromkeys(names, "")):
        if not ("drain" in node.flags or node.state in ("drained", "draining")):
            change.left[name] = "is not out"
        elif not node.reason.startswith(MARK):
            change.left[name] = "was taken out by somebody else: %s" % (node.reason or "no reason is given")
        else:
            change.wanted[name] = node.reason
    return change


def drain(slurm: Slurm, change: Change) -> None:
    """Do it; nodes that share a reason in one call."""
    together: Dict[str, List[str]] = {}
    for name, why in change.wanted.items():
        together.setdefault(why, []).append(name)
    for why, names in together.items():
        _update(slurm, names, "State=DRAIN", "Reason=" + why)


def resume(slurm: Slurm, change: Change) -> None:
    """Give them back to the scheduler."""
    if change.wanted:
        _update(slurm, sorted(change.wanted), "State=RESUME")


def _update(slurm: Slurm, names: Sequence[str], *words: str) -> None:
    answer = slurm.call("scontrol", "update", "NodeName=" + ",".join(names), *words)
    if answer.code:
        raise MadError(
            "scontrol update of %s: %s; it takes an operator or administrator of the cluster" % (",".join(names), answer.words())
        )
