# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the statistics promise, on simulated runs with fixed seeds: few false alarms whatever the noise, and no missed regression."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ansible_collections.mad.engine.plugins.plugin_utils.judge import effect, ranks, sequential, verdict
from ansible_collections.mad.engine.plugins.plugin_utils.judge.effect import Sides

ALPHA, MARGIN = 0.05, 0.02
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 1.0 + 0.02 * random.standard_normal(shape)


def lognormal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.exp(0.3 * random.standard_normal(shape))


def bimodal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A clock that boosts in one run of three: two humps, eight percent apart."""
    return np.where(random.random(shape) < 1 / 3, 1.08, 1.0) + 0.005 * random.standard_normal(shape)


NOISES: list[Noise] = [normal, lognormal, bimodal]


def verdicts(baseline: np.ndarray, candidate: np.ndarray, hosts: int = 1) -> Counter[str]:
    """Verdicts of many comparisons, one in each row; the runs of a row belong to `hosts` in equal parts."""
    found: Counter[str] = Counter()
    for mine, theirs in zip(np.log(candidate), np.log(baseline), strict=True):
        strata = [Sides(*pair) for pair in zip(np.split(theirs, hosts), np.split(mine, hosts), strict=True)]
        one = effect.estimate(strata, ALPHA)
        found[verdict.decide(one, one.p, ALPHA, "higher", MARGIN).verdict] += 1
    return found


def alarms(found: Counter[str]) -> float:
    return (found["regressed"] + found["improved"]) / sum(found.values())


# Together 10,000 comparisons of equal sides for each kind of noise.
CASES = [(3, 3, 1, 2000), (4, 4, 1, 2000), (6, 6, 1, 2000), (3, 12, 1, 1000), (12, 12, 1, 1000), (8, 8, 4, 1000), (8, 8, 8, 1000)]


@pytest.mark.parametrize("noise", NOISES)
def test_equal_sides_raise_at_most_5_percent_alarms(noise: Noise) -> None:
    random = np.random.default_rng(20261122)
    together: Counter[str] = Counter()
    for mine, theirs, hosts, times in CASES:
        found = verdicts(noise(random, (times, theirs)), noise(random, (times, mine)), hosts)
        assert alarms(found) <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / times), (mine, theirs, hosts)
        together += found
    assert sum(together.values()) == 10_000
    assert alarms(together) <= ALPHA


@pytest.mark.parametrize("noise", NOISES)
def test_looking_after_every_run_raises_no_more_alarms(noise: Noise) -> None:
    """Early stopping: one looks at 4, 6, 9 and 12 runs, and stops at the first alarm."""
    random = np.random.default_rng(20261123)
    times, plan = 3400, sequential.looks(12)
    level = ALPHA / len(plan)
    baseline, candidate = (np.log(noise(random, (times, plan[-1]))) for dummy in range(2))
    stopped = 0
    for theirs, mine in zip(baseline, candidate, strict=True):
        for look in plan:
            one = effect.estimate([Sides(theirs[:look], mine[:look])], level)
            if verdict.decide(one, one.p, level, "lower", MARGIN).verdict in ("regressed", "improved"):
                stopped += 1
                break
    assert stopped / times <= ALPHA


def test_a_regression_of_3_percent_at_1_percent_noise_is_found_with_6_repeats() -> None:
    random = np.random.default_rng(1)
    baseline, candidate = (1.0 + 0.01 * random.standard_normal((2000, 6)) for dummy in range(2))
    assert verdicts(baseline, 0.97 * candidate)["regressed"] / 2000 >= 0.95


@pytest.mark.parametrize("change", [1.0, 0.97, 1.03])
def test_at_5_percent_noise_3_repeats_say_nothing(change: float) -> None:
    random = np.random.default_rng(2)
    baseline, candidate = (1.0 + 0.05 * random.standard_normal((2000, 3)) for dummy in range(2))
    assert verdicts(baseline, change * candidate)["inconclusive"] / 2000 >= 0.97


def test_half_the_speed_is_seen_with_3_repeats() -> None:
    random = np.random.default_rng(3)
    baseline, candidate = (1.0 + 0.02 * random.standard_normal((500, 3)) for dummy in range(2))
    assert verdicts(baseline, 0.5 * candidate)["regressed"] / 500 >= 0.99


@pytest.mark.parametrize("noise", NOISES)
def test_the_interval_holds_the_true_ratio(noise: Noise) -> None:
    """Ranks promise it for every noise that is the same on both sides."""
    random = np.random.default_rng(4)
    held = 0
    for theirs, mine in zip(np.log(noise(random, (2000, 7))), np.log(1.3 * noise(random, (2000, 5))), strict=True):
        one = effect.estimate([Sides(theirs, mine)], ALPHA)
        assert one.low is not None and one.high is not None and one.low <= one.shift <= one.high
        held += one.low <= math.log(1.3) <= one.high
    assert held / 2000 >= 1 - ALPHA - 0.012


def test_hosts_of_different_speed_do_not_hide_a_regression() -> None:
    """Eight hosts, 30 percent apart from one another, one run each on both sides: every host is compared with itself."""
    random = np.random.default_rng(5)
    speeds = np.exp(0.3 * random.standard_normal((500, 8)))
    baseline, candidate = (speeds * (1.0 + 0.005 * random.standard_normal((500, 8))) for dummy in range(2))
    assert verdicts(baseline, 0.97 * candidate, hosts=8)["regressed"] / 500 >= 0.99
    assert verdicts(baseline, 0.97 * candidate, hosts=1)["inconclusive"] / 500 >= 0.9


def test_one_freak_run_changes_no_verdict() -> None:
    steady = np.log([100.0, 101.0, 99.0, 100.5, 99.5, 100.2])
    slow = np.log([90.0, 91.0, 89.0, 90.5, 89.5, 9.0])
    one = effect.estimate([Sides(steady, slow)], ALPHA)
    assert one.low is not None and one.high is not None and math.exp(one.high) < 0.95
    assert verdict.decide(one, one.p, ALPHA, "higher", MARGIN).verdict == "regressed"


# -- ranks -----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=14, unique=True), st.data())
def test_the_exact_p_value_is_that_of_scipy(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    theirs, mine = values[:cut], values[cut:]
    below = sum(one <= other for one, other in itertools.product(mine, theirs))
    smaller = min(below, cut * len(mine) - below)
    known = stats.mannwhitneyu(theirs, mine, alternative="two-sided", method="exact").pvalue
    assert ranks.p_value(((cut, len(mine)),), smaller) == pytest.approx(known)


def test_hosts_with_one_run_a_side_are_a_sign_test() -> None:
    for hosts, against in ((6, 0), (10, 1), (20, 5)):
        known = stats.binomtest(against, hosts).pvalue
        assert ranks.p_value(((1, 1),) * hosts, against) == pytest.approx(known)


def test_many_runs_agree_with_the_count() -> None:
    """On both sides of the limit above which the normal approximation is used."""
    exact = ranks.p_value(((25, 25),) * 3, 750)
    assert exact == pytest.approx(ranks.p_value(((25, 25),) * 4, 1041), abs=0.02)
    assert 0.03 < ranks.p_value(((100, 100),), 4200) < 0.06


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4), st.sampled_from([0.05, 0.0125]))
def test_the_depth_is_the_deepest_that_keeps_the_level(sizes: list[tuple[int, int]], alpha: float) -> None:
    known = tuple(sizes)
    place = ranks.depth(known, alpha)
    assert place == 0 or ranks.p_value(known, place - 1) <= alpha
    assert ranks.p_value(known, place) > alpha


# -- what cannot be decided --------------------------------------------------------------------------------------------------------


def test_one_run_a_side_says_nothing() -> None:
    one = effect.estimate([Sides(np.log([100.0]), np.log([50.0]))], ALPHA)
    assert (one.low, one.high, one.method) == (None, None, "none")
    assert verdict.decide(one, one.p, ALPHA, "higher", MARGIN).verdict == "inconclusive"


def test_the_same_number_every_time_is_the_same() -> None:
    same = np.log([5.0] * 4)
    one = effect.estimate([Sides(same, same)], ALPHA)
    assert (one.low, one.high, one.p) == (0.0, 0.0, 1.0)
    assert verdict.decide(one, one.p, ALPHA, "", MARGIN).verdict == "same"


def test_a_tie_speaks_for_no_change() -> None:
    theirs, mine = np.log([1.0, 2.0, 3.0, 4.0]), np.log([4.0, 5.0, 6.0, 7.0])
    assert effect.estimate([Sides(theirs, mine)], ALPHA).p > 2 / 70


def test_what_differs_between_campaigns_is_noise_too() -> None:
    """Within each night all runs agree, from night to night they do not: one more such night is no regression."""
    nights = np.log([100.0, 97.0, 103.0, 99.0, 102.0])
    runs = np.repeat(nights, 4) + np.tile([0.0, 0.001, -0.001, 0.0005], 5)
    mine = np.log(96.0) + np.array([0.0, 0.001, -0.001, 0.0005])
    one = effect.estimate([Sides(runs, mine)], ALPHA)
    assert verdict.decide(one, one.p, ALPHA, "higher", MARGIN).verdict == "regressed"
    wider = effect.widened(one, nights, float(np.log(96.0)), ALPHA)
    assert wider.low is not None and one.low is not None and wider.low < one.low
    assert verdict.decide(wider, wider.p, ALPHA, "higher", MARGIN).verdict == "inconclusive"
    broken = effect.widened(effect.estimate([Sides(runs, mine - 0.5)], ALPHA), nights, float(np.log(96.0)) - 0.5, ALPHA)
    assert verdict.decide(broken, broken.p, ALPHA, "higher", MARGIN).verdict == "regressed"


# -- many comparisons ----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_correction_is_that_of_benjamini_and_hochberg(p_values: list[float]) -> None:
    assert verdict.adjusted(p_values) == pytest.approx(list(stats.false_discovery_control(p_values, method="bh")))


def test_a_hundred_equal_comparisons_seldom_raise_any_alarm() -> None:
    random = np.random.default_rng(6)
    nights = 0
    for dummy in range(60):
        found = [effect.estimate([Sides(*np.log(normal(random, (2, 6))))], ALPHA) for dummy in range(100)]
        corrected = verdict.adjusted([one.p for one in found])
        nights += any(verdict.decide(one, p, ALPHA, "higher", 0.0).verdict == "regressed" for one, p in zip(found, corrected, strict=True))
    assert nights / 60 <= 0.1


def test_one_regression_among_a_hundred_is_still_found() -> None:
    random = np.random.default_rng(7)
    found = [
        effect.estimate([Sides(*np.log(normal(random, (2, 6)) * [[1.0], [0.8 if place == 0 else 1.0]]))], ALPHA) for place in range(100)
    ]
    corrected = verdict.adjusted([one.p for one in found])
    assert verdict.decide(found[0], corrected[0], ALPHA, "higher", MARGIN).verdict == "regressed"


# -- looks -------------------------------------------------------------------------------------------------------------------------


@given(st.integers(4, 500))
def test_looks_end_at_the_most(most: int) -> None:
    plan = sequential.looks(most)
    assert plan[0] == 4 and plan[-1] == most and plan == sorted(set(plan))
    assert sequential.reached(plan, 3) == 0 and sequential.reached(plan, most + 5) == most
    assert sequential.following(plan, most) == 0 and sequential.following(plan, 0) == 4
