# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work folder on a host: locks, attempts, standing, secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.host import host_state
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder

ID = "00000000000000aa"


@pytest.fixture()
def folder(tmp_path: Path) -> HostFolder:
    made = HostFolder(str(tmp_path / "work" / "campaigns" / work_folder.folder_name("c1", "n1")))
    made.make("c1", "n1")
    return made


def make_run(**changes: Any) -> Dict[str, Any]:
    return dict({"id": ID, "order": 1, "attempt": 1, "retries": 0, "card": {}}, **changes)


def record(status: str, failure_class: str = "", exit_code: int = 0) -> Dict[str, Any]:
    return {"status": status, "failure_class": failure_class, "exit_code": exit_code}


def test_names_keep_hosts_apart() -> None:
    """Two inventory hosts that are one machine have two folders; the name is pinned."""
    assert work_folder.folder_name("c1", "n1") == "c1.676b8bb84ce7"
    assert work_folder.folder_name("c1", "n1") != work_folder.folder_name("c1", "n2")
    work_folder.folder_name("c1", "ünï/../$(x)")


def test_folder_is_private_and_made_once(folder: HostFolder) -> None:
    assert folder.make("c1", "n1") is False
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    assert os.stat(os.path.dirname(os.path.dirname(folder.path))).st_mode & 0o777 == 0o711
    assert folder.host()["campaign"] == "c1" and folder.host()["uid"] == os.geteuid()


def test_a_link_or_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(InvalidInput, match="not a folder"):
            work_folder.own_folder(str(tmp_path / name), 0o700)
    with pytest.raises(MadError, match="mad_work_dir"):
        work_folder.own_folder(str(tmp_path / "file" / "x"), 0o700)


@pytest.mark.parametrize(
    ("records", "run", "standing"),
    [
        ([], {}, ("pending", 1)),
        ([None], {}, ("open", 1)),
        ([record("SUCCESS")], {}, ("done", 1)),
        ([record("FAILURE", "crash", 3)], {}, ("done", 1)),
        ([record("FAILURE", "crash", 3)], {"retries": 1}, ("pending", 2)),
        ([record("FAILURE", "crash", 3), record("FAILURE", "crash", 3)], {"retries": 1}, ("done", 2)),
        ([record("FAILURE", "crash", 3), None], {"retries": 1}, ("open", 2)),
        ([record("FAILURE", "image")], {"retries": 5}, ("done", 1)),
        ([record("FAILURE", "cancelled")], {"retries": 5}, ("done", 1)),
        ([record("FAILURE", "invalid")], {"retries": 5}, ("done", 1)),
        ([record("SKIPPED")], {"retries": 5}, ("done", 1)),
        ([record("FAILURE", "preempted", 75)] * 3, {"card": {"resumable": True}}, ("pending", 4)),
        (
            [record("FAILURE", "preempted", 75)] * 3 + [record("FAILURE", "crash", 93)],
            {"card": {"resumable": True}, "retries": 9},
            ("done", 4),
        ),
        ([record("FAILURE", "preempted", 75)] * 10, {"card": {"resumable": True}}, ("pending", 11)),
        ([record("FAILURE", "preempted", 75)] * 11, {"card": {"resumable": True}}, ("done", 11)),
        ([record("FAILURE", "preempted", 75)] * 11, {"card": {"resumable": True}, "retries": 1}, ("pending", 12)),
        ([dict(record("FAILURE", "preempted", 75), timings={"run": 600.0})] * 30, {"card": {"resumable": True}}, ("pending", 31)),
        ([record("FAILURE", "crash", 1)], {"attempt": 2}, ("pending", 2)),
        ([record("FAILURE", "crash", 1), record("SUCCESS")], {"attempt": 2}, ("done", 2)),
    ],
)
def test_standing(folder: HostFolder, records: Any, run: Dict[str, Any], standing: Any) -> None:
    """Where a run stands follows from its attempts alone."""
    folder.save_run(make_run(**run))
    for number, found in enumerate(records, 1):
        attempt = folder.attempt(ID, number)
        assert attempt.claim() and not attempt.claim()
        if found:
            attempt.save_result(found)
    assert folder.standing(folder.run(ID))[:2] == standing


def test_a_stop_makes_the_last_record_final(folder: HostFolder) -> None:
    """A retry that does not begin has no record of its own: the failure before it is what comes home, now and after any restart."""
    folder.save_run(make_run(retries=2))
    folder.attempt(ID, 1).claim()
    folder.attempt(ID, 1).save_result(record("FAILURE", "crash", 1))
    assert folder.standing(folder.run(ID))[:2] == ("pending", 2)
    assert folder.end_of_pending(folder.run(ID), 2, None, "stopped: 1 runs failed, mad_max_failures accepts 0") is None
    for _claimed in (False, True):  # a supervisor may have made the attempt's folder, and died
        standing = folder.standing(folder.run(ID))
        assert standing[:2] == ("done", 1) and standing.record is not None
        assert standing.record["failure_class"] == "crash"
        assert standing.record["notes"] == ["it was not tried again: stopped: 1 runs failed, mad_max_failures accepts 0"]
        folder.attempt(ID, 2).claim()
    folder.save_run(make_run(attempt=3))  # a later play asks for another one
    assert folder.standing(folder.run(ID))[:2] == ("pending", 3)


