# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mad.engine.run on an SSH fleet: each host at its own pace, rows whatever happens, nothing twice, and every option of a campaign."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.campaigns import BEGIN, END, GATE, GATED, Campaigns, campaigns

__all__ = ["campaigns"]  # a fixture
FAILING = BEGIN + "exit 7\n"


def began(campaigns: Campaigns, *keys: tuple[str, str]) -> None:
    """Wait until these models have begun on these hosts."""
    campaigns.until(lambda: set(keys) <= set(campaigns.executed("begin")), "%s began" % (keys,))


def test_each_host_at_its_own_pace(campaigns: Campaigns) -> None:
    """Every planned run has its row; hosts with one hostname are told apart; a host that is not done holds up nobody's records."""
    for name in ("n1", "n2", "n3"):
        campaigns.host(name)
    campaigns.host("spare", mad_skip=True)
    campaigns.model("gated", GATED)
    campaigns.model("quick")
    campaigns.open("n1", "n2")
    playing = campaigns.start()
    fast = {(host, model) for host in ("n1", "n2") for model in ("gated", "quick")}
    campaigns.until(lambda: set(campaigns.states()) >= fast, "the rows of the fast hosts")
    assert set(campaigns.states()) == fast, "n3 is still at work"
    campaigns.open("n3")
    played = playing.wait()
    assert played.status == 0, played.output
    records = campaigns.records()
    assert set(records) == fast | {("n3", "gated"), ("n3", "quick")} and len(campaigns.planned()) == len(records) == 6
    assert {one["status"] for one in records.values()} == {"SUCCESS"}
    assert len({one["host"]["hostname"] for one in records.values()}) == 1, "one machine"
    assert campaigns.executed() == dict.fromkeys(records, 1)
    assert max(one["timings"]["finished"] for key, one in records.items() if key in fast) < records["n3", "gated"]["timings"]["finished"]
    log = campaigns.fleet.hosts["spare"].folder / "sshd.log"
    assert "Accepted" not in log.read_text() and campaigns.folders("spare") == [], "nobody logs in to a host with mad_skip"
    again = campaigns.play()
    assert again.status == 0 and not any(counters["changed"] for counters in again.recap().values()), again.output


def test_all_unreachable_then_one_then_the_rest(campaigns: Campaigns) -> None:
    """Rows without a host, the line to resume, one host by --limit, then what is left."""
    for name in ("n1", "n2", "n3"):
        campaigns.host(name)
        campaigns.fleet.hosts[name].kill()
    campaigns.model("quick")
    campaigns.model("other")
    dead = campaigns.play()
    assert dead.status != 0 and "mad_campaign=c1" in dead.output, dead.output
    assert set(campaigns.states().values()) == {"infra"} and len(campaigns.states()) == len(campaigns.planned()) == 6
    assert campaigns.summary()["exit_code"] == 3 and "exit_code 3" in dead.output
    for host in campaigns.fleet.hosts.values():
        host.start()
    before = {key: one for key, one in campaigns.records().items() if key[0] != "n2"}
    one = campaigns.play("run", "--limit", "n2")
    assert {key: one for key, one in campaigns.records().items() if key[0] != "n2"} == before, one.output
    assert set(campaigns.executed()) == {("n2", "quick"), ("n2", "other")} and campaigns.folders("n1") == []
    rest = campaigns.play()
    assert rest.status == 0, rest.output
    assert set(campaigns.states().values()) == {"SUCCESS"} and campaigns.summary()["exit_code"] == 0
    assert campaigns.executed() == dict.fromkeys(campaigns.states(), 1)


def test_a_lost_connection_is_not_a_failed_run(campaigns: Campaigns) -> None:
    """sshd and its sessions go in the middle of polling, and come back: the run has not noticed."""
    for name in ("n1", "n2"):
        campaigns.host(name)
    campaigns.model("gated", GATED)
    playing = campaigns.start(mad_contact_timeout=60)
    began(campaigns, ("n1", "gated"), ("n2", "gated"))
    campaigns.fleet.hosts["n1"].kill()
    campaigns.until(lambda: "no answer from n1" in playing.output() or "UNREACHABLE" in playing.output(), "a poll that fails")
    campaigns.open()
    campaigns.fleet.hosts["n1"].start()
    played = playing.wait()
    assert played.status == 0, played.output
    assert set(campaigns.states().values()) == {"SUCCESS"} and campaigns.executed("begin") == dict.fromkeys(campaigns.states(), 1)


