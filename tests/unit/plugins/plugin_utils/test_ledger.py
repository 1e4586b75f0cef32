# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing the ledger: planned runs = rows, whatever happened to their hosts."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Any, Dict, Optional

import jsonschema
import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import ledger as ledgers
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, run_id, schema, success

VALIDATOR = jsonschema.Draft202012Validator(schema())
ONE = run_id(1)


def complete(campaign: Campaign, hosts: Dict[str, Any], **options: Any) -> ledgers.Ledger:
    ledger = ledgers.complete(campaign, campaign.plan(), ledgers.hosts_of(hosts), **options)
    for record in ledger.records.values():
        VALIDATOR.validate(record)
    return ledger


def launch(campaign: Campaign, attempt: int = 1) -> None:
    campaign.save_attempt({"run_id": ONE, "attempt": attempt, "launch": {"container": "mad-x"}})


# state of the host, started?, waited? -> status and class; None: pending
TABLE = [
    ("unreachable", False, True, "infra"),
    ("unreachable", True, True, "lost_contact"),
    ("lost", False, True, "infra"),
    ("lost", True, True, "lost_contact"),
    ("failed", False, True, "infra"),
    ("failed", True, True, "lost_contact"),
    ("stopped", False, True, "SKIPPED"),
    ("stopped", True, True, "lost_contact"),
    ("ok", False, True, "infra"),
    ("ok", True, True, "lost_contact"),
    ("ok", False, False, None),
    ("ok", True, False, None),
    ("unreachable", False, False, "infra"),
    ("lost", True, False, "lost_contact"),
    ("", False, True, "infra"),
    ("", True, True, None),
    ("", True, False, None),
]


@pytest.mark.parametrize(("state", "started", "wait", "expected"), TABLE)
def test_every_way_a_host_can_end(tmp_path: Any, state: str, started: bool, wait: bool, expected: Optional[str]) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    if started:
        launch(campaign)
    hosts = {"n1": {"state": state, "reason": "because"}} if state else {}
    ledger = complete(campaign, hosts, wait=wait)
    if expected is None:
        assert (ledger.records, ledger.pending, campaign.result(ONE)) == ({}, [ONE], None)
        return
    record = ledger.records[ONE]
    assert record == campaign.result(ONE)
    assert (record["failure_class"] or record["status"]) == expected
    assert not state or "because" in record["reason"]
    assert record["launched"] is started
    assert ledger.pending == []


def test_rows_equal_planned_runs_for_every_mixture(tmp_path: Any) -> None:
    states = ["ok", "unreachable", "lost", "failed", "stopped", ""]
    runs, number = [], 0
    for state, results in itertools.product(states, (None, "success", "launch", "planned")):
        number += 1
        outcome = {"status": "SKIPPED", "reason": "deprecated"} if results == "planned" else None
        runs.append((results, make_run(number, place={"host": "host-" + state}, outcome=outcome)))
    campaign = make_campaign(tmp_path, [run for _kind, run in runs])
    for kind, run in runs:
        if kind == "success":
            campaign.save_result(success(run["order"], place=run["place"]))
        if kind == "launch":
            campaign.save_attempt({"run_id": run["id"], "attempt": 1, "launch": {"container": "x"}})
    hosts = {"host-" + state: {"state": state, "reason": "why"} for state in states if state}
    ledger = complete(campaign, hosts)
    assert list(ledger.records) + ledger.pending == sorted([run["id"] for _kind, run in runs], key=lambda one: (one in ledger.pending, one))
    assert len(ledger.pending) == 1  # only what runs on a host that took no part
    again = complete(campaign, hosts)
    assert (again.written, again.records, again.pending) == (0, ledger.records, ledger.pending)


