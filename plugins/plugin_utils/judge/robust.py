# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the healthy majority lies, and how far each one stands from it, when up to nearly half of a fleet may be bad.

The mean of a fleet is pulled by its bad hosts, and so is its median once they are many and all on one side: with 30 percent slow hosts it
lies where the 29th percentile of the healthy ones is. So the centre is that of the densest half (the minimum covariance determinant in one
dimension), then of everybody within reach of it; its scale is made comparable with that of a normal distribution at both steps.
"""

from __future__ import annotations

import math
import typing as t

from .libraries import np, special

if t.TYPE_CHECKING:
    from .ranks import Floats

REACH = 2.5758293035489004  # 99 percent of a normal distribution


class Core(t.NamedTuple):
    """The healthy majority of some numbers."""

    centre: float
    scale: float
    size: int  # how many it stands on


def core(values: Floats) -> Core:
    """The centre and scale of the majority; a scale of 0 where more than half are equal."""
    ordered = np.sort(np.asarray(values, dtype=float))
    half = len(ordered) // 2 + 1
    centre, scale = _densest(ordered, half)
    near = ordered[np.abs(ordered - centre) <= REACH * scale]
    if len(near) < half:
        return Core(centre, scale, half)
    spread = float(np.std(near, ddof=1)) * _truncated(0.99) if len(near) > 1 else 0.0
    return Core(float(np.mean(near)), spread, len(near))


def p_above(distance: float, scale: float, count: int) -> float:
    """One-sided: how often a healthy one lies this far on the bad side; `count` are what the scale stands on."""
    if distance <= 0:
        return 1.0
    if not scale or count < 2:
        return 0.0 if not scale and count > 1 else 1.0
    return float(special.stdtr(count - 1.0, -distance / (scale * math.sqrt(1.0 + 1.0 / count))))


def _densest(ordered: Floats, half: int) -> tuple[float, float]:
    """Mean and scale of the `half` neighbours with the smallest variance."""
    middle = float(np.median(ordered))
    shifted = ordered - middle  # sums of squares of large numbers would lose their digits
    sums = np.concatenate([[0.0], np.cumsum(shifted)])
    squares = np.concatenate([[0.0], np.cumsum(shifted**2)])
    means = (sums[half:] - sums[:-half]) / half
    variances = (squares[half:] - squares[:-half]) / half - means**2
    place = int(np.argmin(variances))
    part = half / len(ordered)
    widening = _truncated(part) if part < 1.0 else 1.0
    correction = math.sqrt(half / (half - 1.0)) if half > 1 else 1.0
    return middle + float(means[place]), math.sqrt(max(0.0, float(variances[place]))) * widening * correction


def _truncated(part: float) -> float:
    """By how much the innermost `part` of a normal distribution is narrower than all of it."""
    edge = float(special.ndtri((1.0 + part) / 2.0))
    density = math.exp(-edge * edge / 2.0) / math.sqrt(2.0 * math.pi)
    return math.sqrt(1.0 / (1.0 - 2.0 * edge * density / part))
