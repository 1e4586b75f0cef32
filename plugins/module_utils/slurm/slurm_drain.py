# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking nodes out of a cluster with a reason, and giving back exactly those: what somebody else took out is never touched.

Our mark is how the reason begins. A node that is out already keeps its own reason; one whose reason somebody has rewritten since is theirs.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..base.errors import InvalidInput, MadError
from .slurm_client import Slurm
from .slurm_nodes import NODES, Node, nodes

MARK = "mad.engine:"
LONGEST_REASON = 300
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\Z")


class Change(NamedTuple):
    """What is to be done, and why nothing is done to the others: {node: reason}."""

    wanted: Dict[str, str]
    left: Dict[str, str]


def known(slurm: Slurm) -> Dict[str, Node]:
    """{name: node} of the cluster."""
    answer = slurm.call(*NODES)
    if answer.code:
        raise MadError("the nodes cannot be listed: scontrol: %s" % answer.words())
    return {node.name: node for node in nodes(answer.output)}


def to_drain(cluster: Mapping[str, Node], wanted: Mapping[str, str]) -> Change:
    """Which of {name: reason} are still in."""
    change = Change({}, {})
    for name, node in _named(cluster, wanted):
        if "drain" in node.flags or node.state in ("drained", "draining"):
            change.left[name] = "is out already: %s" % (node.reason or "no reason is given")
        else:
            change.wanted[name] = _reason(wanted[name])
    return change


def to_resume(cluster: Mapping[str, Node], names: Sequence[str]) -> Change:
    """Which of these were taken out by us."""
    change = Change({}, {})
    for name, node in _named(cluster, dict.fromkeys(names, "")):
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
    for name, reason in change.wanted.items():
        together.setdefault(reason, []).append(name)
    for reason, names in together.items():
        _update(slurm, names, "State=DRAIN", "Reason=" + reason)


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


def _named(cluster: Mapping[str, Node], wanted: Mapping[str, str]) -> List[Tuple[str, Node]]:
    """The nodes meant; a name that the cluster does not know is refused before anything is done."""
    unknown = [name for name in wanted if not _NAME.match(name) or name not in cluster]
    if unknown:
        raise InvalidInput(
            "this cluster has no node %s; it has %s" % (", ".join(map(repr, unknown[:5])), ", ".join(sorted(cluster)[:8]) or "none")
        )
    return [(name, cluster[name]) for name in wanted]


def _reason(text: str) -> str:
    """One line that begins with our mark; Slurm shows quotes and commas badly."""
    line = re.sub(r"[^ -~]", "?", " ".join(text.split())).replace('"', "'")
    return (line if line.startswith(MARK) else "%s %s" % (MARK, line or "quarantined"))[:LONGEST_REASON]
