# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: one process per attempt. It starts the run, times it, ends it with everything it started, and writes the record.

It is forked by the supervisor, lives in its own session and survives it. A keeper that finds an attempt under way (`attach`) goes on
where a dead one stopped: container and driver have not noticed. Nothing is started before launch.json is on disk.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from typing import Any, Callable, Dict, Mapping

from ..base.errors import MadError
from . import driver, ending, processes
from .bodies import ENDED, GONE, NEVER, ended_well, make_body
from .host_state import Attempt, HostFolder
from .preparation import Preparation, Seat

TICK = 1.0  # seconds between looks at a running attempt; its end itself wakes us at once
LAUNCH_LIMIT = 600.0  # seconds for the engine to start the driver
CLOCK_SLACK = 1.0  # seconds that two readings of one clock may differ
PHASE_LIMITS = {"prepare": 600.0, "clone": 3600.0, "pre": 600.0, "post": 600.0, "collect": 600.0}


class Keeper:
    """One attempt. `new()` starts it, `attach()` takes over after a dead keeper; both return when its record is written."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat, boot_id: str) -> None:
        self.folder, self.run, self.attempt, self.seat, self.boot_id = folder, run, attempt, seat, boot_id
        self.body = make_body(folder, run, attempt, seat)
        self.began = processes.uptime()
        self.offset = attempt.clock_offset()  # of the clock that `phases` is written with; None: not looked at yet
        self.created = time.time()
        self.told_to_stop = False
        self.was_ended = False  # by us
        keep = run.get("keep") or {}
        self.keep_alive = bool(keep.get("alive")) and run["runtime"] != "host"
        self.keep_work = self.keep_alive or bool(keep.get("model_dir") or keep.get("alive"))
        self.outcome: Dict[str, Any] = {
            "launched": False,
            "exit_code": None,
            "signal": 0,
            "timed_out": False,
            "oom": False,
            "cancelled": False,
            "preempted": False,
            "error": None,
            "notes": [],
            "times": {},
        }

    def new(self) -> None:
        """Prepare, start, watch, finish."""
        self._guarded(self._start_and_watch)

    def attach(self) -> None:
        """Go on with what a dead keeper left."""
        self._guarded(self._take_over)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever happens, there is a record and nothing is left running."""
        signal.signal(signal.SIGTERM, self._on_term)
        try:
            work()
        except (MadError, OSError) as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 a defect of ours must not leave a run without an end: it becomes the reason
            traceback.print_exc()
            self._fail(MadError("internal error of the keeper: %r" % error))
        self._clock_offset(self.body.progress())
        over = not self.was_ended and not self.keep_alive and not self.outcome["error"] and ended_well(self.body.progress())
        being_removed = over and self.body.begin_clean_up()
        self.body.open_up()
        ending.Ending(self.folder, self.run, self.attempt, self.outcome).write()
        if being_removed:
            self._remove_folders()
        self._clean_up()

    def _on_term(self, dummy_number: int, dummy_frame: Any) -> None:
        self.told_to_stop = True

    def _fail(self, error: Exception) -> None:
        kind, words = (error.failure_class, error.message) if isinstance(error, MadError) else ("infra", str(error))
        self._error(kind, words)
        with contextlib.suppress(MadError, OSError):
            self._end()

    def _error(self, failure_class: str, reason: str) -> None:
        self.outcome["error"] = self.outcome["error"] or {"class": failure_class, "reason": reason}

    # -- from the start to the end -------------------------------------------------------------------------------------------------

    def _start_and_watch(self) -> None:
        me = os.getpid()
        self.attempt.save_launch(
            dict(
                self.body.describe(),
                schema=1,
                run=self.run["id"],
                attempt=self.attempt.number,
                runtime=self.run["runtime"],
                keeper={"pid": me, "ticks": processes.start_ticks(me)},
                boot_id=self.boot_id,
                created=self.created,
                uptime=self.began,
                gpus=list(self.seat.gpus),
                cpus=self.seat.cpus,
                parallel=self.seat.parallel,
                oom_kills=processes.oom_kills(),
            )
        )
        prepared = Preparation(self.folder, self.run, self.attempt, self.seat).make()
        self.outcome["notes"] += prepared.notes
        self.body.start(prepared)
        self._watch()

    def _watch(self) -> None:
        """Until it ends, or we end it, or (keep_alive) it is done."""
        with Wakeups() as wakeups:
            while self.body.running():
                if self._must_end():
                    self._end()
                    break
                if self.keep_alive and self.body.progress().ended:
                    self.body.leave()
                    break
                wakeups.wait(TICK)
        self._read_end()

    def _end(self) -> None:
        self.was_ended = True
        self.outcome["notes"] += self.body.end()

    def _must_end(self) -> bool:
        """Whether somebody asked for the end, or the time is over."""
        cancel = self.folder.reason("cancel")
        if cancel is not None:
            self.outcome["cancelled"] = True
            self._error("cancelled", cancel)
        elif self.told_to_stop:
            self.outcome["preempted"] = True
            self._error("preempted", "the host told the run to stop (SIGTERM)")
        else:
            return self._time_is_over()
        return True

    def _clock_offset(self, progress: driver.Progress) -> float:
        """What to add to a moment in `phases`. Looked at once, when its first line is seen: that line was written between the launch and now."""
        if self.offset is None and progress.began:
            launched, now = float(self.attempt.launch().get("uptime") or 0.0), processes.uptime()
            self.offset = 0.0
            if not launched - CLOCK_SLACK <= progress.began <= now + CLOCK_SLACK:
                self.offset = now - max(progress.began, progress.phase_began, progress.model_ended, progress.ended)
                self.attempt.save_clock_offset(self.offset)
        return self.offset or 0.0

    def _time_is_over(self) -> bool:
        progress, now = self.body.progress(), processes.uptime()
        if progress.ended:
            return False
        if not progress.began:
            if now - self.began > LAUNCH_LIMIT:
                self._error("launch", "the engine did not start it within %d s" % LAUNCH_LIMIT)
            return now - self.began > LAUNCH_LIMIT
        now -= self._clock_offset(progress)
        if progress.phase == "model":
            limit = float(self.run.get("timeout") or 0)
            self.outcome["timed_out"] = bool(limit) and progress.exit_code is None and now - progress.phase_began > limit
            return bool(self.outcome["timed_out"])
        limit = PHASE_LIMITS.get(progress.phase, 600.0)
        if now - progress.phase_began > limit:
            self._error("timeout", "%s took longer than %d s" % (ending.phase_name(self.run, progress.phase, progress.detail), limit))
        return now - progress.phase_began > limit

    # -- what became of it ---------------------------------------------------------------------------------------------------------

    def _read_end(self) -> None:
        """Fill the outcome; the engine is asked only when it did not simply succeed."""
        progress = self.body.progress()
        self.outcome["launched"] = bool(progress.began)
        self.outcome["exit_code"] = progress.exit_code
        if not ended_well(progress) and not self.was_ended and not self.outcome["error"]:
            self._explain(progress)

    def _explain(self, progress: driver.Progress) -> None:
        """Why it ended without a success."""
        end = self.body.state()
        killed = 137 in (progress.exit_code, end.code if progress.exit_code is None else None)
        own = self.body.oom_kills()
        on_machine = processes.oom_kills() > int(self.attempt.launch().get("oom_kills") or 0)
        if end.oom or (killed and (on_machine if own is None else own > 0)):
            self.outcome["oom"] = True
            if not end.oom and own is None:
                self.outcome["notes"].append("it was killed while the kernel killed for memory on this machine; whether it was the one is not known")
            self.outcome["exit_code"] = progress.exit_code if progress.exit_code is not None else end.code
        elif not progress.began:
            self._error("launch", "it did not start: %s" % (end.words or "exit status %s" % end.code))
        elif progress.failure:
            self.outcome["error"] = ending.phase_failure(self.run, progress.failure)
        elif not progress.ended and not progress.exit_code:
            known = "exit status %d" % end.code if end.code is not None else "nobody saw how"
            self._error("infra", "it ended in phase %s from outside (%s): removed, or killed by somebody" % (progress.phase, known))

    def _clean_up(self) -> None:
        """Nothing of the attempt stays on the machine but its logs, its artifacts and its record (and what was asked to stay)."""
        for note in self.body.clean_up(self.keep_alive):
            sys.stdout.write("%s attempt %d: %s\n" % (self.run["id"], self.attempt.number, note))  # supervisor.log
            sys.stdout.flush()
        self._remove_folders()

    def _remove_folders(self) -> None:
        """What driver and model wrote into; done before the body is gone where nothing in it runs any more."""
        if not self.keep_work:
            ending.remove_folder(self.attempt.file("work"), self.body.empty)
        if not self.keep_alive:
            ending.remove_folder(self.attempt.file("io"), self.body.empty)

    # -- after a dead keeper -------------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        launch = self.attempt.launch()
        self.created = float(launch.get("created") or self.created)
        if launch.get("boot_id") != self.boot_id:
            self.outcome["launched"] = bool(self.body.progress().began)
            raise MadError("the host rebooted while it ran")
        found = self.body.attach()
        if found == NEVER:
            self._start_and_watch()
            return
        self.outcome["notes"].append("a keeper died; another one took over")
        if found == GONE and not self._must_end():  # a keeper that died while it ended the run for a reason
            self.outcome["launched"] = bool(self.body.progress().began)
            raise MadError("its keeper died, and what it kept is gone without a word about its end")
        if found in (ENDED, GONE):
            self._read_end()
        else:
            self._watch()


class Wakeups:
    """Sleep that ends as soon as a child ends or a signal comes."""

    def __enter__(self) -> Wakeups:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        return self

    def wait(self, seconds: float) -> None:
        """At most so long."""
        select.select([self.reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)

    def __exit__(self, *dummy: Any) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self.before)
        os.close(self.reader)
        os.close(self.writer)
