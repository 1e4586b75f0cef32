# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift between two samples: JS, PSI, KS and Wasserstein, calibrated by permutation: the false-alarm rate is what was asked for.

A fixed threshold cannot do that: without any drift, a JS distance of 0.2 is exceeded in most comparisons of 50 values with 50.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import UsageError
from .rng import mix

Array = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
METHODS = ("js", "psi", "ks", "wasserstein")


@dataclass(frozen=True)
class DriftResult:
    """score: the distance of the two samples; threshold: what alpha of the comparisons without drift exceed; p_value: of the score."""

    method: str
    score: float
    threshold: float
    p_value: float
    drifted: bool
    n_reference: int
    n_current: int


def detect_drift(reference: Array, current: Array, *, method: str = "js", alpha: float = 0.05, permutations: int = 199, bins: int = 20,
                 seed: int = 0) -> DriftResult:
    """Compare two one-dimensional samples of finite values. At most `alpha` of comparisons without drift are called drifted.

    js: the Jensen-Shannon *distance* (square root of the divergence, base 2: 0 to 1); psi: population stability index; both over bins
    with equal shares of the pooled sample. ks: largest difference of the distribution functions. wasserstein: first order, in units
    of the data.
    """
    if method not in METHODS:
        raise UsageError(f"there is no drift measure {method!r}; available: {', '.join(METHODS)}")
    first, second = _checked("reference", reference), _checked("current", current)
    if not 0.0 < alpha < 1.0 or permutations < 1 / alpha - 1:
        raise UsageError(f"alpha {alpha} needs at least {max(1, round(1 / alpha - 1))} permutations, not {permutations}")
    draw = np.random.Generator(np.random.PCG64(mix(seed, 5)))
    compare = _binned if method in ("js", "psi") else _ordered
    score, chance = compare(method, first, second, permutations, bins, draw)
    p_value = float((1 + np.count_nonzero(chance >= score - 1e-12)) / (1 + permutations))
    threshold = float(np.quantile(chance, 1 - alpha, method="higher"))
    return DriftResult(method, float(score), threshold, p_value, p_value <= alpha, len(first), len(second))


def _checked(name: str, values: Array) -> Array:
    out = np.asarray(values, dtype=np.float64).ravel()
    if len(out) < 2 or not np.isfinite(out).all():
        odd = int((~np.isfinite(out)).sum())
        raise UsageError(f"the {name} sample needs at least 2 values, all finite; it has {len(out)} with {odd} not finite")
    return out


def _binned(method: str, first: Array, second: Array, permutations: int, bins: int, draw: np.random.Generator) -> tuple[float, Array]:
    """The bins come from the pooled sample, so they are the same for every permutation; permuted counts are hypergeometric."""
    pooled = np.concatenate([first, second])
    edges = np.unique(np.quantile(pooled, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, pooled, side="right")
    total = np.bincount(place, minlength=len(edges) + 1)
    mine = np.bincount(place[:len(first)], minlength=len(edges) + 1)
    measure: Callable[[Array, Array], Array] = js_distance if method == "js" else psi
    chance = draw.multivariate_hypergeometric(total, len(first), size=permutations)
    rows = np.vstack([mine, chance])
    scores = measure(rows / len(first), (total - rows) / len(second))
    return float(scores[0]), scores[1:]


def js_distance(p: Array, q: Array) -> Array:
    """Jensen-Shannon distance, base 2, over the last axis."""
    middle = (p + q) / 2

    def kl(part: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            terms: Array = np.where(part > 0, part * np.log2(part / middle), 0.0)
        total: Array = terms.sum(-1)
        return total

    return np.sqrt(np.maximum(0.0, (kl(p) + kl(q)) / 2))


def psi(p: Array, q: Array, floor: float = 1e-4) -> Array:
    """Population stability index over the last axis; empty bins count as `floor`."""
    first, second = np.maximum(p, floor), np.maximum(q, floor)
    total: Array = ((first - second) * np.log(first / second)).sum(-1)
    return total


def _ordered(method: str, first: Array, second: Array, permutations: int, _bins: int, draw: np.random.Generator) -> tuple[float, Array]:
    """Both measures compare distribution functions over the sorted pooled sample; a permutation relabels it."""
    pooled = np.concatenate([first, second])
    order = np.argsort(pooled, kind="stable")
    values = pooled[order]
    gaps = np.diff(values, append=values[-1])
    ends = np.append(gaps[:-1] > 0, True)  # the functions are compared only where a run of equal values ends
    labels = (order < len(first)).astype(np.float64)

    def score(mine: Array) -> float:
        difference = np.cumsum(mine / len(first) - (1 - mine) / len(second))
        return float(np.abs(difference[ends]).max()) if method == "ks" else float((np.abs(difference) * gaps).sum())

    return score(labels), np.asarray([score(draw.permutation(labels)) for dummy in range(permutations)])
