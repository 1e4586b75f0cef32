# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The four verdicts, and the one place that decides between them.

same: the whole interval lies within the margin that counts as no difference (two one-sided tests, each below alpha / 2).
improved, regressed: the difference is significant after the correction for how many comparisons were made, and somebody says which way is better.
inconclusive: everything else, always with its reason. It is an answer, not a failure: what was measured allows no other.

The correction is that of Benjamini and Hochberg. If nothing changed at all, the chance that any of a hundred comparisons raises an alarm is
still at most alpha; if some things changed, at most alpha of the alarms are false on average; and unlike Bonferroni's, what it asks of one
model does not grow with every other model that regressed too. It holds for independent comparisons and for those that a slow host moves
together. Alarms that stop a nightly play should be rare as a whole, not one by one: that is why it is on.
"""

from __future__ import annotations

import math
import typing as t

from .effect import Effect

IMPROVED, REGRESSED, SAME, INCONCLUSIVE = "improved", "regressed", "same", "inconclusive"
VERDICTS = (IMPROVED, REGRESSED, SAME, INCONCLUSIVE)

UNDIRECTED = "it changed, but nobody says whether higher or lower is better: see `better` in docs/compare.md"  # more runs do not help


class Decision(t.NamedTuple):
    """A verdict; `reason` says why it is inconclusive, "" for the others."""

    verdict: str
    reason: str = ""


def adjusted(p_values: t.Sequence[float]) -> list[float]:
    """Benjamini and Hochberg: the level at which each comparison would just be significant among all of them."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    found, lowest = [1.0] * len(p_values), 1.0
    for rank, place in enumerate(order):
        lowest = min(lowest, p_values[place] * len(p_values) / (len(p_values) - rank))
        found[place] = lowest
    return found


def decide(effect: Effect, p_adjusted: float, alpha: float, better: str, margin: float) -> Decision:
    """The verdict of one comparison; `margin` is the ratio that counts as no difference (0.02: two percent)."""
    if effect.low is None or effect.high is None:
        return Decision(INCONCLUSIVE, "too few runs for an interval")
    if max(-effect.low, effect.high) <= math.log1p(margin):
        return Decision(SAME)
    if effect.low <= 0.0 <= effect.high:
        return Decision(INCONCLUSIVE, "the interval holds both no change and one of more than %s" % percent(margin))
    if p_adjusted > alpha:
        return Decision(INCONCLUSIVE, "alone it would count; among so many comparisons it may be chance (p %.2g)" % p_adjusted)
    if better not in ("higher", "lower"):
        return Decision(INCONCLUSIVE, UNDIRECTED)
    return Decision(IMPROVED if (effect.shift > 0) == (better == "higher") else REGRESSED)


def percent(ratio: float) -> str:
    """0.025 as `2.5%`."""
    return "%.3g%%" % (100.0 * ratio)
