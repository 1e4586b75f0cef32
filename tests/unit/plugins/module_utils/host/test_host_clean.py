# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what campaigns left: whose folder it is, what is in use, what goes by its age."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import host_clean, host_state, host_steps, predecessors
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import Attempt, HostFolder

ID = "00000000000000aa"


class Work:
    """A work folder with one campaign name, for which controllers ask under their identities."""

    def __init__(self, base: Path) -> None:
        self.path = str(base / "work")

    def job(self, identity: str, **more: Any) -> Dict[str, Any]:
        """What a controller asks."""
        return dict({"campaign": "c1", "host": "n1", "work_dir": self.path, "identity": identity, "runs": {}}, **more)

    def join(self, identity: str) -> HostFolder:
        """Make the folder, or join it."""
        folder = host_state.folder_of(self.job(identity))
        folder.make("c1", "n1")
        return folder

    def absent(self, identity: str, **more: Any) -> Dict[str, Any]:
        """Remove it."""
        return host_clean.absent(self.job(identity, **more))


@pytest.fixture()
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def begin(folder: HostFolder, core: str = "") -> Attempt:
    """An attempt under a keeper."""
    folder.save_run({"core": core, "id": ID, "order": 1, "attempt": 1, "retries": 0, "card": {}, "runtime": "host"})
    attempt = folder.attempt(ID, 1)
    attempt.claim()
    return attempt


def test_a_shared_folder_goes_with_the_last_of_those_who_joined(work: Work) -> None:
    folder = work.join("one")
    work.join("two")
    assert work.absent("one", check=True)["changed"] and folder.host()["identities"] == ["one", "two"]
    answer = work.absent("one")
    assert (answer["changed"], answer["removed"], answer["kept"][0]["path"]) == (True, [], folder.path)
    assert not folder.exists() and os.path.isdir(folder.path)
    assert work.absent("one") == {"changed": False, "removed": [], "kept": [], "diff": {"before": "", "after": ""}}
    assert work.absent("two")["removed"] == [folder.path] and not os.path.exists(folder.path)


def test_who_leaves_does_not_wait_for_what_the_others_run(work: Work) -> None:
    folder = work.join("one")
    work.join("two")
    lock = begin(folder).hold()
    assert lock is not None
    try:
        kept = work.absent("one", runs={ID: 1})["kept"]  # its own result is not home
        assert kept == [{"path": folder.path, "reason": "run %s is running" % ID}] and folder.exists()
        assert work.absent("one")["changed"] and not folder.exists()
        assert work.absent("two")["kept"] == [{"path": folder.path, "reason": "run %s is running" % ID}]
    finally:
        os.close(lock)


def test_a_folder_that_somebody_never_left_goes_by_its_age(work: Work) -> None:
    folder = work.join("one")
    work.join("two")
    work.absent("one")
    for name in ("", "host.json"):
        os.utime(folder.file(name), (1.0, 1.0))
    assert work.absent("three", keep_days=14)["removed"] == [folder.path]


def test_nobody_joins_while_it_is_removed(work: Work) -> None:
    folder = work.join("one")
    work.join("two")
    with pytest.raises(MadError, match="another campaign joined it, just now"):
        host_clean._remove_folder(folder)
    assert predecessors.others(folder) == ["two"]


def test_a_folder_that_cannot_go_keeps_no_other_here(work: Work) -> None:
    """Cleaning by age goes on with the next one, and says why."""
    busy, idle = work.join("one"), host_state.folder_of(work.job("one", campaign="c2"))
    idle.make("c2", "n1")
    for folder in (busy, idle):
        for name in ("", "host.json"):
            os.utime(folder.file(name), (1.0, 1.0))

    locks: List[Any] = []

    def elsewhere(folder: HostFolder, dummy_check: bool) -> List[str]:
        if folder.path == busy.path:
            locks.append(host_state.try_lock(folder.file("supervisor.lock")))
        return []

    answer = host_clean.absent(work.job("one", keep_days=14), elsewhere=elsewhere)
    assert answer["removed"] == [idle.path] and [entry["path"] for entry in answer["kept"]] == [busy.path]
    os.close(locks[0])
    assert "a supervisor began to work in " + busy.path in answer["kept"][0]["reason"]


def old_core(work: Work, content: bytes) -> str:
    """A core that was brought long ago; its hash."""
    core = hashlib.sha256(content).hexdigest()
    library = Path(work.path) / "lib"
    library.mkdir(exist_ok=True)
    (library / (core + ".pyz")).write_bytes(content)
    os.utime(library / (core + ".pyz"), (1.0, 1.0))
    return core


def test_a_core_goes_by_its_age_unless_something_works_with_it(work: Work) -> None:
    folder = work.join("one")
    taken, running, unused = (old_core(work, content) for content in (b"taken", b"running", b"unused"))
    paths = {core: os.path.join(work.path, "lib", core + ".pyz") for core in (taken, running, unused)}
    lock = begin(folder, taken).hold()
    assert lock is not None
    with subprocess.Popen([sys.executable, "-c", "input()", paths[running], "supervise"], stdin=subprocess.PIPE) as process:
        try:
            assert work.absent("", keep_days=14)["removed"] == [paths[unused]]
        finally:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            os.close(lock)
    assert sorted(work.absent("", keep_days=14)["removed"]) == sorted([paths[taken], paths[running]])


def test_a_core_that_is_used_again_is_young(work: Work) -> None:
    folder, core = work.join("one"), old_core(work, b"core")
    os.makedirs(folder.file("tree", "t"))
    assert host_steps._unpack_stage(folder, {"core": core, "tree": "t"}, "no archive is read") is False
    assert work.absent("", keep_days=14)["removed"] == []


def test_a_removal_loads_nothing_of_results_and_images() -> None:
    """A host compiles anew what each task imports."""
    code = "import sys, ansible_collections.mad.engine.plugins.module_utils.host.host_clean; print(*sys.modules)"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, check=True, text=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split() if ".module_utils." in name}
    assert "predecessors" in loaded and not loaded & {"host_images", "host_steps", "perf", "record", "archives", "driver"}