def test_what_a_target_judged_stands(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    campaign.save_result(crash())
    for state in ledgers.HOST_STATES:
        assert complete(campaign, {"n1": state}).records[ONE]["failure_class"] == "crash"


def test_what_was_cancelled_before_it_was_started_stays_cancelled(tmp_path: Any) -> None:
    """mad.engine.cancel while images are built: the play that goes on writes the same row, one with a new attempt another."""
    campaign = make_campaign(tmp_path, [make_run()])
    record = complete(campaign, {"n1": {"state": "ok", "class": "cancelled"}}).records[ONE]
    assert (record["failure_class"], record["reason"], record["launched"]) == ("cancelled", "it had not been started", False)
    assert complete(campaign, {"n1": "ok"}).records[ONE] == record
    campaign.save_plan(dict(campaign.plan(), runs=[make_run(attempt=2)]))
    assert complete(campaign, {"n1": "ok"}).records[ONE]["failure_class"] == "infra"


def test_what_the_controller_filled_is_judged_anew(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    assert complete(campaign, {"n1": {"state": "unreachable", "reason": "a"}}).written == 1
    assert complete(campaign, {"n1": {"state": "failed", "reason": "b", "class": "placement"}}).records[ONE]["failure_class"] == "placement"
    assert complete(campaign, {}).records[ONE]["failure_class"] == "placement"  # nobody asked this host
    launch(campaign)
    assert complete(campaign, {"n1": "ok"}, wait=False).pending == [ONE]
    campaign.save_result(success())
    assert complete(campaign, {"n1": "lost"}).records[ONE]["status"] == "SUCCESS"


def test_a_planned_retry_without_a_result(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(attempt=2)])
    campaign.save_result(crash())
    record = complete(campaign, {"n1": {"state": "unreachable", "reason": "gone"}}).records[ONE]
    assert (record["attempt"], record["failure_class"]) == (2, "infra")
    older = campaign.attempt(ONE, 1)
    assert older and older["result"]["failure_class"] == "crash"


def test_the_plan_decides_until_a_target_has(tmp_path: Any) -> None:
    outcome = {"status": "FAILURE", "failure_class": "image", "reason": "no Dockerfile"}
    campaign = make_campaign(tmp_path, [make_run(outcome=outcome)])
    assert complete(campaign, {"n1": "unreachable"}).records[ONE]["failure_class"] == "image"
    campaign.save_result(success())
    assert complete(campaign, {"n1": "ok"}).records[ONE]["status"] == "SUCCESS"


def test_what_was_decided_when_it_was_staged_stands(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    unbuilt = make_run(outcome={"status": "FAILURE", "failure_class": "image", "reason": "it was not built"})
    campaign.save_result(records.make_planned_record(unbuilt))
    assert complete(campaign, {"n1": "ok"}).records[ONE]["failure_class"] == "image"


def test_commit_of_the_repository(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    campaign.save_result(success())
    record = complete(campaign, {"n1": "ok"}).records[ONE]
    assert (record["repo_commit"], record["dirty"]) == ("c" * 40, False)
    assert campaign.result(ONE) == record


def test_an_unreadable_result_is_kept_aside_and_run_again(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    folder = campaign.run_dir(ONE, make=True)
    with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as stream:
        stream.write('{"half": ')
    ledger = complete(campaign, {"n1": "ok"})
    assert ledger.records[ONE]["failure_class"] == "infra"
    assert "not valid JSON" in ledger.records[ONE]["reason"]
    assert sorted(os.listdir(folder)) == [".lock", "attempt-1.json", "result.json", "result.json.unreadable"]
    assert "result.json.unreadable" in ledger.notes[0]
    assert campaign.unfinished() == [ONE]
    campaign.save_result(success())
    assert complete(campaign, {"n1": "ok"}).records[ONE]["status"] == "SUCCESS"


def test_runs_of_an_earlier_plan_are_not_dropped(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1)])
    campaign.save_result(success(7))
    with open(os.path.join(campaign.run_dir(run_id(8), make=True), "result.json"), "w", encoding="utf-8") as stream:
        stream.write("x")
    ledger = complete(campaign, {"n1": "ok"})
    assert list(ledger.others) == [run_id(7)]
    assert "not in the plan" in ledger.notes[0]


def test_a_full_disk_costs_no_row_of_the_answer(tmp_path: Any, monkeypatch: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])

    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Batch, "write", full)
    ledger = complete(campaign, {"n1": "unreachable"})
    assert len(ledger.records) == 2
    assert len(ledger.problems) == 2
    assert "No space left on device" in ledger.problems[0]


def test_of_many_rows_that_are_written_together_one_that_is_refused_costs_itself(tmp_path: Any, monkeypatch: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(number) for number in range(1, 151)])
    write = files.Batch.write

    def refuse(batch: Any, path: str, *arguments: Any) -> None:
        if run_id(70) in path:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        write(batch, path, *arguments)

    monkeypatch.setattr(files.Batch, "write", refuse)
    ledger = complete(campaign, {"n1": "unreachable"})
    assert (len(ledger.records), len(ledger.problems), len(campaign.results()[0])) == (150, 1, 149)
    assert run_id(70) in ledger.problems[0] and campaign.unfinished("failed")
    monkeypatch.undo()
    assert (complete(campaign, {"n1": "unreachable"}).written, len(campaign.results()[0])) == (1, 150)


def test_check_mode_touches_nothing(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])
    campaign.save_result({**success(1), "repo_commit": "c" * 40})
    before = sorted(os.walk(tmp_path))
    ledger = complete(campaign, {"n1": "unreachable"}, write=False)
    assert (len(ledger.records), ledger.written) == (2, 1)
    assert sorted(os.walk(tmp_path)) == before


@pytest.mark.parametrize("given", [{"n1": "fine"}, {"n1": None}, {"n1": {}}, {"n1": {"state": "ok", "class": "weird"}}, {"n1": ["ok"]}])
def test_bad_hosts_are_named(given: Dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="hosts: n1 has"):
        ledgers.hosts_of(given)
