# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the progress knows after results, and how it tells it: to one host as to five hundred."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.plugin_utils import progress_state
from ansible_collections.mad.engine.plugins.plugin_utils.progress_state import Progress, duration, plain, utc

NOW = 1_795_342_502.0


def poll(running: list[tuple[str, float]] = (), finished: list[tuple[str, str]] = (), **counts: int) -> dict[str, Any]:  # type: ignore[assignment]
    """A return of container_run."""
    return {
        "counts": {**dict.fromkeys(progress_state.COUNTS, 0), **counts},
        "running": [{"run": "r-" + model, "model": model, "seconds": seconds} for model, seconds in running],
        "ended": [
            {
                "run": "r-" + model,
                "model": model,
                "status": status,
                "failure_class": "oom" if status == "FAILURE" else "",
                "metric": "12.5 tokens_per_second" if status == "SUCCESS" else "",
            }
            for model, status in finished
        ],
    }


def test_the_life_of_a_run() -> None:
    progress = Progress()
    progress.take("campaign_plan", "n1", {"campaign": "c1", "campaign_dir": "/r/c1", "counts": {"total": 3, "done": 1, "skipped": 1}}, NOW)
    assert not progress.started
    progress.take("container_run", "n1", poll(running=[("a", 0.0)], total=2, running_=1, queued=1), NOW)
    assert progress.started and progress.tell(10) == ["n1: started a (run r-a)"]
    progress.take("container_run", "n1", poll(running=[("b", 1.0)], finished=[("a", "SUCCESS")], total=2, done=1, success=1), NOW + 65)
    assert progress.tell(10) == ["n1: SUCCESS a in 1m05s: 12.5 tokens_per_second (run r-a)", "n1: started b (run r-b)"]
    assert progress.summary(NOW + 3725) == "2 of 3 runs done (1 ok, 0 failed, 1 skipped), 1 running on 1 host; longest: b on n1 for 1h01m"
    progress.take("container_run", "n1", poll(finished=[("b", "FAILURE")], total=2, done=2, success=1, failure=1), NOW + 4000)
    assert progress.tell(10) == ["n1: FAILURE b in 1h05m: oom (run r-b)"]
    judged = {"total": 3, "done": 3, "success": 1, "failure": 1, "skipped": 1}
    progress.take("perf_store", "n1", {"counts": judged, "exit_code": 3, "table": "/r/perf.csv"}, NOW)
    assert progress.summary(NOW) == "3 of 3 runs done (1 ok, 1 failed, 1 skipped)"
    assert (progress.exit_code, progress.table, progress.campaign_dir) == (3, "/r/perf.csv", "/r/c1")


def test_a_continued_campaign_counts_what_was_final_before() -> None:
    progress = Progress()
    planned = {"total": 12, "done": 8, "success": 6, "failure": 2, "skipped": 0, "running": 0, "queued": 4, "execute": 4}
    progress.take("campaign_plan", "n1", {"campaign": "c1", "counts": planned}, NOW)
    assert progress.summary(NOW) == "8 of 12 runs done (6 ok, 2 failed, 0 skipped), 4 queued"
    progress.take("container_run", "n1", poll(total=2, queued=2), NOW)
    assert progress.summary(NOW) == "8 of 12 runs done (6 ok, 2 failed, 0 skipped), 4 queued"
    progress.take("container_run", "n1", poll(running=[("a", 2.0)], finished=[("b", "FAILURE")], total=2, done=1, failure=1), NOW)
    progress.take("container_run", "n2", poll(total=2, queued=2), NOW)
    text = "9 of 12 runs done (6 ok, 3 failed, 0 skipped), 1 running on 1 host, 2 queued; longest: a on n1 for 2s"
    assert progress.summary(NOW) == text


def test_what_runs_on_after_a_play_that_does_not_wait() -> None:
    progress = Progress()
    progress.take("campaign_plan", "n1", {"campaign": "c1", "counts": {"total": 3, "done": 1, "success": 1, "queued": 2}}, NOW)
    progress.take("container_run", "n1", poll(running=[("a", 0.0)], total=2, queued=1), NOW)
    progress.take("perf_store", "n1", {"counts": {"total": 3, "done": 1, "success": 1, "running": 2, "queued": 0}}, NOW)
    text = "1 of 3 runs done (1 ok, 0 failed, 0 skipped), 1 running on 1 host, 1 queued; longest: a on n1 for 5s"
    assert progress.summary(NOW + 5) == text
    progress.take("perf_store", "n1", {"counts": {"total": 3, "done": 3, "success": 1, "failure": 2, "running": 0}}, NOW)
    assert progress.summary(NOW) == "3 of 3 runs done (1 ok, 2 failed, 0 skipped)"  # given up: nothing runs that anybody waits for


def test_a_run_named_twice_counts_once() -> None:
    progress = Progress()
    for _again in range(2):
        progress.take("container_run", "n1", poll(finished=[("a", "SUCCESS")]), NOW)
    assert len(progress.tell(10)) == 1 and progress.tell(10) == []


def test_two_hosts_with_the_same_model_do_not_mix() -> None:
    progress = Progress()
    for host in ("n1", "n2"):
        progress.take("container_run", host, poll(running=[("a", 5.0)]), NOW)
    progress.take("container_run", "n1", poll(finished=[("a", "SUCCESS")]), NOW)
    assert [entry[0] for entry in progress.running()] == ["n2"]


