# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What taking nodes out of a cluster means for every scheduler: which change is wanted, which node is left alone and why, and our mark in the reason."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Tuple, TypeVar

from . import scalars
from .errors import InvalidInput

MARK = "mad.engine:"
LONGEST_REASON = 300
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}\Z")
Node = TypeVar("Node")


class Change(NamedTuple):
    """What is to be done, and why nothing is done to the others: {node: reason}."""

    wanted: Dict[str, str]
    left: Dict[str, str]


def named(cluster: Mapping[str, Node], wanted: Iterable[str]) -> List[Tuple[str, Node]]:
    """The nodes meant; a name that the cluster does not know is refused before anything is done."""
    names = list(wanted)
    unknown = [name for name in names if not _NAME.match(name) or name not in cluster]
    if unknown:
        raise InvalidInput(
            "this cluster has no node %s; it has %s" % (", ".join(map(repr, unknown[:5])), ", ".join(sorted(cluster)[:8]) or "none")
        )
    return [(name, cluster[name]) for name in names]


def asked(value: Any) -> Dict[str, str]:
    """{node: reason} out of a dictionary, or out of names."""
    return scalars.text_dict(value, "nodes") if isinstance(value, dict) else dict.fromkeys(scalars.to_list(value, "nodes"), "")


def reason(text: str) -> str:
    """One line that begins with our mark; schedulers show quotes and other letters badly."""
    line = re.sub(r"[^ -~]", "?", " ".join(text.split())).replace('"', "'")
    return (line if line.startswith(MARK) else "%s %s" % (MARK, line or "quarantined"))[:LONGEST_REASON]


def answer(change: Change, out: bool, header: str) -> Dict[str, Any]:
    """What a module says of a change: nodes go `out`, or come back."""
    lines = "".join("%s: %s\n" % item for item in sorted(change.wanted.items()))
    diff = {"before": "" if out else lines, "after": lines if out else "", "before_header": header, "after_header": header}
    return {"changed": bool(change.wanted), "nodes": sorted(change.wanted), "left": change.left, "diff": diff}
