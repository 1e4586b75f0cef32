# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play asks of perf_compare: its words checked and turned into one comparison, the answer with table and judgement."""

from __future__ import annotations

import collections
import re
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import table

from . import compare as comparing
from . import compare_table, kept, references, relative, sequential, sources, verdict
from .libraries import need
from .observations import Source

MISSING = "missing"
FAIL_ON = (verdict.REGRESSED, verdict.INCONCLUSIVE, MISSING)
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*\Z")
_DIRECTIONS = ("higher", "lower")


class Answer(t.NamedTuple):
    """What comes back; `message` says what `fail_on` names was found, "" when nothing was."""

    entries: list[dict[str, t.Any]]
    counts: dict[str, int]
    lines: list[str]
    warnings: list[str]
    baseline: str
    candidate: str
    changed: bool
    message: str
    further: t.Sequence[dict[str, t.Any]] = ()  # what its campaign still has to run, with mad_repeats_max


def compare(given: t.Mapping[str, t.Any], write: bool) -> Answer:
    """Read both sides, compare, judge; with `write` the candidate's folder gets the verdicts and its relative_change."""
    need()
    rules = rules_of(given)
    fail_on = _fail_on(given.get("fail_on"))
    place = sources.Place(given.get("results") or "results", given.get("database_url") or "")
    names = scalars.to_list(given.get("baseline"), "mad_baseline")
    candidate = sources.candidate(place, scalars.to_list(given.get("candidate"), "mad_candidate"), names)
    declared = references.load(given.get("references"), candidate.rows)
    if not names and not declared:
        raise InvalidInput(
            "mad_baseline is not set: name a campaign, a folder, a perf.csv, or last (the newest other campaign), last:5 (the newest five); "
            "or declare values in mad_references or in the cards"
        )
    entries: list[dict[str, t.Any]] = []
    warnings = [] if names else list(candidate.warnings)
    base = Source("declared values", [], [])
    if names:
        base = sources.baseline(place, names, candidate)
        entries, warnings = comparing.compare(base, candidate, rules)
    checked = references.check(declared, candidate, rules)
    if declared and not checked and (given.get("references") or not entries):  # cards may well be about other hardware
        about = scalars.named(list(dict.fromkeys("%s %s" % (one.model, one.metric) for one in declared)))
        warnings = [*warnings, "none of the declared values is about a result of %s; they are about %s" % (candidate.name, about)]
    entries = [*checked, *entries]
    counts = collections.Counter(entry["verdict"] for entry in entries)
    lines = compare_table.render(entries, base.name, candidate.name)
    told = {name: counts[name] for name in verdict.VERDICTS}
    answer = Answer(entries, told, lines, warnings, base.name, candidate.name, False, message(entries, fail_on))
    if rules.repeats_max and len(candidate.folders) == 1:
        answer = answer._replace(further=sequential.further(Campaign(candidate.folders[0]).plan(), entries, rules.repeats_max))
    if not given.get("relative_change", True):
        return answer
    changed, unwritten = relative.fill(candidate, base if names else None, kept.comparison(answer, rules.margin), write)
    return answer._replace(changed=changed, warnings=warnings + unwritten)


def rules_of(given: t.Mapping[str, t.Any]) -> comparing.Rules:
    """The rules out of the words of a play."""
    most = given.get("repeats_max")
    return comparing.Rules(
        margin=part(given.get("same_within"), comparing.Rules().margin),
        repeats_max=0 if scalars.is_unset(most) else scalars.to_int(most, "mad_repeats_max", 4),
        better=directions(given.get("better")),
    )


def message(entries: t.Sequence[t.Mapping[str, t.Any]], fail_on: t.Sequence[str]) -> str:
    """What was found that must not be."""
    found = [entry for entry in entries if entry["verdict"] in fail_on or (MISSING in fail_on and entry["missing"] == "candidate")]
    if not found:
        return ""
    names = ", ".join("%s %s" % (compare_table.title(entry), table.signed(entry["effect"])) for entry in found[:5])
    return "mad_fail_on=%s: %d of %d comparisons: %s%s" % (
        ",".join(fail_on), len(found), len(entries), names.replace(" ,", ",").strip(), " and more" if len(found) > 5 else "",
    )  # fmt: skip


def _fail_on(value: t.Any) -> list[str]:
    words = [word.lower() for word in scalars.to_list(value, "mad_fail_on")]
    for word in words:
        if word not in FAIL_ON:
            raise scalars.wrong("mad_fail_on", "some of %s" % ", ".join(FAIL_ON), word)
    return words


def part(value: t.Any, default: float) -> float:
    """0.02 or 2%."""
    if scalars.is_unset(value):
        return default
    match = _PERCENT.match(str(value))
    number = float(match.group(1)) / (100.0 if match.group(2) else 1.0) if match else -1.0
    if not 0 <= number < 0.5:
        raise scalars.wrong("mad_same_within", "a part below 0.5, such as 0.02 or 2%", value)
    return number


def directions(value: t.Any) -> dict[str, str]:
    """mad_better: higher or lower by metric."""
    if scalars.is_unset(value):
        return {}
    told = scalars.text_dict(value, "mad_better")
    for metric, word in told.items():
        if word not in _DIRECTIONS:
            raise scalars.wrong("mad_better.%s" % metric, "higher or lower", word)
    return told
