# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A comparison for a person: what changed first, each with its interval, then why the rest is inconclusive, then the counts."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.mad.engine.plugins.plugin_utils import table

from . import verdict

_RIGHT = ("baseline", "candidate", "change", "runs", "off by", "value", "class")
_NARROWEST = (("model", 24), ("hardware", 16), ("model", 14), ("metric", 8), ("host", 12))
_GAP = "  "
MOST_ROWS = 200
_MOST_NAMES = 8


def render(entries: t.Sequence[t.Mapping[str, t.Any]], baseline: str, candidate: str) -> list[str]:
    """Lines of at most 80 columns where that is possible."""
    lines = ["", *table.wrap("%s against %s" % (table.printable(candidate), table.printable(baseline)), "  "), ""]
    columns = ["verdict", "model", "metric", "hardware", "baseline", "candidate", "change", "interval", "runs"]
    cells = [_cells(entry) for entry in entries[:MOST_ROWS]]
    if len({entry["hardware"] for entry in entries}) == 1:
        columns.remove("hardware")
    lines += aligned(columns, cells) if cells else []
    if len(entries) > MOST_ROWS:
        lines.append("... and %d more" % (len(entries) - MOST_ROWS))
    reasons = _reasons(entries)
    if reasons:
        lines += ["", "Why it is inconclusive:", *reasons]
    lines += ["", *_more_repeats(entries)]
    return [*lines, counts_line(entries)]


def aligned(columns: t.Sequence[str], cells: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    """A table with a head; wide columns give way down to where two entries would look the same."""
    sizes = {name: max(table.width(name), *(table.width(entry[name]) for entry in cells)) for name in columns}
    for name, smallest in _NARROWEST:
        surplus = sum(sizes.values()) + len(_GAP) * (len(columns) - 1) - table.WIDTH
        if name in sizes and surplus > 0:
            size = max(min(smallest, sizes[name]), sizes[name] - surplus, table.width(name))
            distinct = {entry[name] for entry in cells}
            if len({table.cut(text, size) for text in distinct}) == len(distinct):
                sizes[name] = size
    rows = [{name: name for name in columns}, {name: "-" * sizes[name] for name in columns}, *cells]
    return [
        _GAP.join(table.pad(table.cut(row[name], sizes[name]), sizes[name], name in _RIGHT) for name in columns).rstrip() for row in rows
    ]


def counts_line(entries: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """`12 comparisons: 1 regressed, 3 same, 8 inconclusive`."""
    counts = collections.Counter(entry["verdict"] for entry in entries)
    parts = [
        "%d %s" % (counts[name], name) for name in (verdict.REGRESSED, verdict.IMPROVED, verdict.SAME, verdict.INCONCLUSIVE) if counts[name]
    ]
    return "%d comparison%s: %s" % (len(entries), "" if len(entries) == 1 else "s", ", ".join(parts) or "nothing to compare")


def title(entry: t.Mapping[str, t.Any]) -> str:
    """Model with its arguments, as it is called in lines of text."""
    return table.printable("%s %s" % (entry["model"], entry["args"])).strip()


def _cells(entry: t.Mapping[str, t.Any]) -> dict[str, str]:
    interval = "%s .. %s" % (table.signed(entry["low"])[:-1], table.signed(entry["high"])) if entry["low"] is not None else ""
    return {
        "verdict": entry["verdict"],
        "model": title(entry),
        "metric": table.printable(entry["metric"]),
        "hardware": table.printable(entry["hardware"]),
        "baseline": _number(entry["baseline"].get("median")),
        "candidate": _number(entry["candidate"]["median"]),
        "change": table.signed(entry["effect"]),
        "interval": interval,
        "runs": "%s:%d" % (entry["baseline"].get("runs", ""), entry["candidate"]["runs"]),
    }


def _number(value: float | None) -> str:
    return "" if value is None else table.shown_number("%.6g" % value)


def _reasons(entries: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Each reason once, with those it concerns."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry["reason"]:
            found.setdefault(table.printable(entry["reason"]), []).append(title(entry))
    lines: list[str] = []
    for reason, names in found.items():
        more = ", and %d more" % (len(names) - _MOST_NAMES) if len(names) > _MOST_NAMES else ""
        lines += table.wrap(reason, "    ", "  ")
        lines += table.wrap(", ".join(names[:_MOST_NAMES]) + more, "      ", "      ")
    return lines


def _more_repeats(entries: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """How many runs would probably decide what is open."""
    wanted = [entry["repeats_needed"] for entry in entries if entry["repeats_needed"]]
    if not wanted:
        return []
    text = "%d of them would probably be decided with mad_repeats=%d; all need it on both sides" % (len(wanted), max(wanted))
    return [*table.wrap(text, "  "), ""]
