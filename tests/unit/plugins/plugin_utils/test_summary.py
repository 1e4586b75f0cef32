# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""summary.json: exit codes, golden document, the command to go on."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils import ledger as ledgers
from ansible_collections.mad.engine.plugins.plugin_utils import summary
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.records import CAMPAIGN, crash, make_campaign, make_run, success

GOLDEN = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "golden", "summary.json")


def failure(failure_class: str) -> Any:
    return {"status": "FAILURE", "failure_class": failure_class}


@pytest.mark.parametrize(
    ("classes", "builds_failed", "problems", "code"),
    [
        ([], False, [], 0),
        ([], False, ["disk full"], 1),
        ([], True, [], 2),
        (["image"], False, [], 2),
        (["image", "image"], True, ["disk full"], 2),
        (["crash"], False, [], 3),
        (["image", "infra"], True, ["disk full"], 3),
        (["no_metric"], True, [], 3),
    ],
)
def test_exit_codes(classes: List[str], builds_failed: bool, problems: List[str], code: int) -> None:
    records = [failure(name) for name in classes] + [{"status": "SUCCESS", "failure_class": ""}, {"status": "SKIPPED", "failure_class": ""}]
    assert summary.exit_code(records, builds_failed, problems) == code


def make_summary(tmp_path: Any) -> Any:
    runs = [make_run(number) for number in (1, 2, 3, 4)]
    campaign = make_campaign(tmp_path, [*runs, make_run(5, place={"host": "n2"}), make_run(6, place={"host": "n3"})])
    for record in (success(1), crash(2), success(3)):
        campaign.save_result(record)
    states = {"n1": {"state": "stopped", "reason": "1 run failed"}, "n2": {"state": "unreachable", "reason": "no route"}, "n3": "ok"}
    ledger = ledgers.complete(campaign, campaign.plan(), ledgers.hosts_of(states), wait=False)
    return campaign, summary.summarise(campaign, campaign.plan(), ledger, {"built": 1, "failed": {"ci-x": "no"}}, [], ["index locked"])


def test_golden(tmp_path: Any) -> None:
    campaign, found = make_summary(tmp_path)
    text = json.dumps(found, indent=2, sort_keys=True).replace(str(tmp_path), "/results") + "\n"
    golden.check(GOLDEN, text)
    counts = found["counts"]
    assert counts["planned"] == counts["success"] + counts["failure"] + counts["skipped"] + counts["pending"] == 6
    small = summary.small(found)
    assert len(json.dumps(small)) < 1000
    assert (small["exit_code"], small["failure"], small["pending"], small["again"]) == (3, 2, 1, 3)


def test_written_three_times_and_only_when_it_changed(tmp_path: Any) -> None:
    campaign, found = make_summary(tmp_path)
    copy = tmp_path / "deep" / "copy.json"
    assert summary.write(campaign, found, str(copy))
    assert not summary.write(campaign, found, str(copy))
    for path in (campaign.summary_path, campaign.last_summary_path, str(copy)):
        with open(path, encoding="utf-8") as stream:
            assert json.load(stream)["exit_code"] == 3
    copy.write_text("{")
    assert summary.write(campaign, found, str(copy))
    with pytest.raises(InvalidInput, match="cannot be written"):
        summary.write(campaign, found, str(copy / "below"))


def test_the_command_to_go_on_is_quoted_and_said_once() -> None:
    plan = {"command": ["ansible-playbook", "mad.engine.run", "-e", "mad_tags=a b;$(x)"]}
    command = summary.resume_command(plan, CAMPAIGN)
    assert shlex.split(command) == [*plan["command"], "-e", "mad_campaign=" + CAMPAIGN]
    assert summary.resume_command({"command": shlex.split(command)}, CAMPAIGN) == command
    assert summary.resume_command({}, "x") == "ansible-playbook mad.engine.run -e mad_campaign=x"


def test_a_play_that_never_had_a_campaign(tmp_path: Any) -> None:
    copy = tmp_path / "copy.json"
    summary.refuse(str(tmp_path / "results"), "neither mad_tags nor mad_manifest", output=str(copy))
    for path in (tmp_path / "results" / "last-summary.json", copy):
        found = json.loads(path.read_text())
        assert (found["exit_code"], found["problems"]) == (4, ["neither mad_tags nor mad_manifest"])


def test_messages(tmp_path: Any) -> None:
    _campaign, found = make_summary(tmp_path)
    assert summary.message(found) == "2 of 6 runs failed (1 crash, 1 infra); builds failed: ci-x"
    found.update(counts=dict(found["counts"], failure=0), builds={"failed": {}}, problems=["perf.csv cannot be written"])
    assert summary.message(found) == "perf.csv cannot be written"
    found["problems"] = []
    assert summary.message(found) == "5 of 6 runs have a row, none failed"