def test_two_controllers_on_one_campaign(campaigns: Campaigns) -> None:
    """Both end well, each run is executed once, there is one row for each."""
    for name in ("n1", "n2"):
        campaigns.host(name)
    for name in ("a", "b", "c"):
        campaigns.model(name, BEGIN + "sleep 0.3\n" + END)
    both = [campaigns.start(), campaigns.start()]
    played = [playing.wait() for playing in both]
    assert [one.status for one in played] == [0, 0], played[0].output + played[1].output
    assert set(campaigns.states().values()) == {"SUCCESS"} and len(campaigns.states()) == 6
    assert campaigns.executed("begin") == dict.fromkeys(campaigns.states(), 1)
    assert campaigns.folders("n1") == campaigns.folders("n2") == [] and campaigns.processes() == []


def test_a_name_used_again(campaigns: Campaigns, tmp_path: Path) -> None:
    """The results folder is gone, the host still holds what that campaign left: it is measured again, and the old records lie aside."""
    campaigns.host("n1")
    campaigns.model("a")
    campaigns.play(mad_keep_model_dir=True)
    first = campaigns.records()["n1", "a"]
    shutil.rmtree(campaigns.results)
    again = campaigns.play(mad_keep_model_dir=True)
    assert again.status == 0 and "another campaign named c1" in again.output, again.output
    second = campaigns.records()["n1", "a"]
    assert campaigns.executed() == {("n1", "a"): 2} and second["run_id"] == first["run_id"]
    assert second["timings"]["started"] > first["timings"]["finished"]
    kept, aside = campaigns.folders("n1")
    assert aside.startswith(kept + "~")
    campaigns.play(mad_keep_model_dir=True)
    assert campaigns.executed() == {("n1", "a"): 2}, "its own folder is its own"


def test_the_same_campaign_from_two_results_folders(campaigns: Campaigns) -> None:
    """A controller that lost its disk joins what runs; nothing is executed twice, and both have the row."""
    campaigns.host("n1")
    campaigns.model("a", GATED)
    campaigns.play(mad_wait=False)
    began(campaigns, ("n1", "a"))
    os.rename(campaigns.results, campaigns.home / "before")
    joined = campaigns.start()
    campaigns.until(lambda: "Ask how far" in joined.output(), "it waits")
    campaigns.open()
    assert joined.wait().status == 0 and campaigns.states() == {("n1", "a"): "SUCCESS"}
    assert campaigns.executed() == {("n1", "a"): 1}


def test_submit_and_collect_later_then_rerun(campaigns: Campaigns) -> None:
    """mad_wait=false leaves the work running; a later play collects; mad_rerun=failed and all; mad_repeats."""
    campaigns.host("n1")
    campaigns.model("gated", GATED)
    campaigns.model("bad", FAILING)
    left = campaigns.play(mad_wait=False, mad_repeats=2)
    assert left.status == 0 and campaigns.summary()["counts"]["pending"] == 4, left.output
    began(campaigns, ("n1", "gated"))
    campaigns.open()
    came = campaigns.play(mad_repeats=2)
    assert came.status != 0 and campaigns.summary()["exit_code"] == 3, came.output
    good, bad = {("n1", "gated"), ("n1", "gated#2")}, {("n1", "bad"), ("n1", "bad#2")}
    assert campaigns.states() == {**dict.fromkeys(good, "SUCCESS"), **dict.fromkeys(bad, "crash")}
    assert campaigns.executed("begin") == {("n1", "gated"): 2, ("n1", "bad"): 2}
    assert (Path(campaigns.results) / "c1" / "runs" / campaigns.records()["n1", "gated#2"]["run_id"] / "run.log").exists()
    campaigns.play(mad_repeats=2, mad_rerun="failed")
    assert campaigns.executed("begin") == {("n1", "gated"): 2, ("n1", "bad"): 4}
    assert {key: one["attempt"] for key, one in campaigns.records().items()} == {**dict.fromkeys(good, 1), **dict.fromkeys(bad, 2)}
    campaigns.play(mad_repeats=2, mad_rerun="all")
    assert campaigns.executed("begin") == {("n1", "gated"): 4, ("n1", "bad"): 6}
    assert {key: one["attempt"] for key, one in campaigns.records().items()} == {**dict.fromkeys(good, 2), **dict.fromkeys(bad, 3)}


