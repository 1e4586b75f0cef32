# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns that are planned again: what is final stays, what runs is attached to, what is asked for again gets a new attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_continue
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, host


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def planned(repo: Path, cards: object = None, hosts: object = None, **options: object) -> dict:
    return plan.make_plan(cards or [card()], hosts or {"n1": host()}, dict(options, campaign="c"), str(repo))


def record(run: dict, status: str, failure_class: str = "", attempt: int = 1, **more: object) -> dict:
    return dict(
        {"run_id": run["id"], "status": status, "failure_class": failure_class, "attempt": attempt, "reason": "", "source": "target"},
        **more,
    )


def again(
    repo: Path, status: str, failure_class: str = "", rerun: str = "missing", launched: int = 1, plan_options: object = None, **more: object
) -> dict:
    """The only run of a second play, after a first that left this row."""
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    run = old["runs"][0]
    rows = {run["id"]: record(run, status, failure_class, **more)} if status else {}
    new = plan_continue.continue_plan(planned(repo, **(plan_options or {})), old, rows, {run["id"]: launched} if launched else {}, rerun)
    (found,) = new["runs"]
    return found


@pytest.mark.parametrize(
    "status,failure_class,rerun,wanted,attempt",
    [
        ("SUCCESS", "", "missing", False, 1),
        ("SUCCESS", "", "failed", False, 1),
        ("SUCCESS", "", "all", True, 2),
        ("FAILURE", "crash", "missing", False, 1),
        ("FAILURE", "crash", "failed", True, 2),
        ("FAILURE", "timeout", "all", True, 2),
        ("FAILURE", "infra", "missing", True, 2),
        ("FAILURE", "preempted", "missing", True, 2),
        ("FAILURE", "cancelled", "missing", False, 1),
        ("FAILURE", "lost_contact", "missing", True, 2),
    ],
)
def test_rerun(repo: Path, status: str, failure_class: str, rerun: str, wanted: bool, attempt: int) -> None:
    run = again(repo, status, failure_class, rerun)
    assert (run["wanted"], run["attempt"]) == (wanted, attempt)


def test_the_first_play_wants_everything(repo: Path) -> None:
    made = plan_continue.continue_plan(planned(repo), None, {}, {})
    assert [(run["wanted"], run["attempt"]) for run in made["runs"]] == [(True, 1)]


def test_what_runs_is_attached_to(repo: Path) -> None:
    assert (again(repo, "", launched=3)["wanted"], again(repo, "", launched=3)["attempt"]) == (True, 3)
    retried = again(repo, "FAILURE", "infra", launched=2)
    assert (retried["wanted"], retried["attempt"]) == (True, 2), "the host is already at the second attempt"


def test_a_lost_contact_that_only_the_controller_says_is_attached_to(repo: Path) -> None:
    run = again(repo, "FAILURE", "lost_contact", source="controller")
    assert (run["wanted"], run["attempt"]) == (True, 1)


def test_an_infra_row_of_the_controller_is_a_new_attempt(repo: Path) -> None:
    run = again(repo, "FAILURE", "infra", launched=0, source="plan")
    assert (run["wanted"], run["attempt"]) == (True, 2)


def test_stopped_runs_are_taken_up_again(repo: Path) -> None:
    assert again(repo, "SKIPPED", reason="stopped: too many failures", launched=0)["wanted"]


def test_a_reason_to_skip_that_no_longer_holds(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo, [card(deprecated=True)]), None, {}, {})
    rows = {old["runs"][0]["id"]: record(old["runs"][0], "SKIPPED", source="plan")}
    still = plan_continue.continue_plan(planned(repo, [card(deprecated=True)]), old, rows, {})
    assert not still["runs"][0]["wanted"]
    now = plan_continue.continue_plan(planned(repo, [card(deprecated=True)], ignore_deprecated=True), old, rows, {})
    assert (now["runs"][0]["wanted"], now["runs"][0]["attempt"], len(now["runs"])) == (True, 2, 1)


