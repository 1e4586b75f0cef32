# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record: golden document, schema for every kind of record, hostile values."""

from __future__ import annotations

import itertools
import json
import math
import os
from typing import Any, Dict

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.records import FACTS, make_metric, make_outcome, make_parsed, make_run, schema, success

GOLDEN = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, os.pardir, "golden", "record.json")
VALIDATOR = jsonschema.Draft202012Validator(schema())


def check(record: Dict[str, Any]) -> Dict[str, Any]:
    VALIDATOR.validate(record)
    json.dumps(record, allow_nan=False).encode("utf-8")
    return record


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert tuple(schema()["properties"]["failure_class"]["enum"]) == ("", *FAILURE_CLASSES)
    assert set(schema()["required"]) == set(schema()["properties"])


def test_golden() -> None:
    text = json.dumps(check(success()), indent=2, sort_keys=True) + "\n"
    golden.check(GOLDEN, text)


def test_every_outcome_gives_a_valid_record() -> None:
    changes = [{}, {"exit_code": 1}, {"exit_code": None}, {"timed_out": True}, {"cancelled": True}, {"launched": False}, {"times": {}}]
    changes += [{"error": {"class": "image", "reason": ""}}, {"error": {"class": "nonsense", "reason": "x" * 9000}}, {"target": None}]
    outputs = [None, make_parsed(), make_parsed(metrics=[]), make_parsed(errors=[{"pattern": "p", "line": "l", "number": 1}])]
    runs = [make_run(), make_run(image=None, runtime="host"), make_run(skip_model_run=True)]
    runs += [make_run(runtime={"unresolved": "x"}, gpus={"count": {"unresolved": "y"}, "vendor": {"unresolved": "z"}})]
    for run, change, parsed, facts in itertools.product(runs, changes, outputs, (FACTS, None)):
        check(records.make_record(run, make_outcome(**change), parsed, facts))


def test_unresolved_values_are_unknown_not_invented() -> None:
    run = make_run(runtime={"unresolved": "x"}, gpus={"count": {"unresolved": "y"}}, image={"digest": {"unresolved": "built later"}})
    record = check(records.make_unrun_record(run, "infra", "unreachable"))
    assert (record["target"]["runtime"], record["gpus"]["count"], record["image"]["digest"]) == ("", None, "")
    assert record["launched"] is False


def test_unrun_records() -> None:
    record = check(records.make_unrun_record(make_run(), "lost_contact", "never heard of again", launched=True))
    assert (record["status"], record["failure_class"], record["launched"]) == ("FAILURE", "lost_contact", True)
    assert check(records.make_unrun_record(make_run(), "", "stopped: 5 runs failed"))["status"] == "SKIPPED"
    planned = make_run(outcome={"status": "SKIPPED", "failure_class": "", "reason": "deprecated"})
    assert check(records.make_planned_record(planned))["reason"] == "deprecated"
    with pytest.raises(ValueError, match="nonsense"):
        records.make_unrun_record(make_run(), "nonsense", "x")


def test_metrics_are_kept_on_failure_and_the_log_only_then() -> None:
    record = check(records.make_record(make_run(), make_outcome(exit_code=3), make_parsed(), FACTS))
    assert (record["status"], record["metrics"][0]["text"], record["log_excerpt"]) == ("FAILURE", "14164", ["last line"])
    assert success()["log_excerpt"] == []


def test_waiting_is_not_running() -> None:
    times = {"queued": 100.0, "staged": 105.0, "started": 120.0, "finished": 150.5, "model_started": 121.0, "model_finished": 150.0}
    found = records.timings(times, make_run())
    assert {key: found[key] for key in ("stage", "queue", "run", "model", "build")} == {
        **{"stage": 5.0, "queue": 15.0, "run": 30.5, "model": 29.0, "build": 3.5},
    }
    assert records.timings({"queued": 10.0, "staged": 5.0, "started": 12.0}, {})["queue"] == 2.0
    assert records.timings({"started": 20.0, "finished": 10.0}, {})["run"] == 0.0  # a clock that was set back
    odd: Dict[str, Any] = {"started": math.nan, "finished": "now", "queued": True, "staged": None}
    assert set(records.timings(odd, {}).values()) == {None}


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(JSON_VALUES)
def test_plain_fits_into_any_file(value: Any) -> None:
    text = json.dumps(records.plain(value), allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert records.plain(json.loads(text)) == records.plain(value)


def test_hostile_text_survives() -> None:
    args = "'; $(rm -rf /) \"\n\t=1+1 \u202e \ud800 " + "x" * 10_000_000
    record = check(records.make_record(make_run(args=args), make_outcome(), make_parsed(metrics=[make_metric(row="\ud800")]), FACTS))
    assert record["args"] == args.replace("\ud800", "?")