def test_too_many_failures_stop_the_campaign(campaigns: Campaigns) -> None:
    """Above mad_max_failures nothing more starts anywhere: SKIPPED `stopped`; what runs may end; the next play runs the rest."""
    campaigns.host("n1", context={"env_vars": {**env_vars(campaigns, "n1"), "BAD": "1"}})
    campaigns.host("n2")
    campaigns.model("first", BEGIN + '[ -z "$BAD" ] || exit 7\n' + GATE + END)
    campaigns.model("second", GATED)
    campaigns.model("third")
    playing = campaigns.start(mad_max_failures=0)
    campaigns.until(lambda: "SKIPPED" in campaigns.states().values(), "stopped")
    campaigns.open()
    played = playing.wait()
    assert played.status != 0 and campaigns.summary()["exit_code"] == 3, played.output
    n1 = {("n1", "first"): "crash", ("n1", "second"): "SUCCESS", ("n1", "third"): "SKIPPED"}
    n2 = {("n2", "first"): "SUCCESS", ("n2", "second"): "SKIPPED", ("n2", "third"): "SKIPPED"}
    assert campaigns.states() == {**n1, **n2}
    assert campaigns.records()["n2", "third"]["reason"].startswith("stopped: 1 runs failed, mad_max_failures accepts 0")
    assert set(campaigns.executed("begin")) == {("n1", "first"), ("n1", "second"), ("n2", "first")}
    campaigns.play()
    assert campaigns.executed() == dict.fromkeys(set(campaigns.states()) - {("n1", "first")}, 1)


def env_vars(campaigns: Campaigns, place: str) -> dict[str, str]:
    """What the models of a host see."""
    return {"PLACE": place, "MARKS": str(campaigns.marks), "GATES": str(campaigns.gates)}


@pytest.mark.parametrize(
    "name, value",
    [
        ("mad_max_failures", "many"),
        ("mad_contact_timeout", "soon"),
        ("mad_host_parallel", 0),
        ("mad_stage_parallel", "x"),
        ("mad_wait", "perhaps"),
    ],
)
def test_a_bad_option_starts_nothing(campaigns: Campaigns, name: str, value: object) -> None:
    """What only a later step reads is checked before anything starts."""
    campaigns.host("n1")
    campaigns.model("quick")
    refused = campaigns.play(**{name: value})
    assert refused.status != 0 and name in refused.output, refused.output
    assert campaigns.executed("begin") == {} and campaigns.folders("n1") == []


def test_output_as_it_comes_side_by_side(campaigns: Campaigns) -> None:
    """mad_live_output shows lines while the model runs; with mad_host_parallel two models run at a time, and the records say so."""
    campaigns.host("n1")
    for name in ("a", "b", "c"):
        campaigns.model(name, 'echo "hello from $MAD_MODEL_NAME"\n' + GATED)
    playing = campaigns.start(mad_live_output=True, mad_host_parallel=2)
    began(campaigns, ("n1", "a"), ("n1", "b"))
    campaigns.until(lambda: "n1 a | hello from a" in playing.output(), "output of a model that runs")
    assert campaigns.executed() == {} and ("n1", "c") not in campaigns.executed("begin")
    campaigns.open()
    played = playing.wait()
    assert played.status == 0, played.output
    records = campaigns.records()
    assert {one["target"]["parallel"] for one in records.values()} == {2}
    assert records["n1", "b"]["run_id"] in records["n1", "a"]["target"]["neighbours"]
    assert len(re.findall("hello from [abc]", played.output)) == 3, "each line once"


