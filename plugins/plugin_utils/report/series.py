# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers over time: for each model, metric and hardware one series, one point a campaign, with its interval and where the level changed."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .entries import Entry

Key = Tuple[str, str, str]  # model, unit, hardware

CONFIDENCE = 0.95
_ALPHA = 0.01  # of calling a change where there is none, over all places of one series
_SIDE = 2  # campaigns that a level needs on either side of a change
_NOTHING = 1e-24  # squares of rounding errors of numbers around 1


class Sample(NamedTuple):
    """What one campaign says of one series."""

    campaign: str
    time: float
    values: Sequence[float]
    failed: int = 0


Past = Dict[Key, List[Sample]]


def series(found: Sequence[Entry], names: Sequence[str], past: Past) -> List[Dict[str, Any]]:
    """One dict for each series of the shown campaigns, earlier campaigns out of `past` before them.

    {"model", "of" (its card), "unit", "hardware", "better", "points": [[campaign, time, n, mean, low, high, least, most, failed]], "changes": [[index of
    the first point after it, relative change]]}; low and high bound the 95 % interval of the mean, null where one value says nothing of it.
    """
    own, about = _samples(found, names)
    made = []
    for key in sorted(own):
        samples = sorted([*past.get(key, ()), *own[key]], key=lambda sample: sample.time)
        points = [_point(sample) for sample in samples]
        changes = change_points([(point[1], point[3]) for point in points if point[2]])
        told = [[_place(points, time), ratio] for time, ratio in changes]
        model, unit, hardware = key
        of, better = about[key]
        made.append({"model": model, "of": of, "unit": unit, "hardware": hardware, "better": better, "points": points, "changes": told})
    return made


def _place(points: Sequence[Sequence[Any]], time: float) -> int:
    return next(place for place, point in enumerate(points) if point[1] == time and point[2])


def _samples(found: Sequence[Entry], names: Sequence[str]) -> Tuple[Past, Dict[Key, Tuple[str, str]]]:
    values: Dict[Key, Dict[int, List[float]]] = {}
    about: Dict[Key, Tuple[str, str]] = {}
    times: Dict[int, float] = {}
    failed: Dict[Tuple[str, str, int], int] = {}
    for entry in found:
        started = entry.record["timings"]["started"]
        if started is not None:
            times[entry.campaign] = min(started, times.get(entry.campaign, started))
        if entry.status == "FAILURE":
            place = (str(entry.record["model"]), entry.hardware, entry.campaign)
            failed[place] = failed.get(place, 0) + 1
        for result in entry.results if entry.status == "SUCCESS" else ():
            if result.value is not None:
                key = (result.model, result.unit, entry.hardware)
                values.setdefault(key, {}).setdefault(entry.campaign, []).append(result.value)
                about[key] = (str(entry.record["model"]), result.better)
    made: Past = {}
    for key, by_campaign in values.items():
        for campaign, numbers in sorted(by_campaign.items()):
            lost = failed.get((about[key][0], key[2], campaign), 0)
            made.setdefault(key, []).append(Sample(names[campaign], times.get(campaign, 0.0), numbers, lost))
    return made, about


def _point(sample: Sample) -> List[Any]:
    low, high = interval(sample.values)
    middle = statistics.fmean(sample.values) if sample.values else None
    extremes = (min(sample.values), max(sample.values)) if sample.values else (None, None)
    return [sample.campaign, sample.time, len(sample.values), middle, low, high, *extremes, sample.failed]


def interval(values: Sequence[float]) -> Tuple[Optional[float], Optional[float]]:
    """The 95 % interval of the mean (Student's t), (None, None) for fewer than two values."""
    if len(values) < 2:
        return None, None
    from scipy.special import stdtrit  # only here: it takes a moment to load, and a report of single runs never needs it

    scale = max(map(abs, values)) or 1.0  # squares of what a model may print would be too large
    deviation = scale * statistics.stdev([value / scale for value in values])
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(len(values))
    middle = statistics.fmean(values)
    return middle - half, middle + half


# -- changes of level --------------------------------------------------------------------------------------------------------------


def change_points(points: Sequence[Tuple[float, float]]) -> List[Tuple[float, float]]:
    """Where the level of a series changed: [(time of the first point of the new level, relative change)].

    Circular binary segmentation (Olshen and Venkatraman): the part of the series that differs most from the rest is taken, be it its end
    (one change) or its middle (there and back), if noise could hardly make such a part anywhere in it (1 %, Bonferroni); then each part is
    looked at again.
    """
    values = [value for dummy, value in points]
    found: Set[int] = set()
    _split(values, 0, len(values), found)
    edges = [0, *sorted(found), len(values)]
    changes = []
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        old, new = statistics.fmean(values[before:at]), statistics.fmean(values[at:after])
        if old and math.isfinite(new / old):
            changes.append((points[at][0], round(new / old - 1.0, 5)))
    return changes


def _split(values: Sequence[float], start: int, end: int, found: Set[int]) -> None:
    size = end - start
    if size <= 2 * _SIDE:
        return
    sums = _Sums(values[start:end])
    ends = [(place, size) for place in range(_SIDE, size - _SIDE + 1)]
    middles = [(low, high) for low in range(_SIDE, size) for high in range(low + _SIDE, size - _SIDE + 1)]
    for parts in (ends, middles):
        low, high = max(parts, key=lambda part: sums.t(*part), default=(0, 0))
        if high and _tail(sums.t(low, high), size - 2) * len(parts) <= _ALPHA / 2:
            edges = [0, low, high, size]
            found.update(start + place for place in (low, high) if place < size)
            for before, after in zip(edges, edges[1:], strict=False):
                _split(values, start + before, start + after, found)
            return


class _Sums:
    """Sums of the values and of their squares up to each place, so that the t of any part takes no loop."""

    def __init__(self, values: Sequence[float]) -> None:
        middle, scale = statistics.fmean(values), max(map(abs, values)) or 1.0
        scaled = [value / scale - middle / scale for value in values]
        self._sums = [0.0, *itertools.accumulate(scaled)]
        self._squares = math.fsum(value * value for value in scaled)

    def t(self, low: int, high: int) -> float:
        """Student's t of values[low:high] against the rest, with one variance; infinite when both are constant and differ."""
        inside, size = high - low, len(self._sums) - 1
        total = self._sums[high] - self._sums[low]
        rest = self._sums[-1] - total
        between = total * total / inside + rest * rest / (size - inside)
        within = self._squares - between
        if between <= _NOTHING * size:
            return 0.0
        return math.sqrt(between * (size - 2) / within) if within > _NOTHING * between else math.inf


def _tail(t: float, freedom: int) -> float:
    """How often noise gives a t this far from 0."""
    if math.isinf(t):
        return 0.0
    from scipy.special import stdtr

    return 2.0 * float(stdtr(freedom, -t))
