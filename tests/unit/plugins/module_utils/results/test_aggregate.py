# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several nodes' metrics become one, by declared rules only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import aggregate, metrics

NAMES = st.sampled_from(["tokens_per_second", "latency", "memory_gb", "strange"])
NODES = st.lists(st.lists(st.tuples(NAMES, st.integers(-1000, 1000)), max_size=4), max_size=4)


def nodes_of(values: list[list[tuple[str, int]]]) -> list[list[dict[str, object]]]:
    return [[metrics.metric(name, str(value)) for name, value in node] for node in values]


@pytest.mark.parametrize(
    ("name", "values", "total"),
    [("tokens_per_second", (100, 100), 200.0), ("latency", (10, 20), 15.0), ("memory_gb", (5, 7), 7.0), ("strange", (1, 2), 1.0)],
)
def test_the_table_of_the_reference(name: str, values: tuple[int, int], total: float) -> None:
    (found,), notes = aggregate.combine(nodes_of([[(name, value)] for value in values]), {})
    assert found["value"] == total
    assert ("no rule" in notes[0]) == (name == "strange")


def test_what_is_declared_comes_first() -> None:
    nodes = nodes_of([[("latency", 10)], [("latency", 30)]])
    assert aggregate.combine(nodes, {"latency": "min"})[0][0]["text"] == "10"
    assert aggregate.combine(nodes, {"*": "sum"})[0][0]["value"] == 40.0
    with pytest.raises(InvalidInput, match="distributed.aggregation.x: expected one of sum, mean, max, min, first, not 'middle'"):
        aggregate.check({"x": "middle"}, "distributed.aggregation")


@given(NODES)
def test_no_name_is_lost_and_one_node_stays_as_it_is(values: list[list[tuple[str, int]]]) -> None:
    nodes = nodes_of(values)
    found, dummy = aggregate.combine(nodes, {})
    assert {metric["name"] for metric in found} == {name for node in values for name, _value in node}
    assert len(found) == len({metric["name"] for metric in found})
    for metric in found:
        own = [entry for node in nodes for entry in node if entry["name"] == metric["name"]]
        if len(own) == 1:
            assert metric == own[0]