def test_cancel_stops_exactly_one_campaign(campaigns: Campaigns) -> None:
    """Of two campaigns on a fleet the named one ends as cancelled rows; the other goes on."""
    for name in ("n1", "n2"):
        campaigns.host(name)
    campaigns.model("gated", GATED)
    campaigns.model("quick")
    campaigns.play(campaign="c1", mad_wait=False)
    lock = {"mad_host_lock": str(campaigns.home / "another.lock")}
    campaigns.play("run", "--limit", "n1", campaign="c2", mad_wait=False, **lock)
    campaigns.until(lambda: campaigns.executed("begin")["n1", "gated"] == 2 and campaigns.executed("begin")["n2", "gated"], "both run")
    cancelled = campaigns.play("cancel", campaign="c1")
    assert cancelled.status == 0, cancelled.output
    assert len(campaigns.states("c1")) == 4 and set(campaigns.states("c1").values()) == {"cancelled"}
    assert campaigns.summary("c1")["classes"] == {"cancelled": 4}
    campaigns.until(lambda: campaigns.processes("n2") == [], "nothing runs on n2", 60)
    assert campaigns.processes("n1"), "the other campaign runs on"
    campaigns.open()
    other = campaigns.play("run", "--limit", "n1", campaign="c2", **lock)
    assert other.status == 0 and set(campaigns.states("c2").values()) == {"SUCCESS"}, other.output
    assert campaigns.executed() == {("n1", "gated"): 1, ("n1", "quick"): 1}


def test_cancel_on_failure(campaigns: Campaigns, tmp_path: Path) -> None:
    """One host takes nothing, so the play fails: with mad_cancel_on_failure what the other was left with is cancelled, without it goes on."""
    wall = tmp_path / "wall"
    wall.write_text("no folder\n")
    campaigns.host("n1", mad_work_dir=str(wall / "work"))
    campaigns.host("n2")
    campaigns.model("gated", GATED)
    left = campaigns.play(mad_wait=False)
    assert left.status != 0 and campaigns.states() == {("n1", "gated"): "infra"}, left.output
    began(campaigns, ("n2", "gated"))
    failed = campaigns.play(mad_wait=False, mad_cancel_on_failure=True)
    assert campaigns.states() == {("n1", "gated"): "infra", ("n2", "gated"): "cancelled"}, failed.output
    campaigns.until(lambda: not campaigns.processes("n2"), "n2 is idle", 60)


def test_clean_removes_what_is_old_and_nothing_that_runs(campaigns: Campaigns) -> None:
    """By mad_keep_days: a kept folder goes when it is old, one with a running model never; --check --diff only shows."""
    campaigns.host("n1")
    campaigns.model("quick")
    campaigns.play(campaign="old", mad_keep_model_dir=True)
    campaigns.model("gated", GATED)
    campaigns.play(campaign="running", mad_wait=False)
    began(campaigns, ("n1", "gated"))
    old, running = sorted(campaigns.folders("n1"))
    work = campaigns.home / "work" / "n1"
    assert campaigns.play("clean").recap()["n1"]["changed"] == 0, "nothing is older than 14 days"
    long_ago = time.time() - 20 * 86400
    (work / "outbox").mkdir(exist_ok=True)
    (work / "outbox" / "left.tar.gz").write_bytes(b"x")
    for folder, dummy, names in os.walk(work):
        for name in names:
            os.utime(os.path.join(folder, name), (long_ago, long_ago))
        os.utime(folder, (long_ago, long_ago))
    shown = campaigns.play("clean", "--check", "--diff", mad_keep_days=14)
    assert shown.status == 0 and shown.recap()["n1"]["changed"] == 1, shown.output
    assert "-" + str(work / "campaigns" / old) in shown.output and campaigns.folders("n1") == [old, running]
    assert (work / "outbox" / "left.tar.gz").exists()
    cleaned = campaigns.play("clean", mad_keep_days=14)
    assert cleaned.recap()["n1"]["changed"] == 1 and campaigns.folders("n1") == [running], cleaned.output
    assert not (work / "outbox" / "left.tar.gz").exists()
    campaigns.open()
    came = campaigns.play(campaign="running")
    assert came.status == 0 and set(campaigns.states("running").values()) == {"SUCCESS"}, came.output
