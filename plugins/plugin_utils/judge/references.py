# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared values with tolerances, as ReFrame has them: what a model has to reach on a kind of hardware.

A card says `"reference": {"*MI300X*": {"samples_per_second": [14000, -0.05, null]}}`: below 5 % less than 14000 is worse, above nothing is too
much. A file (mad_references, YAML or JSON) has the same under the names of models. The first pattern that matches the hardware class or
the host counts.
"""

from __future__ import annotations

import fnmatch
import math
import os
import re
import typing as t

import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

from . import compare, effect, verdict
from .observations import Observation, Source

CARD_KEY = "reference"
_WILD = re.compile(r"[*?\[]")


class Reference(t.NamedTuple):
    """One declared value; a bound is a part of it (-0.05) or None: unlimited."""

    where: str
    model: str
    pattern: str
    metric: str
    value: float
    low: float | None
    high: float | None


def load(given: t.Any, rows: t.Sequence[Observation]) -> list[Reference]:
    """Those of a file or dict first, then those of the candidate's cards."""
    found: list[Reference] = []
    if not scalars.is_unset(given):
        document, where = (given, "mad_references") if isinstance(given, t.Mapping) else (_file(str(given)), "mad_references %s" % given)
        for model, patterns in _mapping(document, where, "models").items():
            found.extend(_of_model(patterns, "%s: %s" % (where, model), str(model)))
    cards = {row.key.model: row.card for row in rows if row.card.get(CARD_KEY)}
    for model, card in cards.items():
        found.extend(_of_model(card[CARD_KEY], "card %s: %s" % (card.get("name", model), CARD_KEY), model))
    return found


def check(references: t.Sequence[Reference], candidate: Source, rules: compare.Rules) -> list[dict[str, t.Any]]:
    """An entry for every group of the candidate for which something is declared."""
    known = _Known(references)
    found = ((group, known.of(group)) for group in compare.groups([], candidate.rows))
    return [_entry(group, reference, rules) for group, reference in found if reference]


class _Known:
    """References by what they are about: of ten thousand cards each has its own."""

    def __init__(self, references: t.Iterable[Reference]) -> None:
        self._by_model: dict[tuple[str, str], list[tuple[int, Reference]]] = {}
        for place, one in enumerate(references):
            model = "" if _WILD.search(one.model) else one.model
            self._by_model.setdefault((model, one.metric), []).append((place, one))

    def of(self, group: compare.Group) -> Reference | None:
        """The first one that applies."""
        key = group.key
        possible = sorted(entry for model in sorted({"", key.model}) for entry in self._by_model.get((model, key.metric), ()))
        named = [one for dummy, one in possible if fnmatch.fnmatchcase(key.model, one.model)]
        names = [key.hardware, *sorted({row.host for row in group.candidate})] if named else []
        return next((one for one in named if any(fnmatch.fnmatchcase(name, one.pattern) for name in names)), None)


def _entry(group: compare.Group, reference: Reference, rules: compare.Rules) -> dict[str, t.Any]:
    """The same keys as those of a comparison; the baseline is the declared value."""
    key, values = group.key, compare.numbers(group.candidate)
    better = _better(reference, group)
    decision = verdict.Decision(verdict.INCONCLUSIVE, "no run of the candidate has a number")
    found = None
    usable = bool(values) and all(row.value is not None and row.value > 0 for row in values)
    if usable:
        centre = effect.location(compare.logs(values), rules.alpha)
        ends = [None if end is None else end - math.log(reference.value) for end in (centre.low, centre.high)]
        found = centre._replace(shift=centre.shift - math.log(reference.value), low=ends[0], high=ends[1])
        decision = _decide(found, reference, better)
    return {
        "card": compare.card_of(group), "model": key.model, "args": key.args, "metric": key.metric,
        "hardware": key.hardware, "n_gpus": key.n_gpus, "nnodes": key.nnodes,
        "verdict": decision.verdict, "reason": decision.reason, "better": better, "margin": None,
        **compare.ratios(found), "p": None, "p_adjusted": None,
        "baseline": {"reference": reference.value, "tolerance": [reference.low, reference.high], "median": reference.value, "declared": reference.where},
        "candidate": compare.side(group.candidate),
        "missing": "" if values else "candidate", "hosts": len({row.host for row in values}), "noise": None, "repeats_needed": 0,
    }  # fmt: skip


def _decide(found: effect.Effect, reference: Reference, better: str) -> verdict.Decision:
    """Inside, outside, or both: the interval decides, one or two runs by themselves."""
    low, high = (found.shift, found.shift) if found.low is None or found.high is None else (found.low, found.high)
    least = -math.inf if reference.low is None else math.log1p(reference.low)
    most = math.inf if reference.high is None else math.log1p(reference.high)
    if least <= low and high <= most:
        return verdict.Decision(verdict.SAME)
    if high < least or low > most:
        if not better:
            return verdict.Decision(verdict.INCONCLUSIVE, "outside its tolerance, but nobody says whether higher or lower is better")
        return verdict.Decision(verdict.IMPROVED if (low > most) == (better == "higher") else verdict.REGRESSED)
    return verdict.Decision(verdict.INCONCLUSIVE, "the interval reaches beyond the tolerance of the declared value")


def _better(reference: Reference, group: compare.Group) -> str:
    """A bound on one side only says which way is worse."""
    if (reference.low is None) != (reference.high is None):
        return "higher" if reference.high is None else "lower"
    told = {row.better for row in group.candidate} - {""}
    return told.pop() if len(told) == 1 else ""


def _file(path: str) -> t.Any:
    full = os.path.expanduser(path)
    try:
        with open(full, encoding="utf-8") as stream:
            return yaml.safe_load(stream)
    except OSError as error:
        raise InvalidInput("mad_references %s cannot be read: %s" % (path, error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("mad_references %s is neither YAML nor JSON: %s" % (path, " ".join(str(error).split())[:300])) from error


def _mapping(value: t.Any, where: str, what: str) -> t.Mapping[t.Any, t.Any]:
    if not isinstance(value, t.Mapping):
        raise scalars.wrong(where, "a dict of %s" % what, value)
    return value


def _of_model(patterns: t.Any, where: str, model: str) -> t.Iterator[Reference]:
    for pattern, metrics in _mapping(patterns, where, "hardware patterns").items():
        for metric, values in _mapping(metrics, "%s.%s" % (where, pattern), "metrics").items():
            yield _reference("%s.%s.%s" % (where, pattern, metric), model, str(pattern), str(metric), values)


def _reference(where: str, model: str, pattern: str, metric: str, values: t.Any) -> Reference:
    """[value, low, high] with an optional unit behind; low <= 0 <= high, null for no limit."""
    if not isinstance(values, (list, tuple)) or not 3 <= len(values) <= 4:
        raise scalars.wrong(where, "[value, low, high], such as [14000, -0.05, null]", values)
    value, low, high = (_number(entry, where) for entry in values[:3])
    if value is None or value <= 0 or (low is not None and not -1 < low <= 0) or (high is not None and high < 0):
        raise scalars.wrong(where, "a value above 0, low from -1 to 0 (or null) and high from 0 (or null)", list(values))
    return Reference(where, model, pattern, metric, value, low, high)


def _number(value: t.Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise scalars.wrong(where, "numbers or null", value)
    return float(value)
