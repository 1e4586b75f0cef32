# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing two sides: group what is comparable, estimate, correct for the number of comparisons, decide."""

from __future__ import annotations

import math
import typing as t

from . import effect as effects
from . import sequential, verdict
from .effect import Effect, Sides
from .libraries import need, np
from .observations import Key, Observation, Source, coarsened

if t.TYPE_CHECKING:
    from .ranks import Floats

LEAST_CAMPAIGNS = 3  # of a baseline, before their own spread is taken for what it is
MOST_NEEDED = 100  # a number of repeats above this is not worth naming


class Rules(t.NamedTuple):
    """How to decide."""

    margin: float = 0.02
    alpha: float = 0.05
    repeats_max: int = 0  # 0: one look
    better: t.Mapping[str, str] = {}  # metric -> higher or lower, where neither card nor unit says it


class Group(t.NamedTuple):
    """What is comparable, of both sides."""

    key: Key
    baseline: list[Observation]
    candidate: list[Observation]


class Compared(t.NamedTuple):
    """A group with what was measured of it."""

    group: Group
    strata: list[Sides]
    effect: Effect | None  # None: there is nothing to estimate, `reason` says why
    reason: str
    looks: int
    runs: int  # of the candidate and each host, that counted
    pooled: bool  # no host ran both sides


def compare(baseline: Source, candidate: Source, rules: Rules) -> tuple[list[dict[str, t.Any]], list[str]]:
    """(one entry for each group, warnings), sorted: regressed first, then by model."""
    need()
    warnings = [*baseline.warnings, *candidate.warnings]
    if not (baseline.exact() and candidate.exact()) and (baseline.exact() or candidate.exact() or baseline.rows[0].coarse):
        baseline, candidate = (side._replace(rows=coarsened(side.rows)) for side in (baseline, candidate))
        warnings.append("not every row names its hardware: machines are told apart by number and architecture of GPUs only")
    measured = [_measured(group, rules) for group in groups(baseline.rows, candidate.rows)]
    p_values = [min(1.0, one.effect.p * one.looks) for one in measured if one.effect]
    corrected = iter(verdict.adjusted(p_values))
    entries = [_entry(one, next(corrected) if one.effect else None, rules) for one in measured]
    return sorted(entries, key=_rank), warnings


def groups(baseline: t.Iterable[Observation], candidate: t.Iterable[Observation]) -> list[Group]:
    """Everything that at least one side has, in the order in which it first came.

    A run that failed before it had a metric counts in every group of its model and arguments: it is a number that is missing there.
    """
    found: dict[Key, Group] = {}
    nameless: list[tuple[int, Observation]] = []
    related: dict[tuple[str, str], set[Key]] = {}
    for place, rows in enumerate((baseline, candidate), 1):
        for row in rows:
            if row.key.metric:
                _members(found, row.key, place).append(row)
                related.setdefault((row.base, row.key.args), set()).add(row.key)
            else:
                nameless.append((place, row))
    for place, row in nameless:
        keys = related.get((row.base, row.key.args), set())
        same = [key for key in keys if not row.key.hardware or key.hardware == row.key.hardware]
        for key in same or [row.key]:
            _members(found, key, place).append(row)
    return list(found.values())


def _members(found: dict[Key, Group], key: Key, place: int) -> list[Observation]:
    return t.cast("list[Observation]", found.setdefault(key, Group(key, [], []))[place])


