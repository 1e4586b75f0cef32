# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host is bad: what the diagnosis promises on simulated fleets with fixed seeds, and what it must not say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.plugin_utils.judge import fleet, fleet_table, robust
from ansible_collections.mad.engine.plugins.plugin_utils.judge.observations import Key, Observation, Source

Truth = dict[str, bool]


def row(host: str, value: float | None, hardware: str = "8x MI300X", model: str = "m", better: str = "higher", **more: Any) -> Observation:
    key = Key(model, "", "img/s", hardware, "8", "1", 0)
    told = {"status": "SUCCESS" if value is not None else "FAILURE", "failure_class": "" if value is not None else "crash", **more}
    return Observation(key, model, hardware, better, value, told["status"], told["failure_class"], "c", "", host, 1, 0.0)


def simulated(
    seed: int, hosts: int = 1000, bad: float = 0.1, classes: int = 3, runs: int = 5, wide: float = 0.0, better: str = "higher"
) -> tuple[Source, Truth]:
    """A fleet: hosts of a class differ by 0.5 percent, runs by 1 percent; bad hosts lose 3 to 15 percent, or scatter `wide` times as much."""
    random = np.random.default_rng(seed)
    truth = {"h%d" % place: bool(random.random() < bad) for place in range(hosts)}
    rows = []
    for place, (host, broken) in enumerate(truth.items()):
        loss = 1.0 - random.uniform(0.03, 0.15) if broken and not wide else 1.0
        speed = 100.0 * (1 + place % classes) * (1 + 0.005 * random.standard_normal())
        speed = speed * loss if better == "higher" else speed / loss
        scatter = 0.01 * (wide if broken and wide else 1.0)
        numbers = speed * (1 + scatter * random.standard_normal(runs))
        rows += [row(host, float(value), "class %d" % (place % classes), better=better) for value in numbers]
    return Source("simulated", rows, []), truth


def judged(source: Source, truth: Truth) -> tuple[float, float]:
    """(part of the bad hosts that were found, part of the healthy ones that were accused)."""
    entries, _warnings = fleet.diagnose(source, fleet.Limits())
    accused = {entry["host"] for entry in entries if entry["bad"]}
    bad = {host for host, broken in truth.items() if broken}
    return len(accused & bad) / max(1, len(bad)), len(accused - bad) / (len(truth) - len(bad))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("bad", "better"), [(0.1, "higher"), (0.1, "lower"), (0.3, "higher")])
def test_a_thousand_hosts_in_three_classes(seed: int, bad: float, better: str) -> None:
    recall, false = judged(*simulated(seed, bad=bad, better=better))
    assert recall >= 0.95 and false <= 0.01


def test_a_healthy_fleet_has_no_bad_host() -> None:
    assert [judged(*simulated(seed, bad=0.0, hosts=300))[1] for seed in range(5)] == [0.0] * 5


def test_hosts_of_the_usual_median_that_scatter_more() -> None:
    source, truth = simulated(4, wide=5.0, runs=10)
    recall, false = judged(source, truth)
    assert recall >= 0.95 and false <= 0.01
    kinds = {entry["verdict"] for entry in fleet.diagnose(source, fleet.Limits())[0] if entry["bad"] and truth[entry["host"]]}
    assert "unsteady" in kinds


def test_classes_are_not_mixed() -> None:
    """Twenty slow machines of an old kind beside twenty fast ones: nobody is bad."""
    random = np.random.default_rng(5)
    rows = [
        row("h%d" % place, (100.0 if place % 2 else 60.0) * (1 + 0.003 * random.standard_normal()), "kind %d" % (place % 2))
        for place in range(40)
    ]
    entries, _warnings = fleet.diagnose(Source("s", rows, []), fleet.Limits())
    assert {entry["verdict"] for entry in entries} == {"healthy"}