def test_final_rows_survive_a_host_that_does_not_answer_now(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    run = old["runs"][0]
    gone = {"n1": plans.unreachable()}
    plan_continue.remember_facts(gone, old)
    assert gone["n1"]["facts"] == old["hosts"]["n1"]["facts"]
    new = plan_continue.continue_plan(planned(repo, hosts=gone), old, {run["id"]: record(run, "SUCCESS")}, {run["id"]: 1})
    assert not new["runs"][0]["wanted"] and not plan_continue.to_execute(new)


def test_a_running_run_of_a_silent_host_is_lost_contact_not_infra(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    run = old["runs"][0]
    new = plan_continue.continue_plan(planned(repo, hosts={"n1": plans.unreachable()}), old, {}, {run["id"]: 1})
    assert new["runs"][0]["outcome"]["failure_class"] == "lost_contact" and new["runs"][0]["attempt"] == 1
    never = plan_continue.continue_plan(planned(repo, hosts={"n1": plans.unreachable()}), old, {}, {})
    assert never["runs"][0]["outcome"]["failure_class"] == "infra"


def test_hosts_and_models_outside_this_play_stay(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo, [card("a"), card("b")], {"n1": host(), "n2": host()}), None, {}, {})
    new = plan_continue.continue_plan(planned(repo, [card("a")], {"n1": host()}), old, {}, {})
    kept = {(run["model"], run["place"]["host"]): run["wanted"] for run in new["runs"]}
    assert kept == {("a", "n1"): True, ("b", "n1"): False, ("a", "n2"): False, ("b", "n2"): False}
    assert list(new["hosts"]) == ["n1", "n2"]
    assert [build["image"] for build in new["builds"]] == ["ci-a_dummy.ubuntu.amd"]


def test_changed_content_replaces_what_ran_and_waits_for_what_runs(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    run = old["runs"][0]
    (repo / "scripts/dummy/run.sh").write_text("changed")
    fresh = plan_continue.continue_plan(planned(repo), old, {}, {})
    assert [entry["id"] == run["id"] for entry in fresh["runs"]] == [False]
    kept = plan_continue.continue_plan(planned(repo), old, {run["id"]: record(run, "SUCCESS")}, {run["id"]: 1})
    assert [(entry["id"] == run["id"], entry["wanted"]) for entry in kept["runs"]] == [(False, True)]
    assert kept["warnings"][-1].startswith("1 runs of this campaign were made with other scripts, Dockerfiles or cards than the repository has")
    assert kept["warnings"][-1].endswith("%s on n1" % run["model"]) and fresh["warnings"] == old["warnings"]
    running = plan_continue.continue_plan(planned(repo), old, {}, {run["id"]: 1})
    assert [(entry["id"] == run["id"], entry["wanted"]) for entry in running["runs"]] == [(False, True), (True, True)], (
        "it still comes home"
    )


def test_other_arguments_are_another_question_and_both_stay(repo: Path) -> None:
    """A sweep in one campaign: what ran with other arguments keeps its row."""
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    run = old["runs"][0]
    other = plan_continue.continue_plan(planned(repo, [card(run["model"], args="--batch 2")]), old, {run["id"]: record(run, "SUCCESS")}, {})
    assert [(entry["id"] == run["id"], entry["wanted"]) for entry in other["runs"]] == [(False, True), (True, False)]
    assert other["warnings"] == old["warnings"]


def test_nothing_to_do_asks_for_no_build_and_is_no_change(repo: Path) -> None:
    old = plan_continue.continue_plan(planned(repo), None, {}, {})
    rows = {run["id"]: record(run, "SUCCESS") for run in old["runs"]}
    new = plan_continue.continue_plan(planned(repo), old, rows, {})
    assert new["builds"] == [] and plan_continue.what_runs(new) == plan_continue.what_runs(old)
    assert plan_continue.what_runs(None) != plan_continue.what_runs(old)


def test_counts(repo: Path) -> None:
    cards = [card(name) for name in ("a", "b", "c", "d")] + [card("e", deprecated=True)]
    old = plan_continue.continue_plan(planned(repo, cards), None, {}, {})
    ids = [run["id"] for run in old["runs"]]
    rows = {ids[0]: record(old["runs"][0], "SUCCESS"), ids[1]: record(old["runs"][1], "FAILURE", "crash")}
    launched = {ids[0]: 1, ids[1]: 1, ids[2]: 1}
    new = plan_continue.continue_plan(planned(repo, cards), old, rows, launched)
    assert plan_continue.counts(new, rows, launched) == {
        "total": 5, "done": 2, "success": 1, "failure": 1, "skipped": 0, "running": 1, "queued": 1, "execute": 2,
    }  # fmt: skip


def test_the_controller_builds_when_no_host_can(repo: Path) -> None:
    made = planned(repo, hosts={"n1": dict(host({"gpu_vendor": "AMD", "guest_os": "UBUNTU"}), facts=plans.NO_ENGINE)}, build_only=True)
    plan_continue.build_hosts(made, "", controller_has_engine=True)
    assert [build["build_host"] for build in made["builds"]] == ["localhost"]
