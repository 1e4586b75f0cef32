# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flight plan as a person reads it: which run where, with what, and what of it is already done."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ..base.quoting import quote_argv
from .unresolved import is_unresolved

_HEAD = ("state", "runs", "model", "hosts", "runtime", "image", "GPUs", "limit", "command")
_SHOWN_HOSTS = 3
_WIDEST = {"model": 60, "hosts": 60, "image": 80, "command": 100}

Row = Tuple[str, ...]


def printable(text: str) -> str:
    """Text that does nothing to a terminal and stays on its line."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _cut(text: str, column: str) -> str:
    limit = _WIDEST.get(column, 40)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _state(run: Mapping[str, Any], record: Any) -> str:
    if not run.get("wanted", True):
        if record:
            return ("done: %s %s" % (record["status"], record.get("failure_class", ""))).strip()
        return "not in this play"
    outcome = run.get("outcome")
    if outcome:
        return ("will not run: %s %s" % (outcome["status"], outcome["failure_class"])).strip()
    return "run" if run["attempt"] == 1 else "run, attempt %d" % run["attempt"]


def _image(run: Mapping[str, Any]) -> str:
    image = run.get("image")
    if not image:
        return "-"
    if is_unresolved(image):
        return "?"
    return str(image["name"]) + (" (given)" if image.get("given") else "")


def ranges(indexes: Sequence[int]) -> str:
    """0,2-4 for [0, 2, 3, 4]."""
    parts: List[List[int]] = []
    for index in indexes:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join("%d-%d" % (part[0], part[-1]) if len(part) > 1 else str(part[0]) for part in parts)


def _gpus(run: Mapping[str, Any]) -> str:
    gpus = run["gpus"]
    count, pool = gpus["count"], gpus["pool"]
    if is_unresolved(count):
        return "all" if count.get("requested") == -1 else str(count.get("requested", "?"))
    if not count:
        return "none"
    return str(count) if is_unresolved(pool) or len(pool) == count else "%d of %s" % (count, ranges(pool))


def _row(run: Mapping[str, Any], record: Any) -> Row:
    """Everything of a line but the number of runs and the hosts."""
    runtime = "?" if is_unresolved(run["runtime"]) else str(run["runtime"])
    limit = "%d s" % run["timeout"] if run["timeout"] else "none"
    command = quote_argv(run["command"]["argv"])
    return (_state(run, record), str(run["model"]), runtime, _image(run), _gpus(run), limit, command)


def _hosts(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    if len(distinct) <= _SHOWN_HOSTS:
        return ", ".join(distinct)
    return "%s ... %s (%d hosts)" % (distinct[0], distinct[-1], len(distinct))


def _groups(runs: Iterable[Mapping[str, Any]], done: Mapping[str, Any]) -> List[Tuple[Row, List[Mapping[str, Any]]]]:
    """Runs that differ in nothing but host and repeat, together."""
    groups: Dict[Row, List[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_row(run, done.get(run["id"])), []).append(run)
    return list(groups.items())


def _table(rows: Sequence[Row]) -> List[str]:
    cells = [tuple(_cut(printable(cell), column) for cell, column in zip(row, _HEAD)) for row in [_HEAD, *rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def _notes(runs: Iterable[Mapping[str, Any]]) -> List[str]:
    """Why runs will not run, each reason once."""
    reasons: Dict[str, Dict[str, None]] = {}
    for run in runs:
        if run.get("outcome") and run.get("wanted", True):
            reasons.setdefault(str(run["outcome"]["reason"]), {})["%s on %s" % (run["model"], run["place"]["host"])] = None
    notes = []
    for reason, found in reasons.items():
        places = list(found)
        shown = ", ".join(places[:3]) + (" and %d more" % (len(places) - 3) if len(places) > 3 else "")
        notes.append("%s: %s" % (printable(shown), printable(reason[:1000])))
    return notes


def _plural(count: int, word: str) -> str:
    return "%d %s%s" % (count, word, "" if count == 1 else "s")


def _summary(plan: Mapping[str, Any]) -> str:
    runs = plan["runs"]
    hosts = len({run["place"]["host"] for run in runs})
    execute = sum(1 for run in runs if run.get("wanted", True) and not run.get("outcome"))
    refused = sum(1 for run in runs if run.get("wanted", True) and run.get("outcome"))
    rest = [(refused, "that will not run"), (len(runs) - execute - refused, "done or not in this play")]
    counts = ["%d to run" % execute, *("%d %s" % part for part in rest if part[0])]
    return "campaign %s: %s on %s, %s" % (plan["campaign"], _plural(len(runs), "run"), _plural(hosts, "host"), ", ".join(counts))


def _builds(plan: Mapping[str, Any]) -> List[str]:
    lines = []
    for build in plan["builds"]:
        where = " on %s" % build["build_host"] if build.get("build_host") else ""
        lines.append("  %s%s from %s" % (printable(build["image"]), printable(where), printable(build["dockerfile"])))
    return ["", "images to build where their content is not there yet:", *lines] if lines else []


def flight_plan(plan: Mapping[str, Any], done: Mapping[str, Any], only_done: bool = False) -> str:
    """The plan as a table; hosts and repeats that differ in nothing else share a line.

    `done` are the rows of the campaign by run id. `only_done` shows nothing but runs that are final: the picture before the play.
    """
    runs = [run for run in plan["runs"] if not only_done or (run["id"] in done and not run.get("wanted", True))]
    rows = []
    for (state, *rest), members in _groups(runs, done):
        places = _hosts([str(run["place"]["host"]) for run in members])
        rows.append((state, str(len(members)), rest[0], places, *rest[1:]))
    if only_done:
        return "\n".join(_table(rows)) + "\n" if rows else ""
    lines = [_summary(plan), "", *_table(rows), *_builds(plan)]
    notes = _notes(runs)
    warnings = [printable(str(warning)) for warning in plan.get("warnings", [])]
    lines += ["", "why runs will not run:", *("  " + note for note in notes)] if notes else []
    lines += ["", "warnings:", *("  " + warning for warning in warnings)] if warnings else []
    return "\n".join(lines) + "\n"
