# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run steps side by side: a failing one does not hide the others, an absent component is said aloud, and the summary comes last."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WORKERS = 6  # five chains of tests on real parts, which wait half of their time, and one step that computes meanwhile
SHOWN_LINES = 60


class Failed(Exception):
    """The step found something wrong; the text is its one line in the summary."""


class Absent(Exception):
    """The step could not run because a component is not here; a failure where CI=true unless `excusable`."""

    def __init__(self, reason: str, excusable: bool = False) -> None:
        super().__init__(reason)
        self.excusable = excusable


@dataclasses.dataclass
class Step:
    """One thing to check. `check` says that it is quick and needs neither root nor services; `after` names steps that must have ended before.

    `waits` says that its tests wait for servers and have time limits: steps that only compute run with `nice` and take what these leave of the cores.
    """

    name: str
    about: str
    action: Callable[[Job], str | None]
    check: bool = True
    after: Sequence[str] = ()
    waits: bool = False


@dataclasses.dataclass
class Result:
    """How a step ended: `ok`, `FAILED` or `absent`. `cpu` counts what its commands started and waited for: servers and detached runs are not in it."""

    step: Step
    verdict: str
    seconds: float
    cpu: float = 0.0
    note: str = ""


class Job:
    """What a step's action gets: a log file, and a way to run commands that end with this process."""

    def __init__(self, run: Run, step: Step) -> None:
        self.run, self.step = run, step
        self.log_path = run.logs / (step.name + ".log")
        self.log = open(self.log_path, "wb")  # noqa: SIM115  (closed by Run)
        self.cpu = 0.0

    def say(self, text: str) -> None:
        """Write a line to the step's log."""
        self.log.write(text.encode("utf-8", "replace") + b"\n")
        self.log.flush()

    def call(self, argv: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> int:
        """Run a command into the log; return its exit status."""
        words = [str(word) for word in argv]
        self.say("$ " + " ".join(words))
        process = subprocess.Popen(
            words if self.step.waits else ["nice", "-n", "5", *words],
            cwd=cwd or self.run.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with self.run.tracking(process):
            _pid, status, used = os.wait4(process.pid, 0)
        self.cpu += used.ru_utime + used.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode

    def must(self, argv: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None, what: str = "") -> None:
        """Run a command that has to succeed."""
        status = self.call(argv, cwd=cwd, env=env)
        if status:
            raise Failed(what or "%s ended with %d" % (Path(str(argv[0])).name, status))

    def tail(self, lines: int = SHOWN_LINES) -> list[str]:
        """Return the last lines of the log."""
        self.log.flush()
        return self.log_path.read_text("utf-8", "replace").splitlines()[-lines:]


class Run:
    """All steps of one call, their results, and the processes to end when somebody interrupts."""

    def __init__(self, root: Path, logs: Path, strict: bool) -> None:
        self.root, self.logs, self.strict = root, logs, strict
        self.results: list[Result] = []
        self.started = time.monotonic()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = False
        logs.mkdir(parents=True, exist_ok=True)

    class _Tracking:
        def __init__(self, run: Run, process: subprocess.Popen[bytes]) -> None:
            self.run, self.process = run, process

        def __enter__(self) -> None:
            with self.run._lock:
                self.run._processes.add(self.process)
            if self.run._stopping:
                end_group(self.process)

        def __exit__(self, *dummy: object) -> None:
            with self.run._lock:
                self.run._processes.discard(self.process)

    def tracking(self, process: subprocess.Popen[bytes]) -> _Tracking:
        """Remember a process while it runs."""
        return self._Tracking(self, process)

    def say(self, text: str) -> None:
        """Print one line with the time since the start."""
        print("[%6.1fs] %s" % (time.monotonic() - self.started, text), flush=True)

    def execute(self, steps: list[Step]) -> None:
        """Run the steps in their order, so many at a time, each as soon as what it waits for has ended."""
        pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
        names = {step.name for step in steps}
        waiting = list(steps)
        running: dict[concurrent.futures.Future[Result], Step] = {}
        try:
            while waiting or running:
                ended = {result.step.name for result in self.results}
                for step in [s for s in waiting if all(name in ended or name not in names for name in s.after)]:
                    if len(running) < WORKERS:
                        waiting.remove(step)
                        running[pool.submit(self._one, step)] = step
                done, dummy = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    self._record(future.result())
        except KeyboardInterrupt:
            self.say("interrupted: ending what runs")
            self.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, step: Step) -> Result:
        started, job = time.monotonic(), Job(self, step)
        self.say("start   %s: %s" % (step.name, step.about))
        verdict, note = "ok", ""
        try:
            note = step.action(job) or ""
        except Failed as error:
            verdict, note = "FAILED", str(error)
        except Absent as error:
            verdict, note = ("FAILED" if self.strict and not error.excusable else "absent"), str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a defect in a step is that step's failure, it must not hide the others
            job.say("%s: %s" % (type(error).__name__, error))
            verdict, note = "FAILED", "%s: %s" % (type(error).__name__, error)
        if verdict == "FAILED":
            self._show(job, note)
        job.log.close()
        return Result(step, verdict, time.monotonic() - started, job.cpu, note)

    def _show(self, job: Job, note: str) -> None:
        lines = ["----- %s failed: %s; the end of %s:" % (job.step.name, note, job.log_path)]
        print("\n".join(lines + ["    " + line for line in job.tail()] + ["-----"]), flush=True)

    def _record(self, result: Result) -> None:
        self.results.append(result)
        self.say("%-7s %s (%.1f s) %s" % (result.verdict, result.step.name, result.seconds, result.note))

    def stop(self) -> None:
        """End every running command with what it started; pytest tears its fixtures down."""
        self._stopping = True
        with self._lock:
            processes = list(self._processes)
        for process in processes:
            end_group(process)

    def summary(self, left: int = 0) -> int:
        """Print the table; return the exit status. `left`: so many steps had no chance to end."""
        print("\n%-20s %-7s %8s %8s  %s" % ("step", "result", "seconds", "of CPU", "note"))
        for result in self.results:
            print("%-20s %-7s %8.1f %8.1f  %s" % (result.step.name, result.verdict, result.seconds, result.cpu, result.note))
        print("%-20s %-7s %8.1f %8.1f" % ("all", "", time.monotonic() - self.started, sum(result.cpu for result in self.results)))
        for result in self.results:
            if result.verdict == "absent":
                print("!! NOT CHECKED HERE: %s: %s" % (result.step.name, result.note))
        count = {verdict: sum(r.verdict == verdict for r in self.results) for verdict in ("ok", "FAILED", "absent")}
        skipped = ", %d skipped" % count["absent"] if count["absent"] else ""
        interrupted = "; interrupted, not ended: %d" % left if left else ""
        print("%d passed, %d failed%s%s" % (count["ok"], count["FAILED"], skipped, interrupted), flush=True)
        return 1 if count["FAILED"] or not count["ok"] else 0


def end_group(process: subprocess.Popen[bytes], patience: float = 20) -> None:
    """Ask a command's process group to end, then make it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + (patience if number != signal.SIGKILL else 5)
        while time.monotonic() < deadline:
            if has_ended(process):
                return
            time.sleep(0.1)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a command has ended, and leave its status to the thread that waits for it."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def interrupt_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C, so that everything started is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def line_with(lines: Sequence[str], *words: str) -> str:
    """Return the last line that holds one of the words, for a note in the summary."""
    for line in reversed(lines):
        if any(word in line for word in words):
            return line.strip(" =\n")
    return ""


if __name__ == "__main__":
    sys.exit("run dev/test")
