# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much two sets of runs differ: the ratio of their locations, an interval for it, and how often chance alone does the same.

Numbers are compared as logarithms, so that a difference is a ratio. The estimate is the median of all differences between a candidate's
and a baseline's run of the same host (Hodges and Lehmann), the interval and the p value are those of the stratified rank test (ranks.py):
exact for every kind of noise, and one freak run cannot move them far.

Ranks alone have a floor: with 6 runs a side nothing has a p value below 0.002, with 3 none below 0.1. Where the two sides are separated
completely, and only there, Student's t on the same logarithms says how far apart they are. So no statement of more than the floor rests
on anything but counting, and what lies below it rests on noise that is not too far from lognormal.
"""

from __future__ import annotations

import math
import typing as t

from . import ranks
from .libraries import np, special

if t.TYPE_CHECKING:
    from .ranks import Floats

LEAST_RUNS = 3  # on each side, before Student's t is asked where ranks cannot reach the level
SMALL_SAMPLE = 5.0  # and then it has to be this much more certain
MOST_RUNS = 2000  # of one host and side that are looked at; more say nothing new


class Sides(t.NamedTuple):
    """Logarithms of what one host measured."""

    baseline: Floats
    candidate: Floats


class Effect(t.NamedTuple):
    """All in logarithms; `low` and `high` are None where so few runs allow no interval."""

    shift: float
    low: float | None
    high: float | None
    p: float
    confidence: float
    method: str


def estimate(strata: t.Sequence[Sides], alpha: float) -> Effect:
    """The effect over all hosts; each of them has at least one run on both sides."""
    strata = [Sides(*(_thinned(side) for side in sides)) for sides in strata]
    sizes = tuple((len(sides.baseline), len(sides.candidate)) for sides in strata)
    differences = np.sort(np.concatenate([np.subtract.outer(sides.candidate, sides.baseline).ravel() for sides in strata]))
    shift = float(np.median(differences))
    not_above, not_below = int(np.count_nonzero(differences <= 0)), int(np.count_nonzero(differences >= 0))  # a tie speaks against both
    smaller = min(not_above, not_below)
    p = ranks.p_value(sizes, smaller)
    student = None
    place = ranks.depth(sizes, alpha)
    if smaller == 0 or not place:
        student = _student(strata)
    if place:
        if student:
            p = min(p, _p_of(student))
        return Effect(shift, float(differences[place - 1]), float(differences[-place]), p, 1.0 - alpha, "rank")
    runs = min(sum(size[0] for size in sizes), sum(size[1] for size in sizes))
    if student is None or runs < LEAST_RUNS:
        return Effect(shift, None, None, p, 1.0 - alpha, "none")
    if smaller == 0:
        p = min(p, SMALL_SAMPLE * _p_of(student))
    middle, half = student.shift, _half_width(student, alpha / SMALL_SAMPLE)
    return Effect(shift, min(middle - half, shift), max(middle + half, shift), p, 1.0 - alpha / SMALL_SAMPLE, "t")


def widened(effect: Effect, baseline: Floats, candidate: float, alpha: float) -> Effect:
    """The effect when the baseline is several campaigns: what differs from campaign to campaign is noise too.

    `baseline` holds one location for each of its campaigns, `candidate` the candidate's own: the interval is that of one further
    campaign among them, and the effect keeps the wider of the two intervals and the larger p value.
    """
    count = len(baseline)
    spread = float(np.std(baseline, ddof=1)) * math.sqrt(1.0 + 1.0 / count)
    between = Student(candidate - float(np.mean(baseline)), spread, count - 1.0)
    half = _half_width(between, alpha)
    low = min(value for value in (effect.low, between.shift - half, effect.shift) if value is not None)
    high = max(value for value in (effect.high, between.shift + half, effect.shift) if value is not None)
    return Effect(effect.shift, low, high, max(effect.p, _p_of(between)), 1.0 - alpha, "campaigns")


def location(values: Floats, alpha: float) -> Effect:
    """The median of one set of runs, with an interval by Student's t once there are LEAST_RUNS; p is not asked for."""
    median = float(np.median(values))
    if len(values) < LEAST_RUNS:
        return Effect(median, None, None, 1.0, 1.0 - alpha, "none")
    own = Student(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)), len(values) - 1.0)
    half = _half_width(own, alpha)
    return Effect(median, min(median, own.shift - half), max(median, own.shift + half), 1.0, 1.0 - alpha, "t")


def noise(strata: t.Sequence[Sides]) -> float | None:
    """Standard deviation of one run among runs of the same host and side; None where no host has two."""
    sides = [side for pair in strata for side in pair]
    freedom = sum(len(side) - 1 for side in sides)
    return math.sqrt(sum(float(np.sum((side - np.mean(side)) ** 2)) for side in sides) / freedom) if freedom else None


class Student(t.NamedTuple):
    """A difference of means with its standard error."""

    shift: float
    error: float
    freedom: float


def _student(strata: t.Sequence[Sides]) -> Student | None:
    """Welch's t for one host with two runs and more on both sides; for several hosts, that of the additive model host + side."""
    if len(strata) == 1 and min(len(side) for side in strata[0]) > 1:
        return _welch(strata[0])
    shifts = np.array([np.mean(sides.candidate) - np.mean(sides.baseline) for sides in strata])
    weights = np.array([1.0 / (1.0 / len(sides.candidate) + 1.0 / len(sides.baseline)) for sides in strata])
    shift = float(np.average(shifts, weights=weights))
    freedom = sum(len(side) for sides in strata for side in sides) - len(strata) - 1
    if freedom < 1:
        return None
    within = sum(float(np.sum((side - np.mean(side)) ** 2)) for sides in strata for side in sides)
    residual = (within + float(np.sum(weights * (shifts - shift) ** 2))) / freedom
    return Student(shift, math.sqrt(residual / float(np.sum(weights))), float(freedom))


def _welch(sides: Sides) -> Student:
    parts = [float(np.var(side, ddof=1)) / len(side) for side in sides]
    together = sum(parts)
    freedom = together**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)) if together else 1.0
    return Student(float(np.mean(sides.candidate) - np.mean(sides.baseline)), math.sqrt(together), freedom)


def _p_of(student: Student) -> float:
    """Two-sided; without any spread, 1 where nothing differs and 0 where something does."""
    if not student.error:
        return 1.0 if not student.shift else 0.0
    return float(2.0 * special.stdtr(student.freedom, -abs(student.shift) / student.error))


def _half_width(student: Student, alpha: float) -> float:
    return float(special.stdtrit(student.freedom, 1.0 - alpha / 2.0)) * student.error


def _thinned(values: Floats) -> Floats:
    """Every k-th run where there are very many."""
    return values[:: -(-len(values) // MOST_RUNS)] if len(values) > MOST_RUNS else values
