# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher for one node: one process per rank, exit codes kept, signals passed on, no orphans, hung ranks ended.

Starting has to cost next to nothing: neither torch nor numpy is imported here, and of the standard library what is quick to import.
For several nodes use srun or torchrun; the exit code is then in status.json.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from .exitcodes import ExitCode, combine

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
PR_SET_PDEATHSIG = 1
POLL = 0.05  # seconds


class Launch:
    """command: what each rank runs. ranks: how many. grace: seconds that the others have once one rank has ended badly.

    hang_timeout: seconds without a heartbeat after which a rank counts as hung (0: never); it counts from a rank's first heartbeat.
    """

    def __init__(self, command: Sequence[str], ranks: int = 1, grace: float = 30.0, hang_timeout: float = 0.0) -> None:
        self.command, self.ranks, self.grace, self.hang_timeout = command, ranks, grace, hang_timeout
        self._children: list[subprocess.Popen[bytes]] = []
        self._killed: set[int] = set()
        self._asked: list[int] = []

    def run(self) -> int:
        """Run all ranks to their end; the code of the group (see exitcodes.combine)."""
        if not self.hang_timeout:
            return self._supervise([])
        import tempfile  # takes a third of what the launcher takes without it

        with tempfile.TemporaryDirectory(prefix="training-launch-") as folder:
            return self._supervise([os.path.join(folder, f"rank{rank}") for rank in range(self.ranks)])

    def _supervise(self, beats: Sequence[str]) -> int:
        before = {number: signal.signal(number, self._handle) for number in PASSED_ON}
        try:
            self._start(beats)
            return self._wait(beats)
        finally:
            self._end(signal.SIGKILL)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, beats: Sequence[str]) -> None:
        prepare = _die_with(os.getpid())
        shared = {"WORLD_SIZE": str(self.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
                  "TRAINING_LAUNCHER": str(os.getpid())}
        for rank in range(self.ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **({"TRAINING_HEARTBEAT": beats[rank]} if beats else {})}
            self._children.append(subprocess.Popen(list(self.command), env={**os.environ, **shared, **own}, preexec_fn=prepare))

    def _handle(self, number: int, _frame: object) -> None:
        """Only remember the signal: it is passed on once all ranks are started, so that none of them misses it."""
        self._asked.append(number)

    def _pass_on(self) -> None:
        while self._asked:
            number = self._asked.pop(0)
            for child in self._children:
                if child.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        child.send_signal(number)

    def _wait(self, beats: Sequence[str]) -> int:
        limit: float | None = None
        hung = False
        while [child for child in self._children if child.poll() is None]:  # a list: every child has to be polled
            self._pass_on()
            bad = any(child.returncode not in (None, 0) for child in self._children)
            if limit is None and bad:
                limit = time.monotonic() + self.grace
            if limit is not None and time.monotonic() > limit:
                self._end(signal.SIGKILL)
            if not hung and self._hung(beats):
                hung = True
                self._end(signal.SIGKILL)
            time.sleep(POLL)
        return int(ExitCode.PEER) if hung else self._verdict()

    def _verdict(self) -> int:
        """The cause and not its echo: ranks that lost a peer, or that were killed here because of another one, do not hide its code."""
        codes = [child.returncode for child in self._children if child.pid not in self._killed]
        return combine([code for code in codes if code not in (0, ExitCode.PEER)] or codes)

    def _hung(self, beats: Sequence[str]) -> bool:
        for child, beat in zip(self._children, beats, strict=False):  # no heartbeats, nobody hung
            with contextlib.suppress(OSError):
                if child.poll() is None and time.time() - os.path.getmtime(beat) > self.hang_timeout:
                    print(f"launch: process {child.pid} gave no sign of life for {self.hang_timeout:g} s; ending all", file=sys.stderr)
                    return True
        return False

    def _end(self, number: int) -> None:
        for child in self._children:
            if child.poll() is None:
                self._killed.add(child.pid)
                child.send_signal(number)
        for child in self._children:
            child.wait()


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the rank: ask the kernel for SIGTERM when the launcher dies.

    SIGTERM and not SIGKILL, so that the rank saves; the guard in stopping.py ends one that cannot.
    """
    library = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(ExitCode.PEER)

    return prepare


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
