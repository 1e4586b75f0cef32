# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers over time: intervals as in the textbook, changes of level found where they are and nowhere else."""

from __future__ import annotations

import random
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.plugin_utils.report import entries
from ansible_collections.mad.engine.plugins.plugin_utils.report.series import Sample, change_points, interval, series
from ansible_collections.mad.engine.tests.support import reports


def test_interval_of_the_mean() -> None:
    low, high = interval([10.0, 12.0, 14.0])
    assert (low, high) == pytest.approx((12 - 4.30265 * 2 / 3**0.5, 12 + 4.30265 * 2 / 3**0.5), rel=1e-5)
    assert interval([1.0]) == interval([]) == (None, None)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    dice = random.Random(5)
    hits = 0
    for _round in range(1000):
        low, high = interval([dice.gauss(100.0, 3.0) for _number in range(5)])
        hits += low is not None and high is not None and low <= 100.0 <= high
    assert 930 <= hits <= 970


def nights(dice: random.Random, levels: List[float], each: int) -> List[Any]:
    return [
        (float(place), dice.gauss(level, 0.005 * level)) for place, level in enumerate(level for level in levels for _night in range(each))
    ]


def test_a_change_of_level_is_found_where_it_is() -> None:
    found = change_points(nights(random.Random(1), [100.0, 96.0], 10))
    assert [time for time, dummy in found] == [10.0]
    assert found[0][1] == pytest.approx(-0.04, abs=0.01)


def test_there_and_back_are_two_changes() -> None:
    assert [time for time, dummy in change_points(nights(random.Random(2), [100.0, 95.0, 100.0], 8))] == [8.0, 16.0]


def test_noise_alone_changes_hardly_ever() -> None:
    dice = random.Random(3)
    alarms = sum(bool(change_points(nights(dice, [100.0], 20))) for _round in range(500))
    assert alarms <= 10  # 1 % promised, on 500


@given(st.lists(st.floats(-entries.MOST, entries.MOST), max_size=20))
def test_any_numbers_at_all(values: List[float]) -> None:
    points = [(float(place), value) for place, value in enumerate(values)]
    assert all(2 <= time <= len(values) - 2 for time, dummy in change_points(points))
    low, high = interval(values)
    assert len(values) < 2 or (low is not None and high is not None and low <= high)


def test_a_constant_that_steps() -> None:
    assert change_points([(0.0, 5.0), (1.0, 5.0), (2.0, 5.0), (3.0, 10.0), (4.0, 10.0)]) == [(3.0, 1.0)]


def test_series_of_campaigns_and_of_the_past(tmp_path: Any) -> None:
    read = [entries.read(reports.fleet(tmp_path, "c%d" % night, night=night, models=1, hosts=3, failing=0.0), night) for night in (1, 2)]
    found = [entry._replace(campaign=place) for place, runs in enumerate(read) for entry in runs.entries]
    past = {("llm/llama-3.1-8b", "tokens_per_second", reports.hardware(0, 3)): [Sample("c0", reports.NIGHT, [11000.0], 2)]}
    lines = series(found, ["c1", "c2"], past)
    assert [(line["hardware"], line["better"], line["of"]) for line in lines] == [
        (reports.hardware(2, 3), "higher", "llm/llama-3.1-8b"),
        (reports.hardware(0, 3), "higher", "llm/llama-3.1-8b"),
    ]
    points = lines[1]["points"]
    assert [point[0] for point in points] == ["c0", "c1", "c2"]
    assert points[0][2:] == [1, 11000.0, None, None, 11000.0, 11000.0, 2]
    assert all(point[4] < point[3] < point[5] and point[2] == 6 for point in points[1:])
