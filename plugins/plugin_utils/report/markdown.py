# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign as Markdown for a comment on a pull request: counts, what changed, a line for each model, what failed and why."""

from __future__ import annotations

import re
import statistics
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.mad.engine.plugins.plugin_utils.table import printable, shown_number, signed

from . import entries as known
from .entries import Entry, Runs
from .judgement import VERDICTS, judgement
from .series import interval

LIMIT = 60000  # characters; the usual services take 65,536
_MOST_LINES = 200
_MOST_REASONS = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&@:-])")
_MARKS = {"SUCCESS": "✅", "FAILURE": "❌", "SKIPPED": "➖", known.PENDING: "⏳"}


def text(raw: str, limit: int = 300) -> str:
    """Text as Markdown shows it literally: no markup, no link, no mention of a person, on one line."""
    flat = printable(raw)
    flat = flat if len(flat) <= limit else flat[: limit - 3] + "..."
    return _SPECIAL.sub(lambda match: "&#%d;" % ord(match.group(1)), flat)


def render(campaigns: Sequence[Runs], judged: Optional[Mapping[str, Any]] = None) -> str:
    """The comment, at most LIMIT characters: whole lines are left out from its end, and their number is said."""
    told = judged or judgement(campaigns)
    judged_lines = [part for one in told["comparisons"] for part in _comparison(one)]
    judged_lines += [part for one in told["diagnoses"] for part in _diagnosis(one)]
    parts = [part for place, runs in enumerate(campaigns) for part in _campaign(runs, [] if place else judged_lines)]
    kept: List[str] = []
    size = 0
    for number, part in enumerate(parts):
        size += len(part) + 1
        if size > LIMIT:
            left = len(parts) - number
            return "\n".join([*kept, "", "... %d more lines: see report.html of the campaign" % left]) + "\n"
        kept.append(part)
    return "\n".join(kept) + "\n"


def _campaign(runs: Runs, before: Sequence[str]) -> List[str]:
    """Counts, what was judged `before` the numbers, models, failures."""
    counts = known.counts(runs.entries)
    told = ", ".join("%s %d %s" % (_MARKS[status], count, status.lower()) for status, count in reversed(counts.items()) if count)
    lines = [
        "### mad.engine: %s" % text(runs.campaign.name),
        "",
        "%d run%s: %s" % (len(runs.entries), "" if len(runs.entries) == 1 else "s", told or "none"),
        "",
    ]
    return [*lines, *before, *_models(runs.entries), *_failures(runs.entries)]


def _comparison(told: Mapping[str, Any]) -> List[str]:
    """Verdicts; those that say `same` are folded up."""
    lines = told["lines"]
    counts = ["%d %s" % (sum(line["verdict"] == name for line in lines), name) for name in VERDICTS]
    shown = ", ".join(count for count in counts if not count.startswith("0 ")) or "nothing to compare"
    found = ["#### Against %s" % text(told["baseline"]), "", shown, ""]
    loud, quiet = ([line for line in lines if (line["verdict"] == "same") is same] for same in (False, True))
    found += _verdicts(loud)
    if quiet:
        found += ["<details><summary>The same: %d</summary>" % len(quiet), "", *_verdicts(quiet), "</details>", ""]
    return found + ["> %s" % text(note) for note in told["notes"]] + [""] * bool(told["notes"])


def _verdicts(lines: Sequence[Mapping[str, Any]]) -> List[str]:
    if not lines:
        return []
    found = ["| verdict | model | metric | hardware | change | interval | why |", "|---|---|---|---|--:|--:|---|"]
    for line in lines[:_MOST_LINES]:
        interval = "%s to %s" % (signed(line["low"]), signed(line["high"])) if line["low"] is not None and line["high"] is not None else ""
        title = text(("%s %s" % (line["model"], line["args"])).strip())
        cells = (line["verdict"], title, text(line["metric"]), text(line["hardware"]), signed(line["effect"]), interval, text(line["reason"]))
        found.append("| %s |" % " | ".join(cells))
    if len(lines) > _MOST_LINES:
        found.extend(["", "... and %d more" % (len(lines) - _MOST_LINES)])
    return [*found, ""]


def _diagnosis(told: Mapping[str, Any]) -> List[str]:
    """The hosts that are off, with the strongest thing that speaks against each."""
    counts = ", ".join("%d %s" % (count, text(name)) for name, count in told["counts"].items())
    found = ["#### Hosts against those of their class", "", counts or "nothing to judge", ""]
    for host in told["hosts"][:_MOST_LINES]:
        one = next(iter(host["evidence"]), {"kind": host["verdict"], "model": "", "metric": "", "deviation": None})
        off = "" if one["deviation"] is None or one["kind"] == "failing" else " " + signed(1.0 + one["deviation"])
        found.append("- **%s**: %s: %s %s%s" % (text(host["host"]), text(one["kind"]), text(one["model"]), text(one["metric"]), off))
    return [*found, ""]


def _models(found: Sequence[Entry]) -> List[str]:
    groups: Dict[Tuple[str, str, str], List[float]] = {}
    failed: Dict[str, int] = {}
    for entry in found:
        if entry.status == "FAILURE":
            failed[str(entry.record["model"])] = failed.get(str(entry.record["model"]), 0) + 1
        for result in entry.results if entry.status == "SUCCESS" else ():
            if result.value is not None:
                groups.setdefault((result.model, result.unit, entry.hardware), []).append(result.value)
    if not groups:
        return []
    lines = ["| model | hardware | mean | 95 % interval | metric | runs |", "|---|---|--:|--:|---|--:|"]
    for (model, unit, hardware), values in sorted(groups.items())[:_MOST_LINES]:
        low, high = interval(values)
        bounds = "%s to %s" % (shown_number(repr(low)), shown_number(repr(high))) if low is not None else ""
        cells = (text(model), text(hardware), shown_number(repr(statistics.fmean(values))), bounds, text(unit), str(len(values)))
        lines.append("| %s |" % " | ".join(cells))
    if len(groups) > _MOST_LINES:
        lines.extend(["", "... and %d more" % (len(groups) - _MOST_LINES)])
    return [*lines, ""]


def _failures(found: Sequence[Entry]) -> List[str]:
    groups: Dict[Tuple[str, str], List[Entry]] = {}
    for entry in found:
        if entry.status in ("FAILURE", "SKIPPED"):
            groups.setdefault((entry.failure_class or "skipped", str(entry.record["reason"])), []).append(entry)
    if not groups:
        return []
    lines = ["<details><summary>Not successful: %d</summary>" % sum(map(len, groups.values())), ""]
    for (name, reason), members in sorted(groups.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]:
        places = ", ".join("%s on %s" % (text(str(entry.record["model"]), 100), text(entry.host, 100)) for entry in members[:3])
        more = " and %d more" % (len(members) - 3) if len(members) > 3 else ""
        lines.append("- **%s**: %s (%s%s)" % (text(name), text(reason), places, more))
    if len(groups) > _MOST_REASONS:
        lines.append("- ... and %d more reasons" % (len(groups) - _MOST_REASONS))
    return [*lines, "", "</details>", ""]
