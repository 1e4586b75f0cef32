# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes: identity, descent, the end of everything."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import processes
from ansible_collections.mad.engine.tests.support.bench_host import pgrep


def until(true: Callable[[], bool]) -> None:
    """Wait for something that takes a moment; TimeoutError after 20 s."""
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def test_identity_survives_reuse_of_a_pid() -> None:
    child = subprocess.Popen(["sleep", "30"])
    ticks = processes.start_ticks(child.pid)
    assert processes.is_alive(child.pid, ticks) and not processes.is_alive(child.pid, ticks + 1)
    until(lambda: processes.command_of(child.pid) == ["sleep", "30"])  # the parent goes on while exec is still under way
    assert processes.session_of(child.pid) == os.getsid(child.pid)
    child.kill()
    until(lambda: not processes.is_alive(child.pid, ticks))  # a zombie
    child.wait()
    assert processes.start_ticks(child.pid) == 0 and processes.command_of(child.pid) == []


def test_marker_and_descendants() -> None:
    script = "setsid sleep 30 & sleep 30"
    child = subprocess.Popen(["bash", "-c", script], env=dict(os.environ, MAD_TEST_MARK="x/1"))
    try:
        time.sleep(0.3)
        assert len(processes.with_marker("MAD_TEST_MARK=x/1")) == 3 and processes.with_marker("MAD_TEST_MARK=x/") == set()
        assert len(processes.descendants([child.pid])) == 2
        assert processes.has_children()
    finally:
        met, left = processes.kill_all(lambda: processes.with_marker("MAD_TEST_MARK=x/1"), 0.0)
    assert met == 3 and left == set()


KILLER = """
import os, subprocess, sys, time
sys.path.insert(0, %r)
from ansible_collections.mad.engine.plugins.module_utils.host import processes
from ansible_collections.mad.engine.tests.support.bench_host import pgrep
processes.become_subreaper()
subprocess.Popen(["bash", "-c", %r])
time.sleep(0.5)
met, left = processes.kill_all(lambda: processes.descendants([os.getpid()]), %r)
print(met, len(left), processes.has_children())
"""


@pytest.mark.parametrize("grace", [0.0, 0.3])
def test_nothing_escapes(grace: float) -> None:
    """Other sessions, double forks, ignored signals, an empty environment: all are ended."""
    tag = "87%03d" % (os.getpid() % 1000)
    script = (
        "trap '' TERM; setsid sleep {0} & (setsid env -i sleep {0} &) ; "
        "(nohup bash -c \"trap '' TERM; sleep {0}; sleep {0}\" &); sleep {0}; sleep {0}"
    ).format(tag)
    path = os.environ["ANSIBLE_COLLECTIONS_PATH"]
    done = subprocess.run([sys.executable, "-c", KILLER % (path, script, grace)], capture_output=True, text=True, check=True)
    met, left, children = done.stdout.split()
    assert int(met) >= 5 and (left, children) == ("0", "False")
    assert pgrep("sleep " + tag) == []


def test_exit_codes() -> None:
    assert processes.exit_code(3 << 8) == (3, 0)
    assert processes.exit_code(9) == (137, 9)


def test_boot_id_that_cannot_be_read(tmp_path: Path) -> None:
    assert processes.boot_id()
    with pytest.raises(MadError, match="boot id"):
        processes.boot_id(str(tmp_path / "nothing"))


def test_clock_is_that_of_proc_uptime() -> None:
    with open("/proc/uptime", encoding="ascii") as stream:
        assert abs(float(stream.read().split()[0]) - processes.uptime()) < 0.5


def test_cgroup_where_one_may_be_made(tmp_path: Path) -> None:
    """A cgroup v2 folder is used, removed at the end; where there is none every call does nothing."""
    (tmp_path / "own").mkdir()
    nothing = processes.Cgroup("x", str(tmp_path), "/own")
    nothing.enter(), nothing.kill(), nothing.remove()
    assert nothing.path == "" and nothing.pids() == set()
    (tmp_path / "own" / "cgroup.controllers").write_text("")
    group = processes.Cgroup("x", str(tmp_path), "/own")
    assert group.path == str(tmp_path / "own" / "x")
    (Path(group.path) / "cgroup.procs").write_text("12\n34\n0\n")
    assert group.pids() == {12, 34}
    group.kill()
    assert (Path(group.path) / "cgroup.kill").read_text() == "1"


def test_who_took_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    assert processes.flock_holder(str(path)) == 0 and processes.flock_holder(str(tmp_path / "absent")) == 0
    known = os.stat(path)
    device = "%02x:%02x" % (os.major(known.st_dev), os.minor(known.st_dev))
    table = tmp_path / "locks"
    table.write_text(
        "1: POSIX  ADVISORY  WRITE 11 {0}:{1} 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 00:99:{1} 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 13 {0}:{1} 0 EOF\n"
        "3: FLOCK  ADVISORY  READ 14 {0}:{1} 0 EOF\n4: FLOCK  ADVISORY  WRITE 15 {0}:{1} 0 EOF\nnonsense\n".format(device, known.st_ino)
    )
    assert processes.flock_holder(str(path), str(table)) == 15
    table.write_text("2: FLOCK  ADVISORY  WRITE 12 00:99:%d 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 %s:5 0 EOF\n" % (known.st_ino, device))
    assert processes.flock_holder(str(path), str(table)) == 12  # an overlay file system: stat knows another device
    table.write_text("3: FLOCK  ADVISORY  WRITE -1 %s:%d 0 EOF\n" % (device, known.st_ino))
    assert processes.flock_holder(str(path), str(table)) == 0  # of another pid namespace


def test_who_took_a_lock_as_this_kernel_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with open(path, "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert processes.flock_holder(str(path)) in (os.getpid(), 0)  # 0: a kernel or a sandbox without /proc/locks


def test_the_age_of_a_process() -> None:
    assert 0 < processes.age(processes.start_ticks(os.getpid())) < processes.uptime()
