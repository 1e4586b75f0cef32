# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rank test of Mann and Whitney, stratified: its exact distribution when nothing changed, whatever the noise looks like.

A stratum is what one host measured on both sides. Within it every number of one side is compared with every number of the other; U counts
the pairs in which the candidate's is not the larger one, over all strata. Under the hypothesis that only chance tells the two sides
apart, U has a distribution that knows nothing of normal, skewed or two-humped noise: it comes from counting arrangements. Turned
round, the same counting says which two of the sorted differences enclose the shift (Hodges and Lehmann).
"""

from __future__ import annotations

import functools
import math
import typing as t

from .libraries import np, special

if t.TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Sizes = t.Tuple[t.Tuple[int, int], ...]  # (baseline, candidate) of each stratum
_MOST_RUNS = 50  # of one stratum, and
_MOST_PAIRS = 2500  # of all: above, the normal approximation is as good as the count


def p_value(sizes: Sizes, smaller: int) -> float:
    """Two-sided: how often chance alone gives a U as small as `smaller`, or as large at the other end."""
    return min(1.0, 2.0 * _lower_tail(_sorted(sizes), smaller))


def smallest_p(sizes: Sizes) -> float:
    """The p value of complete separation: no number of runs this small can ever say more."""
    return p_value(sizes, 0)


@functools.lru_cache(maxsize=4096)
def depth(sizes: Sizes, alpha: float) -> int:
    """How deep in the sorted differences the ends of the interval lie (1: the outermost ones); 0: no interval has this confidence."""
    known = _sorted(sizes)
    low, high = 0, sum(n * m for n, m in known) // 2 + 1  # the largest k with 2 P(U <= k - 1) <= alpha lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if 2.0 * _lower_tail(known, middle - 1) <= alpha else (low, middle)
    return low


def _sorted(sizes: Sizes) -> Sizes:
    return tuple(sorted((min(pair), max(pair)) for pair in sizes))


def _lower_tail(sizes: Sizes, most: int) -> float:
    """P(U <= most)."""
    if most < 0:
        return 0.0
    if sum(n * m for n, m in sizes) <= _MOST_PAIRS and all(n + m <= _MOST_RUNS for n, m in sizes):
        table = _cumulated(sizes)
        return float(table[min(most, len(table) - 1)])
    middle = sum(n * m for n, m in sizes) / 2.0
    spread = math.sqrt(sum(n * m * (n + m + 1) for n, m in sizes) / 12.0)
    return float(special.ndtr((most + 0.5 - middle) / spread))


@functools.lru_cache(maxsize=1024)
def _cumulated(sizes: Sizes) -> Floats:
    """P(U <= u) for every u, several strata being added up."""
    together = np.ones(1)
    for n, m in sizes:
        together = np.convolve(together, _one_stratum(n, m))
    return np.minimum(np.cumsum(together), 1.0)


@functools.lru_cache(maxsize=1024)
def _one_stratum(n: int, m: int) -> Floats:
    """P(U = u): the coefficients of the Gaussian binomial (n + m over n), which count arrangements by their U."""
    counts = [1] + [0] * (n * m)
    for step in range(1, n + 1):
        for place in range(n * m, m + step - 1, -1):
            counts[place] -= counts[place - m - step]
        for place in range(step, n * m + 1):
            counts[place] += counts[place - step]
    return np.array(counts, dtype=float) / math.comb(n + m, n)
