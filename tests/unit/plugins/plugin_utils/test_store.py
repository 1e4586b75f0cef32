# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a play: everything is written once, a second time changes nothing, and what cannot be written is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.history import database
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.plugins.plugin_utils.store import Answer, Options, store
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success

HOSTS = {"n1": {"state": "ok"}, "n2": {"state": "unreachable", "reason": "no route"}}


@pytest.fixture
def campaign(tmp_path: Any) -> Campaign:
    made = make_campaign(tmp_path / "results", [make_run(1), make_run(2), make_run(3, place={"host": "n2"})])
    made.save_result(success(1))
    made.save_result(crash(2))
    return made


def read(path: str) -> List[Dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return rows.from_csv(stream.read())


def tree(folder: Any) -> Dict[str, float]:
    paths = [os.path.join(base, name) for base, _folders, names in os.walk(folder) for name in names]
    return {path: os.stat(path).st_mtime_ns for path in paths}


def test_everything_once(campaign: Campaign, tmp_path: Any) -> None:
    options = Options(HOSTS, perf_output=str(tmp_path / "perf.csv"), summary_output=str(tmp_path / "summary.json"))
    answer = store(campaign, options)
    assert answer.changed and answer.warnings == []
    assert answer.summary["exit_code"] == 3
    for path in (campaign.perf_path, campaign.perf_entry_path, str(tmp_path / "perf.csv")):
        assert [row["failure_class"] or row["status"] for row in read(path)] == ["SUCCESS", "crash", "infra"]
    with Index(database_url(campaign.results_dir)) as index:
        assert len(index.select()) == 3
    for path in (campaign.summary_path, campaign.last_summary_path, str(tmp_path / "summary.json")):
        with open(path, encoding="utf-8") as stream:
            assert json.load(stream) == answer.summary
    assert answer.lines[-2:] == ["results in " + campaign.folder, "go on with: " + answer.summary["resume_command"]]
    before = tree(tmp_path)
    again = store(campaign, options)
    assert (again.changed, again.summary, again.lines) == (False, answer.summary, answer.lines)
    assert tree(tmp_path) == before


def test_the_next_play_brings_the_missing_row(campaign: Campaign, tmp_path: Any) -> None:
    output = str(tmp_path / "perf.csv")
    store(campaign, Options(HOSTS, perf_output=output))
    campaign.save_result(success(3, place={"host": "n2"}))
    answer = store(campaign, Options({"n1": "ok", "n2": "ok"}, perf_output=output))
    assert answer.changed
    assert [row["status"] for row in read(output)] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert [row["run_id"][-1] for row in read(campaign.perf_entry_path)] == ["3"]
    with Index(database_url(campaign.results_dir)) as index:
        assert [row["status"] for row in index.select() if row["host"] == "n2"] == ["SUCCESS"]


def test_logs_that_did_not_come_home_are_a_problem(tmp_path: Any) -> None:
    """The rows are there and good; a play that lost their logs is no success all the same."""
    made = make_campaign(tmp_path / "results", [make_run(1)])
    made.save_result(success(1))
    made.save_attempt({"run_id": "%016x" % 1, "attempt": 1, "launch": {"boot_id": "b"}})
    answer = store(made, Options({"n1": {"state": "failed", "reason": "outbox is no folder"}}))
    said = "n1: the logs and artifacts of 1 runs did not come home (outbox is no folder); the next play of this campaign fetches them"
    assert (answer.summary["exit_code"], answer.summary["problems"]) == (1, [said])
    assert answer.lines[-1].startswith("go on with: ") and said[:40] in " ".join(answer.lines)
    assert store(made, Options({"n1": "ok"}, wait=False)).summary["exit_code"] == 0, "still to come"


def test_left_running(campaign: Campaign) -> None:
    answer = store(campaign, Options({"n1": "ok", "n2": "ok"}, wait=False))
    assert answer.summary["counts"] == {"planned": 3, "success": 1, "failure": 1, "skipped": 0, "pending": 1}
    assert any("1 still on their way" in line for line in answer.lines)
    assert len(read(campaign.perf_path)) == 2


def test_check_mode(campaign: Campaign, tmp_path: Any) -> None:
    before = tree(tmp_path)
    options = Options(HOSTS, perf_output=str(tmp_path / "perf.csv"), summary_output=str(tmp_path / "s.json"), write=False)
    assert store(campaign, options).changed
    assert tree(tmp_path) == before


def test_a_locked_index_is_a_warning_and_the_next_play_catches_up(campaign: Campaign, monkeypatch: Any) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    holder = sqlite3.connect(campaign.history_path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    answer = store(campaign, Options(HOSTS))
    holder.close()
    assert "locked" in answer.warnings[0]
    assert answer.summary["warnings"] == answer.warnings
    assert answer.summary["exit_code"] == 3
    assert len(read(campaign.perf_path)) == 3
    again = store(campaign, Options(HOSTS))
    assert (again.changed, again.warnings) == (True, [])
    assert not store(campaign, Options(HOSTS)).changed


def test_a_bad_url_is_a_warning(campaign: Campaign) -> None:
    answer = store(campaign, Options(HOSTS, database_url="mysql://x/y"))
    assert "only SQLite and PostgreSQL" in answer.warnings[0]
    assert len(read(campaign.perf_path)) == 3


def test_what_the_user_asked_for_and_did_not_get_is_exit_code_1(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path / "results", [make_run(1)])
    campaign.save_result(success(1))
    strange = tmp_path / "strange.csv"
    strange.write_text("a,b\n")
    for options in (Options({"n1": "ok"}, perf_output=str(strange)), Options({"n1": "ok"}, summary_output=str(strange / "x"))):
        answer = store(campaign, options)
        assert answer.summary["exit_code"] == 1
        assert "strange.csv" in answer.summary["problems"][0]
        assert any("strange.csv" in line for line in answer.lines)
    assert len(read(campaign.perf_path)) == 1


def test_builds_come_from_the_manifest(campaign: Campaign) -> None:
    document = {"built_images": {}, "built_models": {}, "summary": {"failed_builds": [{"image": "ci-x", "error": "no space"}]}}
    with open(campaign.manifest_path, "w", encoding="utf-8") as stream:
        json.dump(document, stream)
    campaign.save_result(success(2))
    campaign.save_result(success(3, place={"host": "n2"}))
    answer = store(campaign, Options(HOSTS))
    assert answer.summary["exit_code"] == 2
    assert "image ci-x: no space" in answer.lines
    assert store(campaign, Options(HOSTS, builds={})).summary["exit_code"] == 0
    with open(campaign.manifest_path, "w", encoding="utf-8") as stream:
        stream.write("{")
    assert "build manifest" in store(campaign, Options(HOSTS)).warnings[0]


def test_bad_arguments_write_nothing(campaign: Campaign, tmp_path: Any) -> None:
    before = tree(tmp_path)
    with pytest.raises(InvalidInput, match="hosts: n1"):
        store(campaign, Options({"n1": "good"}))
    assert tree(tmp_path) == before
    with pytest.raises(InvalidInput, match="no plan.json"):
        store(Campaign(str(tmp_path / "nothing")), Options({}))


def _store(folder: str, queue: Any) -> None:
    queue.put(store(Campaign(folder), Options(HOSTS, perf_output=os.path.join(os.path.dirname(folder), "all.csv"))).changed)


def test_two_plays_at_once_write_each_row_once(campaign: Campaign) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_store, args=(campaign.folder, queue)) for _count in range(4)]
    for worker in workers:
        worker.start()
    changed = [queue.get(timeout=60) for _worker in workers]
    for worker in workers:
        worker.join()
    assert sorted(changed) == [False, False, False, True]
    assert len(read(os.path.join(campaign.results_dir, "all.csv"))) == 3


