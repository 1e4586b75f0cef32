# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stopping: signal handlers that only set a flag, the deadline clock, and the guard against outliving the launcher.

Nothing here imports torch: `install()` has to run before that import, which takes seconds in which a signal would be lost or fatal.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn

from .exitcodes import ExitCode

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
GUARD_GRACE = 60.0  # seconds a rank may still live once its launcher is gone


class StopFlag:
    """What the signals asked for. Handlers write it, the loop reads it at step boundaries.

    TERM, USR1 and INT ask to save and stop; USR2 asks to save and go on. A second TERM or USR1 changes nothing; a second INT aborts.
    """

    def __init__(self) -> None:
        self.reason: str = ""
        self.save_requested = False
        self._interrupts = 0

    @property
    def stop_requested(self) -> bool:
        """Whether the run shall end at the next step boundary."""
        return bool(self.reason)

    def request(self, reason: str) -> None:
        """Ask to stop; the first reason is kept."""
        self.reason = self.reason or reason

    def take_save_request(self) -> bool:
        """Whether a save was asked for since the last call."""
        asked, self.save_requested = self.save_requested, False
        return asked

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler: sets the flag and nothing else, for it may run between any two bytecodes of an update."""
        if number == signal.SIGUSR2:
            self.save_requested = True
            return
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                os._exit(128 + signal.SIGINT)
        self.request(signal.Signals(number).name)


_flag = StopFlag()


def install() -> StopFlag:
    """Put the handlers in place (main thread only) and return the flag of this process."""
    for number in (*STOP_SIGNALS, signal.SIGUSR2):
        signal.signal(number, _flag.handle)
    return _flag


def begin() -> StopFlag:
    """What a process does first: `install`, and the guard where our launcher has started it."""
    flag = install()
    launcher = os.environ.get("TRAINING_LAUNCHER", "")
    if launcher.isdigit() and os.getppid() == int(launcher):
        guard_against_orphaning(int(launcher))
    return flag


def leave(code: int) -> NoReturn:
    """End the process, without the seconds that tearing down the interpreter takes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ignore_in_worker() -> None:
    """For processes that load data: signals sent to the whole group are for the training process alone."""
    for number in (*STOP_SIGNALS, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def deadline_from(env: Mapping[str, str]) -> float | None:
    """The time limit as seconds since the epoch: TRAINING_DEADLINE, else SLURM_JOB_END_TIME; None where there is none."""
    for name in ("TRAINING_DEADLINE", "SLURM_JOB_END_TIME"):
        try:
            return float(env[name])
        except (KeyError, ValueError):
            continue
    return None


class Deadline:
    """Says when a save has to begin so that it still ends before the time limit.

    Steps and saves are measured; the need is margin + median step + 1.5 x the longest save.
    """

    def __init__(self, end: float | None, margin: float) -> None:
        self.end, self.margin = end, margin
        self._steps: list[float] = []
        self._save = 0.0

    def saw_step(self, seconds: float) -> None:
        """Remember the duration of a step (the last 64 count)."""
        if self.end is not None:
            self._steps = [*self._steps[-63:], seconds]

    def saw_save(self, seconds: float) -> None:
        """Remember the duration of a whole save."""
        self._save = max(self._save, seconds)

    def reached(self) -> bool:
        """Whether it is time to save and leave."""
        if self.end is None:
            return False
        step = sorted(self._steps)[len(self._steps) // 2] if self._steps else 0.0
        return self.end - time.time() < self.margin + step + 1.5 * self._save


def guard_against_orphaning(parent: int, *, grace: float = GUARD_GRACE, poll: float = 1.0) -> threading.Thread:
    """End this process when `parent` is gone: first by the stop flag, after `grace` seconds at once with the code for a lost peer.

    The kernel's parent-death signal asks politely (see launch.py); this thread is for a rank that hangs and cannot answer.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(poll)
        _flag.request("launcher gone")
        time.sleep(grace)
        os._exit(ExitCode.PEER)

    thread = threading.Thread(target=watch, name="orphan-guard", daemon=True)
    thread.start()
    return thread