def test_a_small_deviation_accuses_nobody() -> None:
    """One percent slower, and beyond any doubt: nobody repairs that."""
    random = np.random.default_rng(6)
    rows = [
        row("h%d" % place, 100.0 * (0.99 if place == 3 else 1.0) * (1 + 1e-4 * random.standard_normal()))
        for place in range(20)
        for dummy in range(5)
    ]
    assert not any(entry["bad"] for entry in fleet.diagnose(Source("s", rows, []), fleet.Limits())[0])
    accused = [entry["host"] for entry in fleet.diagnose(Source("s", rows, []), fleet.Limits(least=0.005))[0] if entry["bad"]]
    assert accused == ["h3"]


def test_a_host_where_everything_fails() -> None:
    rows = [row("h%d" % place, 100.0 + place) for place in range(9)] + [row("h9", None), row("h9", None)]
    entries, _warnings = fleet.diagnose(Source("s", rows, []), fleet.Limits(least=0.2))
    assert (entries[0]["host"], entries[0]["verdict"], entries[0]["evidence"][0]["runs"]) == ("h9", "failing", 2)
    assert "m failed 2 of 2 times, most of 10 hosts succeed" in fleet_table.reason(entries[0])


def test_a_model_that_fails_everywhere_accuses_nobody() -> None:
    rows = [row("h%d" % place, None) for place in range(9)] + [row("h9", 5.0)]
    assert not any(entry["bad"] for entry in fleet.diagnose(Source("s", rows, []), fleet.Limits())[0])


def test_five_hosts_are_no_class() -> None:
    rows = [row("h%d" % place, 100.0 if place else 1.0) for place in range(5)]
    entries, _warnings = fleet.diagnose(Source("s", rows, []), fleet.Limits())
    assert {entry["verdict"] for entry in entries} == {"unjudged"}
    assert "Not judged (fewer than 6 hosts" in "\n".join(fleet_table.render(entries, "s"))


def test_a_direction_that_nobody_declares_accuses_nobody() -> None:
    rows = [row("h%d" % place, 100.0 if place else 1.0, better="") for place in range(20)]
    entries, warnings = fleet.diagnose(Source("s", rows, []), fleet.Limits())
    assert not any(entry["bad"] for entry in entries) and "mad_better" in warnings[-1]
    entries, _warnings = fleet.diagnose(Source("s", rows, []), fleet.Limits(better={"img/s": "higher"}))
    assert entries[0]["host"] == "h0" and entries[0]["bad"]


def test_equal_numbers_everywhere() -> None:
    rows = [row("h%d" % place, 5.0) for place in range(20) for dummy in range(4)]
    assert {entry["verdict"] for entry in fleet.diagnose(Source("s", rows, []), fleet.Limits())[0]} == {"healthy"}


def test_the_table_names_the_worst_first_and_what_speaks_against_it() -> None:
    random = np.random.default_rng(7)
    rows = [
        row("node%02d.example.com" % place, (80.0 if place == 3 else 100.0) * (1 + 0.005 * random.standard_normal()))
        for place in range(20)
        for dummy in range(3)
    ]
    entries, _warnings = fleet.diagnose(Source("night", rows, []), fleet.Limits())
    lines = fleet_table.render(entries, "night")
    (line,) = [text for text in lines if "slow" in text and "node03" in text]
    assert "img/s" in line and "-19.8%" in line and max(map(len, lines)) <= 80
    assert lines[-1] == "20 hosts: 1 slow, 19 healthy"


# -- the core ------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.floats(0.0, 0.4), st.floats(-1e6, 1e6))
def test_the_core_is_that_of_the_healthy(seed: int, bad: float, middle: float) -> None:
    """Whatever up to 40 percent of a fleet do."""
    random = np.random.default_rng(seed)
    values = middle + random.standard_normal(400)
    values[: int(400 * bad)] = middle - 8.0 - 100.0 * random.random(int(400 * bad))
    found = robust.core(values)
    assert abs(found.centre - middle) < 0.5 and 0.7 < found.scale < 1.4


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_the_core_of_anything_is_finite(values: list[float]) -> None:
    found = robust.core(np.array(values))
    assert min(values) - 1e-6 <= found.centre <= max(values) + 1e-6 and found.scale >= 0