def test_a_silent_host_is_told_once_and_when_it_is_back() -> None:
    progress = Progress()
    progress.unreachable("n9", "of another play")
    progress.take("container_run", "n1", poll(running=[("a", 0.0)]), NOW)
    progress.tell(10)
    for _again in range(3):
        progress.unreachable("n1", "ssh: connect\nrefused")
    assert progress.tell(10) == ["n1: does not answer, its runs go on: ssh: connect?refused"]
    assert "1 host silent" in progress.summary(NOW) and len(progress.running()) == 1
    progress.take("container_run", "n1", poll(running=[("a", 60.0)]), NOW)
    assert progress.tell(10) == ["n1: answers again"]


def test_a_host_whose_lock_another_campaign_has() -> None:
    progress = Progress()
    held = {"lock": "/var/tmp/mad-host.lock", "pid": 4711, "campaign": "other", "seconds": 3.0}
    told = []
    for seconds in range(3, 170):
        progress.take("container_run", "n1", {**poll(total=1, queued=1), "waits_for": {**held, "seconds": seconds}}, NOW)
        told += progress.tell(10)
    assert told[0] == "n1: waiting for /var/tmp/mad-host.lock, held by pid 4711 (campaign other), 3s"
    assert [line.rpartition(", ")[2] for line in told] == ["3s", "10s", "20s", "40s", "1m20s", "2m40s"]
    progress.take("container_run", "n1", {**poll(total=1, queued=1), "waits_for": {**held, "pid": 0, "campaign": "", "seconds": 170}}, NOW)
    assert progress.tell(10) == ["n1: waiting for /var/tmp/mad-host.lock, 2m50s"]
    progress.take("container_run", "n1", poll(running=[("a", 0.0)], total=1), NOW)
    assert progress.tell(10) == ["n1: started a (run r-a)"]


def test_five_hundred_hosts_are_summed_up_and_failures_are_named() -> None:
    progress = Progress()
    for number in range(500):
        progress.take("container_run", "n%d" % number, poll(running=[("a", 0.0)], total=2, queued=1), NOW)
    assert progress.tell(12) == ["500 runs started on 500 hosts"]
    for number in range(500):
        status = "FAILURE" if number % 25 == 0 else "SUCCESS"
        progress.take("container_run", "n%d" % number, poll(running=[("b", 0.0)], finished=[("a", status)], total=2, done=1), NOW + 9)
    lines = progress.tell(12)
    assert len(lines) == 12
    assert lines[:2] == ["500 runs started on 500 hosts", "500 runs finished on 500 hosts: 20 FAILURE, 480 SUCCESS (oom 20)"]
    assert all("FAILURE a in 9s: oom" in line for line in lines[2:-1]) and lines[-1].startswith("... and 11 more failures")
    assert progress.summary(NOW + 9).startswith("500 of 1000 runs done")


def test_builds() -> None:
    progress = Progress()
    built = [
        {"image": "ci-a", "model": "a", "status": "SUCCESS", "seconds": 70},
        {"image": "ci-b", "model": "b", "status": "SKIPPED", "seconds": 0, "reason": "same content"},
        {"image": "ci-c", "status": "FAILURE", "seconds": 3, "reason": "no space left on device"},
    ]
    progress.take("image_build", "n1", {"built": built}, NOW)
    assert progress.tell(10) == [
        "n1: built a in 1m10s",
        "n1: image unchanged: b: same content",
        "n1: BUILD FAILED: ci-c in 3s: no space left on device",
    ]
    assert not progress.started


def test_hostile_text_stays_on_one_line() -> None:
    progress = Progress()
    model = "evil\n2026-01-01 ok\x1b[2J\u202e" + "x" * 10_000_000
    progress.take("container_run", "n1", poll(running=[(model, 0.0)]), NOW)
    line = progress.tell(10)[0]
    assert "\n" not in line and "\x1b" not in line and "\u202e" not in line and len(line) < 300


def test_small_words() -> None:
    assert [duration(value) for value in (-5, 0, 59.9, 60, 3600, 90061)] == ["0s", "0s", "59s", "1m00s", "1h00m", "1d01h"]
    assert utc(NOW) == "2026-11-22T10:15:02Z" and plain(None) == "" and plain(5) == "5"


SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
ANY = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
KEYS = ["run", "model", "seconds", "status", "metric", "total", "done", "queued", "image", "lock", "pid", "again", "classes"]
ENTRY = st.dictionaries(st.sampled_from(KEYS), ANY, max_size=5)
RESULT = st.dictionaries(
    st.sampled_from(["campaign", "campaign_dir", "counts", "running", "ended", "built", "exit_code", "table", "waits_for", "mad_summary", "lines"]),
    ANY | ENTRY | st.lists(ENTRY | ANY, max_size=3),
)


@given(st.lists(st.tuples(st.sampled_from(["container_run", "campaign_plan", "perf_store", "image_build", "x"]), RESULT), max_size=5))
def test_no_result_breaks_it(results: list[tuple[str, dict[str, Any]]]) -> None:
    progress = Progress()
    for step, result in results:
        progress.take(step, "n1", result, NOW)
        assert all("\n" not in line for line in [*progress.tell(3), progress.summary(NOW)])