def _measured(group: Group, rules: Rules) -> Compared:
    """The effect, or why there is none."""
    sides = {name: numbers(rows) for name, rows in (("baseline", group.baseline), ("candidate", group.candidate))}
    for name, rows in (("baseline", group.baseline), ("candidate", group.candidate)):
        if not sides[name]:
            return Compared(group, [], None, _absent(name, rows), 1, 0, False)
    if any(row.value is not None and row.value <= 0 for side in sides.values() for row in side):
        return Compared(group, [], None, "a ratio needs numbers above 0", 1, 0, False)
    pairs, pooled = _paired(sides["baseline"], sides["candidate"])
    plan = sequential.looks(rules.repeats_max) if rules.repeats_max else []
    runs = min(len(mine) for dummy, mine in pairs)
    counting = sequential.reached(plan, runs) if plan else 0
    if plan and not counting:
        return Compared(group, [], None, "the first look is at %d runs" % plan[0], len(plan), runs, pooled)
    if plan:
        pairs = [(theirs, mine[:counting]) for theirs, mine in pairs]
    strata = [Sides(logs(theirs), logs(mine)) for theirs, mine in pairs]
    level = rules.alpha / max(1, len(plan))
    found = _between_campaigns(effects.estimate(strata, level), pairs, level)
    return Compared(group, strata, found, "", max(1, len(plan)), counting or runs, pooled)


def numbers(rows: t.Iterable[Observation]) -> list[Observation]:
    """The rows that carry a number."""
    return [row for row in rows if row.value is not None]


def logs(rows: t.Sequence[Observation]) -> Floats:
    """Logarithms of their numbers."""
    values: Floats = np.log(np.array([row.value for row in rows], dtype=float))
    return values


def _absent(side: str, rows: t.Sequence[Observation]) -> str:
    """Why a side has no number."""
    if not rows:
        return "the %s has no such run" % side
    kinds = ", ".join(sorted({row.failure_class or row.status or "no number" for row in rows}))
    return "no run of the %s has a number (%d: %s)" % (side, len(rows), kinds)


def _paired(baseline: list[Observation], candidate: list[Observation]) -> tuple[list[tuple[list[Observation], list[Observation]]], bool]:
    """Both sides' runs of each host that ran both; of all hosts together where no host did."""
    by_host: dict[str, tuple[list[Observation], list[Observation]]] = {}
    for place, rows in enumerate((baseline, candidate)):
        for row in rows:
            by_host.setdefault(row.host, ([], []))[place].append(row)
    shared = [pair for pair in by_host.values() if pair[0] and pair[1]]
    return (shared, False) if shared else ([(baseline, candidate)], True)


def _between_campaigns(effect: Effect, pairs: t.Sequence[tuple[list[Observation], list[Observation]]], level: float) -> Effect:
    """With a baseline of several campaigns, what differs between them counts as noise."""
    names = list(dict.fromkeys(row.campaign for theirs, dummy in pairs for row in theirs))
    if len(names) < LEAST_CAMPAIGNS:
        return effect
    centres = [float(np.median(logs(theirs))) for theirs, dummy in pairs]
    locations = []
    for name in names:
        own = [
            (logs([row for row in theirs if row.campaign == name]), centre) for (theirs, dummy), centre in zip(pairs, centres, strict=True)
        ]
        locations.append(float(np.mean([np.median(values) - centre for values, centre in own if len(values)])))
    mine = float(np.mean([np.median(logs(mine)) - centre for (dummy, mine), centre in zip(pairs, centres, strict=True)]))
    return effects.widened(effect, np.array(locations), mine, level)


def better_of(group: Group, declared: t.Mapping[str, str]) -> str:
    """The direction: what the caller declares, else the card, else the unit; "" where they are silent or disagree."""
    if group.key.metric in declared:
        return declared[group.key.metric]
    told = {row.better for row in (*group.baseline, *group.candidate)} - {""}
    return told.pop() if len(told) == 1 else ""


