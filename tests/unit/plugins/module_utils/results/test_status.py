# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one decision: a table over every combination of causes, and the rules for retries and reruns."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Optional

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import status
from ansible_collections.mad.engine.tests.support.records import make_metric, make_outcome, make_parsed, make_run

ERROR = {"pattern": "RuntimeError:", "line": "RuntimeError: boom", "number": 7}
PROBLEM = {"class": "parse", "reason": "lacks columns"}


def expected(outcome: Dict[str, Any], parsed: Optional[Dict[str, Any]]) -> str:
    """The failure class by the written order of causes, "" for success."""
    for cause in ("cancelled", "preempted"):
        if outcome[cause]:
            return cause
    if outcome["error"]:
        return str(outcome["error"]["class"])
    if not outcome["launched"]:
        return "launch"
    for cause, name in (("oom", "oom"), ("timed_out", "timeout"), ("signal", "crash")):
        if outcome[cause]:
            return name
    if outcome["exit_code"] is None:
        return "infra"
    if outcome["exit_code"] != 0:
        return "crash"
    if not parsed:
        return "no_metric"
    if parsed["errors"]:
        return "error_pattern"
    if parsed["problem"]:
        return "parse"
    return "" if parsed["metrics"] and all(metric["text"] for metric in parsed["metrics"]) else "no_metric"


def test_every_combination() -> None:
    flags, errors = [(False, True)] * 4, (None, {"class": "launch", "reason": "no"})
    outcomes = itertools.product((True, False), (0, 1, 137, None), (0, 9), *flags, errors)
    keys = ("launched", "exit_code", "signal", "timed_out", "oom", "cancelled", "preempted", "error")
    outputs = [None] + [
        make_parsed(errors=lines, problem=problem, metrics=metrics)
        for lines in ([], [ERROR])
        for problem in (None, PROBLEM)
        for metrics in ([], [make_metric()], [make_metric(row="a"), make_metric(row="b", text="", value=None)])
    ]
    seen = set()
    for values, parsed in itertools.product(outcomes, outputs):
        outcome = dict(zip(keys, values))
        decision = status.decide(make_run(), outcome, parsed)
        failure_class = expected(outcome, parsed)
        assert decision["failure_class"] == failure_class, (outcome, parsed)
        assert decision["status"] == ("FAILURE" if failure_class else "SUCCESS")
        assert bool(decision["reason"]) == bool(failure_class)
        seen.add(failure_class)
    assert {"", "cancelled", "preempted", "launch", "oom", "timeout", "crash", "infra", "error_pattern", "parse", "no_metric"} == seen


@pytest.mark.parametrize("missing", ["launched", "exit_code"])
def test_what_is_not_said_is_not_a_success(missing: str) -> None:
    outcome = make_outcome()
    del outcome[missing]
    assert status.decide(make_run(), outcome, make_parsed())["status"] == "FAILURE"
    assert status.decide(make_run(), {}, None)["status"] == "FAILURE"


@pytest.mark.parametrize("code", ["0", False, 0.0])
def test_only_the_number_zero_is_zero(code: Any) -> None:
    assert status.decide(make_run(), make_outcome(exit_code=code), make_parsed())["status"] == "FAILURE"


@pytest.mark.parametrize("failure_class", FAILURE_CLASSES)
def test_an_error_of_the_target_keeps_its_class(failure_class: str) -> None:
    outcome = make_outcome(error={"class": failure_class, "reason": "why"})
    assert status.decide(make_run(), outcome, make_parsed()) == {"status": "FAILURE", "failure_class": failure_class, "reason": "why"}


def test_an_unknown_class_is_infra() -> None:
    assert status.decide(make_run(), make_outcome(error={"class": "weird"}), None)["failure_class"] == "infra"


def test_the_plan_decided() -> None:
    skipped = {"status": "SKIPPED", "failure_class": "", "reason": "deprecated"}
    assert status.decide(make_run(outcome=skipped), {}, None) == skipped
    failed = {"status": "FAILURE", "failure_class": "image", "reason": "no Dockerfile"}
    assert status.decide(make_run(outcome=failed), make_outcome(), make_parsed()) == failed
    odd = status.decide(make_run(outcome={"status": "SUCCESS"}), make_outcome(), make_parsed())
    assert (odd["status"], odd["failure_class"]) == ("FAILURE", "invalid")


