# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: its clock where /proc/uptime, which the driver writes down, is not the kernel's boot clock; whom the kernel killed for memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.plugins.module_utils.host import bodies, ending, processes
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.plugins.module_utils.host.keeper import Keeper
from ansible_collections.mad.engine.plugins.module_utils.host.preparation import Seat

ID = "00000000000000aa"
HOUR = 3600.0


class Bench:
    """An attempt that was launched a moment ago, whose driver reads a clock that is so far from ours."""

    def __init__(self, base: Path, ahead: float, timeout: float = 2 * HOUR) -> None:
        self.ahead = ahead
        folder = HostFolder(str(base / "work" / "campaigns" / work_folder.folder_name("c1", "n1")))
        folder.make("c1", "n1")
        self.run: Dict[str, Any] = {"id": ID, "runtime": "host", "model": "m", "card": {}, "timeout": timeout, "place": {"host": "n1"}}
        self.folder, self.attempt = folder, folder.attempt(ID, 1)
        folder.save_run(self.run)
        self.attempt.claim()
        os.mkdir(self.attempt.file("io"))
        self.attempt.save_launch({"uptime": processes.uptime()})

    def keeper(self) -> Keeper:
        """A new one; the second takes over from the first."""
        return Keeper(self.folder, self.run, self.attempt, Seat([], "", 1), "boot")

    def note(self, words: str, age: float = 0.0) -> None:
        """What the driver does."""
        with open(self.attempt.file("io", "phases"), "a", encoding="ascii") as stream:
            stream.write("%.2f %s\n" % (processes.uptime() + self.ahead - age, words))


@pytest.fixture(params=[0.0, 1000 * HOUR, -processes.uptime() / 2], ids=["the same clock", "one that is ahead", "one of a young container"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


def test_no_phase_takes_too_long_by_another_clock(bench: Bench) -> None:
    bench.note("begin prepare")
    keeper = bench.keeper()
    assert not keeper._time_is_over() and keeper.outcome["error"] is None
    bench.note("begin model")
    assert not keeper._time_is_over() and not keeper.outcome["timed_out"]
    assert os.path.exists(bench.attempt.file("clock.json")) == bool(bench.ahead)


def test_time_limits_hold_by_any_clock(bench: Bench) -> None:
    """Also for a keeper that takes over, and looks later."""
    bench.note("begin prepare")
    assert not bench.keeper()._time_is_over()
    keeper = bench.keeper()
    bench.note("begin model", age=20.0)
    bench.run["timeout"] = 10.0
    assert keeper._time_is_over() and keeper.outcome["timed_out"]


def test_times_of_the_record_are_those_of_the_wall_clock(bench: Bench) -> None:
    for words in ("begin prepare", "begin model", "exit model 0", "end"):
        bench.note(words)
    now = time.time()
    keeper = bench.keeper()
    keeper._clock_offset(keeper.body.progress())
    ended = ending.Ending(bench.folder, bench.run, bench.attempt, keeper.outcome)
    ended._times()
    times = keeper.outcome["times"]
    for name in ("started", "model_started", "model_finished", "finished"):
        assert abs(times[name] - now) < 60, (name, times)


@pytest.mark.parametrize(("events", "oom", "notes"), [("oom_kill 0", False, 0), ("oom 1\noom_kill 2\noom_group_kill 0", True, 0), (None, True, 1)])
def test_only_what_is_killed_in_the_runs_own_cgroup_is_its_oom(tmp_path: Path, events: Any, oom: bool, notes: int) -> None:
    """Another process of the machine may have been killed meanwhile; without a count of our own, a note says what is known."""
    bench = Bench(tmp_path, 0.0)
    bench.attempt.save_launch({"uptime": processes.uptime(), "oom_kills": processes.oom_kills() - 1})
    for words in ("begin prepare", "begin model", "exit model 137", "end"):
        bench.note(words)
    keeper = bench.keeper()
    assert isinstance(keeper.body, bodies.ProcessBody)
    (tmp_path / "cgroup.controllers").write_text("memory")
    keeper.body.cgroup.remove()
    keeper.body.cgroup = processes.Cgroup("mad", str(tmp_path), "/")
    if events:
        (tmp_path / "mad" / "memory.events").write_text("low 0\n%s\n" % events)
    keeper._read_end()
    assert (keeper.outcome["oom"], len(keeper.outcome["notes"])) == (oom, notes)
