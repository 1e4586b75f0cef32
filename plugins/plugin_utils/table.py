# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of results as plain text: aligned, within 80 columns where it can, safe to print on any terminal."""

from __future__ import annotations

import unicodedata
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number

WIDTH = 80
MAX_ROWS = 200
MAX_FAILURES = 40
MAX_NAMES = 6
MAX_REASON = 400
_HEAD = ("model", "host", "status", "performance", "metric", "time")
_RIGHT = ("performance", "time")
# Which columns give way when the table is too wide, and how narrow each may become.
_SHRINK = (("model", 24), ("host", 12), ("model", 14), ("metric", 12), ("performance", 12), ("host", 6))
_GAP = "  "


def printable(text: str) -> str:
    """The text on one line without anything that moves a cursor, changes a colour or the direction of writing."""
    flat = " ".join(text.split())
    if flat.isascii() and flat.isprintable():
        return flat
    return "".join("\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else character for character in flat)


def width(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, limit: int) -> str:
    """The text in at most `limit` columns; what goes is its middle, since names differ at their ends."""
    if width(text) <= limit:
        return text
    keep = max(0, limit - 2)
    head = _take(text, (keep + 1) // 2)
    return head + ".." + _take(text[::-1], keep - width(head))[::-1] if limit >= 2 else _take(text, limit)


def _take(text: str, limit: int) -> str:
    taken, used = "", 0
    for character in text:
        used += _columns(character)
        if used > limit:
            break
        taken += character
    return taken


def pad(text: str, size: int, right: bool = False) -> str:
    blanks = " " * max(0, size - width(text))
    return blanks + text if right else text + blanks


def shown_number(text: str) -> str:
    """A performance for people: thousands apart, as many digits as mean something; text that is no number as it is."""
    value = number(text)
    if value is None:
        return text
    if value == int(value) and abs(value) < 1e15:
        return format(int(value), ",d")
    return format(value, ",.0f") if 1e5 <= abs(value) < 1e15 else format(value, ",.5g")


def shown_seconds(text: str) -> str:
    """A duration for people: 0.4 s, 12 s, 3m05s, 2h07m."""
    value = number(text)
    if value is None:
        return ""
    if value < 60:
        return "%.1f s" % value if value < 9.95 else "%.0f s" % value
    minutes, seconds = divmod(round(value), 60)
    return "%dm%02ds" % (minutes, seconds) if minutes < 60 else "%dh%02dm" % divmod(minutes, 60)


def render(rows: Sequence[Mapping[str, str]]) -> List[str]:
    """Lines of the table: failures first when there are more rows than fit, each row once."""
    if not rows:
        return ["no rows"]
    chosen, left = _chosen(rows)
    cells = [_cells(row) for row in chosen]
    _drop_domain(cells)
    columns = [name for name in _HEAD if name in ("model", "host", "status") or any(entry[name] for entry in cells)]
    if len({entry["host"] for entry in cells}) == 1 and sum(_widths(columns, cells).values()) + len(_GAP) * (len(columns) - 1) > WIDTH:
        columns.remove("host")  # it says nothing, and the others need the room
    sizes = _sizes(columns, cells)
    head, rule = {name: name for name in columns}, {name: "-" * sizes[name] for name in columns}
    lines = [_line(columns, sizes, entry) for entry in (head, rule, *cells)]
    if left:
        lines.append("... and %d more rows in perf.csv" % left)
    return lines


def _chosen(rows: Sequence[Mapping[str, str]]) -> Tuple[List[Mapping[str, str]], int]:
    if len(rows) <= MAX_ROWS:
        return list(rows), 0
    urgent = sorted(range(len(rows)), key=lambda place: (rows[place]["status"] == "SUCCESS", place))[:MAX_ROWS]
    return [rows[place] for place in sorted(urgent)], len(rows) - MAX_ROWS


def _cells(row: Mapping[str, str]) -> Dict[str, str]:
    repeat = row.get("repeat", "1")
    return {
        "model": printable(row["model"]) + (" #" + repeat if repeat not in ("", "1") else ""),
        "host": printable(row["host"]),
        "status": row["status"],
        "performance": printable(shown_number(row["performance"])),
        "metric": printable(row["metric"]),
        "time": shown_seconds(row["run_duration"]),
    }


def _drop_domain(cells: Sequence[Dict[str, str]]) -> None:
    """Hosts of one domain go by their first label."""
    domains = {entry["host"].partition(".")[2] for entry in cells}
    if len(domains) == 1 and any(character.isalpha() for character in domains.pop()):  # an address has no domain
        for entry in cells:
            entry["host"] = entry["host"].partition(".")[0]


def _sizes(columns: Sequence[str], cells: Sequence[Mapping[str, str]]) -> Dict[str, int]:
    """Column widths; too wide a table gives way step by step, but never so far that two names look the same."""
    sizes = _widths(columns, cells)
    for name, smallest in _SHRINK:
        surplus = sum(sizes.values()) + len(_GAP) * (len(columns) - 1) - WIDTH
        if surplus > 0 and name in sizes:
            size = max(min(smallest, sizes[name]), sizes[name] - surplus, width(name))
            distinct = {entry[name] for entry in cells}
            if len({cut(text, size) for text in distinct}) == len(distinct):
                sizes[name] = size
    return sizes


def _widths(columns: Sequence[str], cells: Sequence[Mapping[str, str]]) -> Dict[str, int]:
    return {name: max(width(name), *(width(entry[name]) for entry in cells)) for name in columns}


def _line(columns: Sequence[str], sizes: Mapping[str, int], entry: Mapping[str, str]) -> str:
    return _GAP.join(pad(cut(entry[name], sizes[name]), sizes[name], name in _RIGHT) for name in columns).rstrip()


def failures(rows: Sequence[Mapping[str, str]], log_of: Callable[[Mapping[str, str]], str] = lambda row: "") -> List[str]:
    """Lines that say what failed or was skipped and why: each reason once, with the runs it befell and the log of one of them.

    `log_of` gives the path of a row's log, "" where there is none.
    """
    groups: Dict[str, List[str]] = {}
    logs: Dict[str, str] = {}
    for row in rows:
        if row["status"] != "SUCCESS":
            reason = "%s: %s" % (row["failure_class"] or row["status"], printable(row["reason"])[:MAX_REASON])
            groups.setdefault(reason, []).append("%s on %s" % (printable(row["model"]), printable(row["host"])))
            logs[reason] = logs.get(reason) or log_of(row)
    lines: List[str] = []
    for reason, members in list(groups.items())[:MAX_FAILURES]:
        lines.extend(wrap(reason, "    "))
        more = ", and %d more" % (len(members) - MAX_NAMES) if len(members) > MAX_NAMES else ""
        lines.extend(wrap(", ".join(members[:MAX_NAMES]) + more, "    ", "  "))
        lines.extend(["  log: " + logs[reason]] if logs[reason] else [])
    if len(groups) > MAX_FAILURES:
        lines.append("... and %d more reasons in perf.csv" % (len(groups) - MAX_FAILURES))
    return lines


def wrap(text: str, indent: str, first: str = "") -> List[str]:
    """Lines of at most WIDTH columns, the first one behind `first`, the others indented. A word that is too long stays whole."""
    lines: List[str] = []
    line = first
    for word in text.split():
        longer = line + " " + word if line.strip() else line + word
        if line.strip() and width(longer) > WIDTH:
            lines.append(line)
            longer = indent + word
        line = longer
    return [*lines, line]


def counts_line(counts: Mapping[str, Any], classes: Mapping[str, int]) -> str:
    """`12 runs: 9 SUCCESS, 3 FAILURE (2 crash, 1 timeout)`."""
    parts = ["%d %s" % (counts[key], key.upper()) for key in ("success", "failure", "skipped") if counts[key] or key == "success"]
    if counts["failure"]:
        kinds = ", ".join("%d %s" % (number_of, name) for name, number_of in sorted(classes.items()))
        parts = [part + " (%s)" % kinds if part.endswith("FAILURE") else part for part in parts]
    if counts["pending"]:
        parts.append("%d still on their way, without a row yet" % counts["pending"])
    return "%d run%s: %s" % (counts["planned"], "" if counts["planned"] == 1 else "s", ", ".join(parts))


def signed(ratio: Optional[float]) -> str:
    """0.97 as `-3.0%`."""
    if ratio is None:
        return ""
    change = 100.0 * (ratio - 1.0)
    return ("%+.0f%%" if abs(change) >= 99.5 else "%+.1f%%" if abs(change) >= 0.95 else "%+.2f%%") % change