def test_prepared_only() -> None:
    run = make_run(skip_model_run=True)
    assert status.decide(run, make_outcome(exit_code=None), None)["status"] == "SKIPPED"
    broken = make_outcome(exit_code=None, error={"class": "launch", "reason": "x"})
    assert status.decide(run, broken, None)["status"] == "FAILURE"


@pytest.mark.parametrize("word", ["false", "False", "0"])
def test_a_worker_needs_no_metric(word: str) -> None:
    run = make_run(env={"MAD_COLLECT_METRICS": word})
    assert status.decide(run, make_outcome(), make_parsed(metrics=[]))["status"] == "SUCCESS"
    assert status.decide(run, make_outcome(), make_parsed(metrics=[], errors=[ERROR]))["status"] == "FAILURE"
    assert status.decide(run, make_outcome(), None)["status"] == "FAILURE"


def test_text_performance_is_a_result() -> None:
    parsed = make_parsed(metrics=[make_metric(value=None, text="14-18|32", row="cpu")])
    assert status.decide(make_run(), make_outcome(), parsed)["status"] == "SUCCESS"


def test_reasons_tell_what_to_look_at() -> None:
    parsed = make_parsed(errors=[ERROR])
    assert "RuntimeError: boom" in status.decide(make_run(), make_outcome(exit_code=1), parsed)["reason"]
    assert "SIGKILL" in status.decide(make_run(), make_outcome(exit_code=137), parsed)["reason"]
    assert "SIGSEGV" in status.decide(make_run(), make_outcome(signal=11), parsed)["reason"]
    assert "7200" in status.decide(make_run(), make_outcome(timed_out=True), parsed)["reason"]
    missing = [make_metric(row="m%d" % number, text="", value=None) for number in range(9)]
    reason = status.decide(make_run(), make_outcome(), make_parsed(metrics=missing))["reason"]
    assert reason == "9 of 9 results have no performance: m0, m1, m2, m3, m4, ..."


@pytest.mark.parametrize(
    ("resumable", "code", "failure_class", "kind"),
    [
        (True, 75, "preempted", "free"),
        (True, 93, "crash", ""),
        (True, 1, "crash", "counted"),
        (False, 75, "crash", "counted"),
        (False, 93, "crash", "counted"),
        ("yes", 75, "crash", "counted"),
        (True, 0, "", ""),
    ],
)
def test_resumable_cards(resumable: Any, code: int, failure_class: str, kind: str) -> None:
    run, outcome = make_run(card={"resumable": resumable}), make_outcome(exit_code=code)
    decision = status.decide(run, outcome, make_parsed())
    assert decision["failure_class"] == failure_class
    assert status.retry_kind(run, outcome, decision) == kind


def test_cancelled_runs_are_not_tried_again() -> None:
    outcome = make_outcome(cancelled=True, exit_code=75)
    run = make_run(card={"resumable": True})
    assert status.retry_kind(run, outcome, status.decide(run, outcome, None)) == ""


def test_what_a_play_runs_again() -> None:
    def record(state: str, failure_class: str = "", reason: str = "") -> Dict[str, str]:
        return {"status": state, "failure_class": failure_class, "reason": reason}

    for failure_class in FAILURE_CLASSES:
        again = failure_class in ("infra", "lost_contact", "preempted")
        assert status.needs_run(record("FAILURE", failure_class)) is again
        assert status.needs_run(record("FAILURE", failure_class), "failed")
    assert status.needs_run(None)
    assert not status.needs_run(record("SUCCESS"), "failed")
    assert status.needs_run(record("SUCCESS"), "all")
    assert not status.needs_run(record("SKIPPED", reason="deprecated"), "failed")
    assert status.needs_run(record("SKIPPED", reason="stopped: 3 runs failed"))
    with pytest.raises(InvalidInput, match="mad_rerun 'some'"):
        status.needs_run(None, "some")


def test_rows_of_one_run() -> None:
    good, bad = make_metric(row="a"), make_metric(row="b", text="", value=None)
    cases = [("SUCCESS", "", good, "SUCCESS"), ("SUCCESS", "", bad, "FAILURE"), ("FAILURE", "no_metric", good, "SUCCESS")]
    cases += [("FAILURE", "no_metric", bad, "FAILURE"), ("FAILURE", "crash", good, "FAILURE"), ("SKIPPED", "", bad, "SKIPPED")]
    for state, failure_class, metric, answer in cases:
        assert status.row_status({"status": state, "failure_class": failure_class}, metric) == answer