@pytest.mark.parametrize(
    ("orders", "number", "decision"),
    [
        ({"stop": "stopped: enough"}, 1, {"failure_class": "", "reason": "stopped: enough"}),
        ({"stop": "enough"}, 1, {"failure_class": "", "reason": "stopped: enough"}),
        ({"stop": "stopped: enough", "cancel": "by a person"}, 1, {"failure_class": "cancelled", "reason": "by a person"}),
        ({"cancel": "by a person"}, 2, {"failure_class": "cancelled", "reason": "by a person"}),
    ],
)
def test_orders_for_what_has_not_begun(folder: HostFolder, orders: Dict[str, str], number: int, decision: Dict[str, str]) -> None:
    assert folder.end_of_pending(make_run(), number, orders.get("cancel"), orders.get("stop")) == decision


def test_runs_are_handed_over_once(folder: HostFolder) -> None:
    assert folder.save_run(make_run(queued=1.0)) and not folder.save_run(make_run(queued=2.0))
    assert folder.save_run(make_run(attempt=3)) and not folder.save_run(make_run(attempt=2))
    assert folder.run(ID)["attempt"] == 3
    folder.save_run(make_run(id="00000000000000ab", order=0))
    assert [run["id"] for run in folder.runs()] == ["00000000000000ab", ID]
    for bad in ("../../etc", "", "X" * 16, ID + "\n"):
        with pytest.raises(InvalidInput):
            folder.save_run(make_run(id=bad))


def test_a_broken_record_is_no_record(folder: HostFolder) -> None:
    folder.save_run(make_run())
    attempt = folder.attempt(ID, 1)
    attempt.claim()
    Path(attempt.file("result.json")).write_text('{"status": "SUCC')
    assert folder.standing(folder.run(ID)).state == "open"


def test_a_record_that_cannot_be_read_is_not_absent(folder: HostFolder) -> None:
    """A disk that fails must not have a run that has ended begin again."""
    folder.save_run(make_run())
    attempt = folder.attempt(ID, 1)
    attempt.claim()
    os.symlink("result.json", attempt.file("result.json"))  # stands for any error of the disk: it cannot be opened
    with pytest.raises(MadError, match="result.json cannot be read"):
        folder.standing(folder.run(ID))


def test_keepers_lock_tells_life_from_death(folder: HostFolder) -> None:
    folder.save_run(make_run())
    attempt = folder.attempt(ID, 1)
    attempt.claim()
    assert not attempt.held()
    descriptor = attempt.hold()
    assert descriptor is not None and attempt.held() and attempt.hold() is None
    child = os.fork()
    if child == 0:
        import time

        time.sleep(30)
        os._exit(0)
    os.close(descriptor)
    assert attempt.held()  # the child inherited it
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert not attempt.held()


def test_secrets_are_kept_per_run_and_forgotten(folder: HostFolder) -> None:
    folder.save_secrets({ID: {"A_TOKEN": "one"}})
    folder.save_secrets({"00000000000000ab": {"A_TOKEN": "two"}})
    assert folder.secrets(ID) == {"A_TOKEN": "one"} and folder.secret_values() == ["one", "two"]
    folder.save_secrets({ID: {"A_TOKEN": "three"}})
    assert folder.secret_values() == ["three", "two"]
    assert os.stat(folder.file("secrets.json")).st_mode & 0o777 == 0o600
    folder.forget_secrets()
    folder.forget_secrets()
    assert folder.secrets(ID) == {}


def test_versions_of_settings_only_grow(folder: HostFolder) -> None:
    assert [folder.save_settings({"parallel": number}) for number in (1, 2, 3)] == [1, 2, 3]
    assert folder.settings()["parallel"] == 3 and folder.settings()["grace"] == 10.0


def test_who_only_looks_is_not_taken_for_the_owner(folder: HostFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that asks whether a keeper lives holds its lock for a moment; a keeper that begins just then is no second one."""
    path = folder.file("supervisor.lock")
    looking = [host_state.try_lock(path)]
    monkeypatch.setattr(time, "sleep", lambda dummy: os.close(looking.pop() or -1))
    owner = host_state.try_lock(path)
    assert owner is not None and not looking
    os.close(owner)


def test_machine_lock_is_made_for_everybody(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = (
        "import os,sys; sys.path.insert(0, %r); os.umask(0o077); "
        "from ansible_collections.mad.engine.plugins.module_utils.host import host_state; host_state.open_machine_lock(%r)"
    )
    subprocess.run([sys.executable, "-c", code % (os.environ["ANSIBLE_COLLECTIONS_PATH"], path)], check=True)
    assert os.stat(path).st_mode & 0o777 == 0o666
    Path(path).write_text("whatever stands in it stays")
    os.close(host_state.open_machine_lock(path))
    assert Path(path).read_text() == "whatever stands in it stays"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "dangling"])
def test_machine_lock_is_a_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    if kind == "link":
        (tmp_path / "x").write_text("")
        path.symlink_to(tmp_path / "x")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(InvalidInput, match="mad_host_lock"):
        os.close(host_state.open_machine_lock(str(path)))
    assert not (tmp_path / "nothing").exists()
