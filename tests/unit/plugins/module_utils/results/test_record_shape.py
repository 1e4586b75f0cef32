# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records that a host made up or a person edited: refused by name, or good enough for every reader."""

from __future__ import annotations

import copy
import json
from typing import Any, Iterator, Tuple

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.record_shape import problem_of
from ansible_collections.mad.engine.plugins.plugin_utils import summary, table
from ansible_collections.mad.engine.plugins.plugin_utils.history import entries
from ansible_collections.mad.engine.plugins.plugin_utils.store import Options, store
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success

ABSENT = object()
BAD = [
    ABSENT,
    None,
    True,
    -1,
    2**70,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\0",
    [],
    [1],
    [None],
    [[]],
    [{}],
    {},
    {"a": 1},
    {"unresolved": "x"},
]


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Every place in a document; of a list its first entry."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


def damaged(path: Tuple[Any, ...], value: Any) -> Any:
    """A good record with one wrong value."""
    record = copy.deepcopy(success(1))
    part: Any = record
    for key in path[:-1]:
        part = part[key]
    if value is ABSENT:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return record


def test_good_records_have_no_problem() -> None:
    for record in (success(1), crash(1)):
        assert problem_of(record) == "" and problem_of(json.loads(json.dumps(record))) == ""


@pytest.mark.parametrize("path", list(places(success(1))), ids=lambda path: ".".join(map(str, path)))
def test_what_is_let_through_can_be_read_by_all(path: Tuple[Any, ...]) -> None:
    """One wrong value at any place: refused with its key, or rows, index, summary and table take it."""
    for value in BAD:
        record = damaged(path, value)
        problem = problem_of(record)
        if problem:
            assert str(path[0]) in problem
            continue
        found = entries.of_record(record, 0.0)
        told = [json.loads(entry["row_json"]) for entry in found]
        assert told and all(-(2**63) <= entry["repeat"] < 2**63 for entry in found)
        table.render(entries.rows(record))
        summary.durations([record])
        json.dumps(summary._short(record))


@pytest.mark.parametrize(("path", "value"), [(("model",), 5), (("metrics",), [1]), (("timings", "started"), 2**70), (("host",), ABSENT)])
def test_a_damaged_record_costs_its_own_row_alone(tmp_path: Any, path: Tuple[Any, ...], value: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])
    campaign.save_result(success(2))
    with pytest.raises(InvalidInput, match="the result that was sent is not the record of run .*: it"):
        campaign.save_result(damaged(path, value))
    campaign.run_dir("%016x" % 1, make=True)
    with open(campaign.result_path("%016x" % 1), "w", encoding="utf-8") as stream:
        json.dump(damaged(path, value), stream)
    answer = store(campaign, Options({"n1": {"state": "ok"}}))
    assert answer.summary["counts"] == {"planned": 2, "success": 1, "failure": 1, "skipped": 0, "pending": 0}
    assert answer.summary["classes"] == {"infra": 1} and str(path[0]) in "\n".join(answer.lines)