def _entry(one: Compared, p_adjusted: float | None, rules: Rules) -> dict[str, t.Any]:
    """What a comparison says, as JSON."""
    key, effect, better = one.group.key, one.effect, better_of(one.group, rules.better)
    decision = verdict.Decision(verdict.INCONCLUSIVE, one.reason)
    if effect and p_adjusted is not None:
        decision = verdict.decide(effect, p_adjusted, rules.alpha, better, rules.margin)
    entry = {
        "card": card_of(one.group), "model": key.model, "args": key.args, "metric": key.metric,
        "hardware": key.hardware, "n_gpus": key.n_gpus, "nnodes": key.nnodes,
        "verdict": decision.verdict, "reason": decision.reason, "better": better, "margin": rules.margin,
        **ratios(effect), "p": effect.p if effect else None, "p_adjusted": p_adjusted,
        "baseline": side(one.group.baseline), "candidate": side(one.group.candidate),
        "missing": next((name for name in ("baseline", "candidate") if not numbers(getattr(one.group, name))), ""),
        "hosts": 0 if one.pooled else len(one.strata), "noise": effects.noise(one.strata) if one.strata else None,
    }  # fmt: skip
    undecided = decision.verdict == verdict.INCONCLUSIVE and decision.reason != verdict.UNDIRECTED
    more = _needed(one, rules) if undecided and not entry["missing"] else 0
    entry["repeats_needed"] = more
    if decision.verdict == verdict.INCONCLUSIVE and effect and effect.low is None:
        entry["reason"] = "%s: %s; at least %d runs a side and host decide" % (decision.reason, _counts(one), sequential.FIRST)
    if one.pooled and effect:
        entry["reason"] = "; ".join(part for part in (entry["reason"], "no host ran both sides, so different hosts were compared") if part)
    return entry


def ratios(effect: Effect | None) -> dict[str, t.Any]:
    """Ratios for people and programs: 0.97 is three percent less."""
    if effect is None:
        return {"effect": None, "low": None, "high": None, "change_percent": None, "confidence": None, "method": "none"}
    ratio = math.exp(effect.shift)
    ends = {name: None if value is None else math.exp(value) for name, value in (("low", effect.low), ("high", effect.high))}
    return {"effect": ratio, **ends, "change_percent": 100.0 * (ratio - 1.0), "confidence": effect.confidence, "method": effect.method}


def side(rows: t.Sequence[Observation]) -> dict[str, t.Any]:
    values = [row.value for row in rows if row.value is not None]
    return {
        "campaigns": list(dict.fromkeys(row.campaign for row in rows)),
        "runs": len(values),
        "failed": sum(row.status == "FAILURE" for row in rows),
        "median": float(np.median(values)) if values else None,
        "hosts": sorted({row.host for row in rows if row.value is not None}),
    }


def card_of(group: Group) -> str:
    """The model's name in models.json; a row of its results has a longer one."""
    return next((row.base for row in (*group.candidate, *group.baseline)), group.key.model)


def _counts(one: Compared) -> str:
    return "%d and %d" % tuple(sum(len(sides[place]) for sides in one.strata) for place in (0, 1))


def _needed(one: Compared, rules: Rules) -> int:
    """Runs a side and host that would probably decide; 0 where nobody can say, or too many."""
    if not one.runs:
        return 0  # numbers that have no ratio
    if rules.repeats_max:
        return sequential.following(sequential.looks(rules.repeats_max), one.runs)
    spread = effects.noise(one.strata) if one.strata else None
    if one.effect is None or spread is None:
        return sequential.FIRST if one.effect else 0
    room = math.log1p(rules.margin)
    target = max(abs(one.effect.shift), room - abs(one.effect.shift))
    hosts = len(one.strata)
    runs = math.ceil(2.0 * (2.4 * spread / target) ** 2 / hosts) + 1 if target else 0
    return max(runs, sequential.FIRST, one.runs + 1) if runs <= MOST_NEEDED else 0


def _rank(entry: t.Mapping[str, t.Any]) -> tuple[t.Any, ...]:
    order = (verdict.REGRESSED, verdict.IMPROVED, verdict.INCONCLUSIVE, verdict.SAME)
    return (order.index(entry["verdict"]), not entry["missing"], entry["model"], entry["args"], entry["metric"], entry["hardware"])
