# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One machine of the test cluster: a daemon and everything that it starts, however that detaches itself, below one process.

`python3 slurm_node.py PROGRAM ARGUMENT...` starts the program. SIGTERM ends it and then all that is left (slurmd leaves its jobs running
when it ends). When the program ends by itself, say killed by a test, its jobs go on, as on a machine whose daemon has crashed; SIGHUP
starts it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE = 5.0  # seconds for the program to end well


def below(pid: int) -> list[int]:
    """Return all processes below one, in no order."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, []))
    for process in found:  # grows while it is walked
        found += children.get(process, [])
    return found


def end_all(program: subprocess.Popen[bytes]) -> None:
    """End the program, then kill what is left until nothing is."""
    program.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        left = below(os.getpid())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        if not left:
            return
        time.sleep(0.02)


def reap() -> None:
    """Collect whatever has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main(argv: list[str]) -> int:
    """Keep the program until told to end."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    program = _start(argv)
    while True:
        number = signal.sigwait(signals)
        if number in (signal.SIGTERM, signal.SIGINT):
            end_all(program)
            return 0
        program.poll()
        reap()
        if number == signal.SIGHUP:
            program = _start(argv)


def _start(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, preexec_fn=_unblock)  # noqa: PLW1509  (there is one thread)


def _unblock() -> None:
    """In the new process: our waiting for signals is not its own."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