KILLED = """
import os, signal, sys
from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.store import Options, store
real, left = os.replace, [int(sys.argv[2])]
def replace(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)
os.replace = replace
store(Campaign(sys.argv[1]), Options({"n1": "ok", "n2": "unreachable"}))
"""


@pytest.mark.parametrize("after", range(9))
def test_killed_at_any_write_and_run_again(campaign: Campaign, after: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, campaign.folder, str(after)], check=False)
    assert done.returncode in (0, -9)
    if after < 7:
        assert done.returncode == -9  # else this test tests nothing
    answer: Answer = store(campaign, Options(HOSTS))
    assert [row["run_id"][-1] for row in read(campaign.perf_path)] == ["1", "2", "3"]
    assert answer.summary["counts"] == {"planned": 3, "success": 1, "failure": 2, "skipped": 0, "pending": 0}
    with Index(database_url(campaign.results_dir)) as index:
        assert len(index.select()) == 3
    assert not store(campaign, Options(HOSTS)).changed


def test_a_full_disk_still_gives_the_table(tmp_path: Any) -> None:
    components.require("root")  # who can mount a small disk
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "mad-test", str(disk)], check=False, capture_output=True)
    if mounted.returncode:
        components.absent("a tmpfs: it cannot be mounted here: %s" % mounted.stderr.decode())
    try:
        campaign = make_campaign(disk, [make_run(1), make_run(2, place={"host": "n2"})])
        campaign.save_result(success(1))
        with open(disk / "ballast", "wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):
            while True:
                stream.write(b"x" * 4096)
        answer = store(campaign, Options(HOSTS))
        assert answer.summary["exit_code"] == 3
        assert any("No space left" in problem for problem in answer.summary["problems"])
        assert any("unreachable" in line for line in answer.lines)
        assert campaign.result("%016x" % 1) == success(1)
        os.unlink(disk / "ballast")
        answer = store(campaign, Options(HOSTS))
        assert answer.summary["problems"] == []
        assert len(read(campaign.perf_path)) == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)
