# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two rows, and nothing else: what was asked for, where it ran, with what, and how it ended."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number
from ansible_collections.mad.engine.plugins.module_utils.results.record import is_moment

from ..table import cut, pad, printable, width
from .past import Past

# What is different for every run there is, and explains nothing.
_IGNORED = (
    *("schema", "campaign", "run_id", "order", "log_excerpt*", "files.*", "host.seconds", "host.free_bytes", "host.engines.*.free_bytes"),
    *("target.container", "target.container_id", "run.id", "run.campaign", "run.order", "run.wanted", "run.attempt", "run.content.*"),
    *(
        "run.card*",
        "run.place*",
        "run.args",
        "run.repeat",
        "run.launcher*",
        "run.image*",
        "run.gpus*",
        "run.cpus",
        "run.outcome*",
        "run.model",
    ),
    *("row.campaign", "row.run_id", "row.result"),
)
SECTIONS = (
    ("asked for", ("model", "card", "args", "repeat", "launcher", "content", "context", "run")),
    ("where", ("place", "host", "gpus", "cpus", "target")),
    ("with what", ("image", "git_commit", "repo_commit", "repo_diff", "dirty", "version", "data", "pipeline", "build_number", "row")),
    ("how it ended", ()),  # everything else
)
_MOMENTS = tuple("timings." + name for name in ("started", "finished"))
_WIDEST = 44


class Difference(NamedTuple):
    """One thing that is not the same."""

    section: str
    what: str
    baseline: Any  # None: absent
    candidate: Any
    change: float | None  # relative, of numbers


def explain(baseline: Past, candidate: Past) -> list[Difference]:
    """All differences, in the order of SECTIONS."""
    if baseline.record and candidate.record:
        sides = [dict(_flat(_document(past))) for past in (baseline, candidate)]
    else:  # one of them is known by its row of perf.csv only
        sides = [{"row." + name: text for name, text in past.cells.items() if text} for past in (baseline, candidate)]
    names = [name for name in dict.fromkeys([*sides[0], *sides[1]]) if not any(fnmatch.fnmatchcase(name, mask) for mask in _IGNORED)]
    found = [_difference(name, sides[0].get(name), sides[1].get(name)) for name in names if sides[0].get(name) != sides[1].get(name)]
    order = [section for section, _parts in SECTIONS]
    return sorted(found, key=lambda difference: (order.index(difference.section), difference.what))


def _document(past: Past) -> dict[str, Any]:
    """The record with the settings of its plan; metrics by name."""
    host = (past.plan.get("hosts") or {}).get(past.record["place"].get("host", "")) or {}
    metrics = {" ".join(part for part in (entry["row"], entry["name"]) if part): entry for entry in past.record["metrics"]}
    own = {name: {key: entry[key] for key in ("text", "unit", "better", "extra") if key in entry} for name, entry in metrics.items()}
    return {**past.record, "metrics": own, "context": host.get("context") or {}, "run": past.run}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is no object; lists of plain values stay whole."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, "%s.%s" % (path, key) if path else str(key))
    elif isinstance(value, list) and any(isinstance(entry, (Mapping, list)) for entry in value):
        for index, entry in enumerate(value):
            yield from _flat(entry, "%s.%d" % (path, index))
    elif value not in ("", None, []):
        yield path, value


def _difference(name: str, old: Any, new: Any) -> Difference:
    first = name.partition(".")[0]
    section = next((section for section, parts in SECTIONS if first in parts), SECTIONS[-1][0])
    before, after = _number(old), _number(new)
    change = (after - before) / abs(before) if before and after is not None else None
    return Difference(section, name, old, new, change)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    return float(value) if isinstance(value, (int, float)) else number(value) if isinstance(value, str) else None


# -- for a person ----------------------------------------------------------------------------------------------------------------


def lines(baseline: Past, candidate: Past, found: list[Difference]) -> list[str]:
    """A table of the differences."""
    if not found:
        return ["%s and %s do not differ in anything that was recorded" % (baseline.name, candidate.name)]
    table = [("", "baseline " + baseline.name, "candidate " + candidate.name)]
    table += [(one.what, _shown(one.what, one.baseline), _shown(one.what, one.candidate) + _percent(one)) for one in found]
    widths = [max(width(line[place]) for line in table) for place in (0, 1)]
    shown = ["  ".join([pad(line[0], widths[0]), pad(line[1], widths[1]), line[2]]).rstrip() for line in table]
    answer = ["  " + shown[0]]
    section = ""
    for difference, line in zip(found, shown[1:], strict=True):
        if difference.section != section:
            section = difference.section
            answer.append(section)
        answer.append("  " + line)
    return answer


def _shown(what: str, value: Any) -> str:
    if what in _MOMENTS and is_moment(value):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return cut(printable(text), _WIDEST)


def _percent(difference: Difference) -> str:
    measured = difference.what.startswith(("metrics.", "timings.", "row.performance")) and difference.what not in _MOMENTS
    return " (%+.1f %%)" % (100 * difference.change) if measured and difference.change is not None else ""


def plain(found: list[Difference]) -> list[dict[str, Any]]:
    """For `mad_output`."""
    return [difference._asdict() for difference in found]
