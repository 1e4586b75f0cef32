# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that tests start and that never outlive them: ended by pid at the end, when interrupted, and when this process is killed."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
_live: set[Daemon] = set()


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: a SIGKILL of pytest leaves nothing behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below a process, parents first."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


class Daemon:
    """A process in the foreground of its own session, with its output in a file."""

    def __init__(self, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (start daemons from a thread that lives on)
            )
        _live.add(self)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = 240) -> Daemon:
        """Wait for it to serve; its death or the end of the patience is an error that carries its last lines."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])
                raise RuntimeError("%s did not come up:\n%s" % (self.process.args, tail))
            time.sleep(0.05)
        return self

    def stop(self, patience: float = 15) -> None:
        """End it and what it started: SIGTERM, then SIGKILL."""
        below = descendants(self.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self._kill(below)

    def kill(self) -> None:
        """End it at once, with what it started: a machine that loses its power."""
        self._kill(descendants(self.pid))

    def _kill(self, below: Sequence[int]) -> None:
        for pid in [self.pid, *below] if self.process.poll() is None else below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        _live.discard(self)


def stop_all() -> None:
    """End every daemon that is still there, the youngest first."""
    for daemon in sorted(_live, key=lambda d: -d.pid):
        daemon.stop(5)


atexit.register(stop_all)
