# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis for a person: which hosts are bad and what speaks against each, one line a host, then the counts."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.mad.engine.plugins.plugin_utils import table

from . import fleet, superbench
from .compare_table import MOST_ROWS, aligned, title

_COLUMNS = ("host", "verdict", "model", "metric", "value", "class", "off by", "runs")


def render(entries: t.Sequence[t.Mapping[str, t.Any]], source: str) -> list[str]:
    """Lines of at most 80 columns where that is possible."""
    lines = ["", *table.wrap("hosts of %s, each against those of its class" % table.printable(source), "  "), ""]
    bad = [entry for entry in entries if entry["bad"]]
    if bad:
        lines += aligned(_COLUMNS, [_cells(entry) for entry in bad[:MOST_ROWS]])
        if len(bad) > MOST_ROWS:
            lines.append("... and %d more" % (len(bad) - MOST_ROWS))
        lines += ["", *_classes(bad)]
    lines += _unjudged(entries)
    return [*lines, counts_line(entries)]


def counts_line(entries: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """`1000 hosts: 3 slow, 1 failing, 990 healthy, 6 unjudged`."""
    counts = collections.Counter(entry["verdict"] for entry in entries)
    parts = ["%d %s" % (counts[name], name) for name in (*fleet.BAD, superbench.KIND, fleet.HEALTHY, fleet.UNJUDGED) if counts[name]]
    return "%d host%s: %s" % (len(entries), "" if len(entries) == 1 else "s", ", ".join(parts) or "nothing to judge")


def reason(entry: t.Mapping[str, t.Any]) -> str:
    """One line for a drain or an inventory: what speaks against this host."""
    told = [_told(one) for one in entry["evidence"][:3]]
    more = "; and %d more" % (len(entry["evidence"]) - 3) if len(entry["evidence"]) > 3 else ""
    return table.printable("mad.engine: %s: %s%s" % (entry["verdict"], "; ".join(told), more))


def _told(one: t.Mapping[str, t.Any]) -> str:
    name = title(one)
    if one["kind"] == fleet.FAILING:
        return "%s failed %d of %d times, most of %d hosts succeed" % (name, one["runs"], one["runs"], one["hosts"])
    if one["kind"] == fleet.UNSTEADY:
        return "%s %s scatters by %.1f%% more than on %d hosts" % (name, one["metric"], 100 * one["deviation"], one["hosts"])
    if one["deviation"] is None:  # a rule about what is not there, or about other rules
        return "rule %s (%s) is violated" % (one["rule"], one["category"])
    return "%s %s %s against %d hosts" % (name, one["metric"], table.signed(1.0 + one["deviation"]), one["hosts"])


def _cells(entry: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The strongest thing that speaks against a host."""
    one = entry["evidence"][0]
    numbers = {
        name: "" if one[key] is None else table.shown_number("%.5g" % one[key]) for name, key in (("value", "value"), ("class", "usual"))
    }
    return {
        "host": table.printable(entry["host"]),
        "verdict": entry["verdict"],
        "model": title(one),
        "metric": table.printable(one["metric"]),
        **numbers,
        "off by": "all fail" if one["kind"] == fleet.FAILING else "" if one["deviation"] is None else table.signed(1.0 + one["deviation"]),
        "runs": str(one["runs"]),
    }


def _classes(bad: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """How the bad hosts spread over the classes: a class that is bad as a whole is another story."""
    counts = collections.Counter(table.printable(entry["hardware"]) or "unknown hardware" for entry in bad)
    return ["  %d of %s" % (count, name) for name, count in counts.most_common(10)] + [""]


def _unjudged(entries: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    names = [table.printable(entry["host"]) for entry in entries if entry["verdict"] == fleet.UNJUDGED]
    if not names:
        return []
    more = ", and %d more" % (len(names) - 8) if len(names) > 8 else ""
    reason = next(entry["reason"] for entry in entries if entry["verdict"] == fleet.UNJUDGED)
    return [*table.wrap("Not judged (%s): %s%s" % (reason, ", ".join(names[:8]), more), "  "), ""]
