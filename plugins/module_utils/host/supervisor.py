# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor: one process per campaign folder. It runs what is pending, in order, each attempt under a keeper of its own.

Started as `python3 lib/<sha256>.pyz supervise <folder>`; detached, so that it survives the login. It may be killed at any moment: the
keepers go on, and the next supervisor finds them by their locks. SIGTERM ends it in the same way, at once and harming nothing. SIGUSR1 wakes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set

from ..base import files, work_folder
from ..base.errors import MadError
from ..results import record
from . import ending, host_state, processes
from .host_state import Attempt, HostFolder
from .keeper import Keeper, Wakeups
from .preparation import Seat, cpu_set

HEARTBEAT = 10.0  # seconds
_LOCK_LOOK = 0.5  # seconds between tries at the machine lock
_IDLE = 5.0  # seconds; the end of a keeper and SIGUSR1 wake us before
_FOREIGN_LOOK = 0.5  # seconds between looks at keepers that are not our children


class Active:
    """An attempt under a keeper: our child (pid) or that of a supervisor before us (pid 0)."""

    def __init__(self, run: Mapping[str, Any], attempt: Attempt, seat: Seat, pid: int) -> None:
        self.run, self.attempt, self.seat, self.pid = run, attempt, seat, pid


class Supervisor:
    """Runs the list of one folder. `main()` returns when nothing is left to run (or to be waited for)."""

    def __init__(self, folder: HostFolder) -> None:
        self.folder = folder
        self.settings = folder.settings()
        self.boot_id = processes.boot_id(self.settings["boot_id_file"] or processes.BOOT_ID_FILE)
        self.own_lock: Optional[int] = None
        self.machine_lock: Optional[int] = None
        self.active: Dict[str, Active] = {}
        self.pending: List[Any] = []  # [(run, attempt number)] in the order of the plan
        self.version = -1  # of the settings that were read last
        self.last_beat = 0.0
        self.told_to_stop = False
        self.disk_full = False  # in this step something could not be written: the rest of it waits for the next one
        self.fruitless: Dict[str, int] = {}  # attempts whose keeper ended without a record

    def main(self) -> bool:
        """Take the folder and run; False when another supervisor has it."""
        self.own_lock = host_state.try_lock(self.folder.file("supervisor.lock"))
        if self.own_lock is None:
            return False
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending.reserve_space(self.folder)
        with Wakeups() as wakeups:
            self._look(adopt=True)
            while self._step():
                wakeups.wait(self._patience())
        if not self._lost_folder():
            self._leave()
        return True

    def _on_term(self, dummy_number: int, dummy_frame: Any) -> None:
        self.told_to_stop = True

    # -- one step ----------------------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Whether there is anything left to do here."""
        if self.told_to_stop or self._lost_folder():
            return False
        self.disk_full = False
        if self._settings_changed():
            self._look()
        self._end_of_keepers()
        self._obey()
        self._start_what_fits()
        self._beat()
        return bool(self.active or self.pending) or self._settings_changed()

    def _lost_folder(self) -> bool:
        """Whether a person removed the folder: nobody waits for its runs, and one of the same name is another supervisor's."""
        try:
            return self.own_lock is not None and not os.path.samestat(os.stat(self.folder.file("supervisor.lock")), os.fstat(self.own_lock))
        except FileNotFoundError:
            return True

    def _patience(self) -> float:
        if self.disk_full:
            return _IDLE
        if any(not active.pid for active in self.active.values()):
            return _FOREIGN_LOOK
        if self.pending and self.machine_lock is None:
            return _LOCK_LOOK
        return _IDLE

    def _settings_changed(self) -> bool:
        return int(self.folder.settings().get("version") or 0) != self.version

    def _look(self, adopt: bool = False) -> None:
        """Read settings and runs again; with `adopt` also take over what an earlier supervisor left."""
        self.settings = self.folder.settings()
        self.version = int(self.settings.get("version") or 0)
        self.pending = []
        for run in self.folder.runs():
            if run["id"] in self.active:
                continue
            standing = self.folder.standing(run)
            if standing.state == "open":
                self._adopt(run, self.folder.attempt(run["id"], standing.attempt))
            elif standing.state == "pending":
                self.pending.append((run, standing.attempt))
        if adopt:
            self._sweep()
        self._beat(force=True)

    # -- keepers -----------------------------------------------------------------------------------------------------------------

    def _adopt(self, run: Mapping[str, Any], attempt: Attempt) -> None:
        """An attempt without a record: its keeper lives, or died after or before the start."""
        launch = attempt.launch()
        seat = Seat(list(launch.get("gpus") or []), str(launch.get("cpus") or ""), int(launch.get("parallel") or 1))
        if attempt.held():
            self.active[run["id"]] = Active(run, attempt, seat, 0)
        elif launch:
            self._have_machine()  # if nobody has taken it since, the new keeper holds it
            self._fork(run, attempt, seat, attach=True)
        else:
            self.pending.append((run, attempt.number))  # claimed, nothing was started: the same attempt begins

    def _fork(self, run: Mapping[str, Any], attempt: Attempt, seat: Seat, attach: bool) -> None:
        """Start a keeper. It inherits the attempt's lock and the machine's, so both live exactly as long as it does."""
        lock = attempt.hold()
        if lock is None:
            self.active[run["id"]] = Active(run, attempt, seat, 0)
            return
        pid = os.fork()
        if pid == 0:
            self._be_keeper(run, attempt, seat, attach)
        os.close(lock)
        self.active[run["id"]] = Active(run, attempt, seat, pid)

    def _be_keeper(self, run: Mapping[str, Any], attempt: Attempt, seat: Seat, attach: bool) -> None:
        """In the child; never returns."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            if self.own_lock is not None:
                os.close(self.own_lock)  # the folder's lock is the supervisor's alone
            keeper = Keeper(self.folder, run, attempt, seat, self.boot_id)
            if attach and self.machine_lock is None:
                keeper.outcome["notes"].append("for a time no keeper held the machine lock, and another campaign had it afterwards")
            keeper.attach() if attach else keeper.new()
        except BaseException:  # noqa: BLE001 the last line of defence: the supervisor sees that there is no record and writes one
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(0)

    def _end_of_keepers(self) -> None:
        """Take note of the keepers that have ended; what became of the run stands in its record."""
        for pid in processes.reap():
            for active in self.active.values():
                if active.pid == pid:
                    active.pid = -1
        for run_id, active in list(self.active.items()):
            if active.pid == -1 or (active.pid == 0 and not active.attempt.held()):
                del self.active[run_id]
                self._after(active)

    def _after(self, active: Active) -> None:
        standing = self.folder.standing(active.run)
        if standing.state == "open":
            self._after_dead_keeper(active)
        elif standing.state == "pending":
            self.pending.append((active.run, standing.attempt))
            self.pending.sort(key=lambda entry: (entry[0].get("order", 0), entry[0]["id"]))

    def _after_dead_keeper(self, active: Active) -> None:
        """No record: another keeper takes over; after the third one the record says so itself."""
        count = self.fruitless[active.run["id"]] = self.fruitless.get(active.run["id"], 0) + 1
        if count <= 3:
            if count > 1:
                time.sleep(count)
            self._adopt(active.run, active.attempt)
            return
        self._write_record(
            active.run,
            active.attempt,
            {"failure_class": "infra", "reason": "its keeper ended %d times without a record; see supervisor.log on the host" % count},
        )

    def _write_record(self, run: Mapping[str, Any], attempt: Attempt, decision: Mapping[str, str]) -> None:
        with self._or_later(run, attempt.number):
            attempt.claim()
            document = record.make_unrun_record(dict(run, attempt=attempt.number), decision["failure_class"], decision["reason"])
            attempt.save_result(dict(document, host=self.folder.facts()))

    @contextlib.contextmanager
    def _or_later(self, run: Mapping[str, Any], number: int) -> Iterator[None]:
        """What cannot be written now (a full disk) is tried again."""
        try:
            yield
        except (OSError, MadError) as error:
            self._complain("the end of run %s cannot be written: %s" % (run["id"], error))
            self.pending.append((run, number))
            self.disk_full = True

    # -- starting ----------------------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """`cancel` and `stop`: nothing more starts; what never began gets its record."""
        cancel, stop = self.folder.reason("cancel"), self.folder.reason("stop")
        if cancel is None and stop is None:
            return
        pending, self.pending = self.pending, []
        for run, number in pending:
            if self.disk_full:
                self.pending.append((run, number))
                continue
            with self._or_later(run, number):
                decision = self.folder.end_of_pending(run, number, cancel, stop)
                if decision:
                    self._write_record(run, self.folder.attempt(run["id"], number), decision)

    def _start_what_fits(self) -> None:
        if not self.pending or not self._have_machine():
            return
        limit = max(1, int(self.settings.get("parallel") or 1))
        waiting: List[Any] = []
        todo, self.pending = self.pending, []
        for run, number in todo:
            if len(self.active) >= limit or waiting or self.disk_full:
                waiting.append((run, number))  # in order: a run that waits for GPUs is not overtaken
                continue
            seat = self._seat(run, limit)
            if seat is None:
                waiting.append((run, number))
            else:
                self._start(run, number, seat)
        self.pending = waiting + self.pending

    def _have_machine(self) -> bool:
        """The machine lock, once and until nothing is left to run."""
        if self.machine_lock is None:
            descriptor = host_state.open_machine_lock(str(self.settings["lock"]))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                return False
            self.machine_lock = descriptor
            self._beat(force=True)
        return True

    def _seat(self, run: Mapping[str, Any], limit: int) -> Optional[Seat]:
        """Free GPUs and CPUs for a run; None when others have them now, an impossible wish gets its record from the keeper."""
        taken_gpus = {index for active in self.active.values() for index in active.seat.gpus}
        pool = [int(index) for index in (run.get("gpus") or {}).get("pool") or []]
        count = int((run.get("gpus") or {}).get("count") or 0)
        free = [index for index in pool if index not in taken_gpus]
        if count <= len(pool) and count > len(free):
            return None
        cpus = self._cpus(str(run.get("cpus") or ""), limit)
        return None if cpus is None else Seat(free[:count] if count <= len(pool) else pool, cpus, limit)

    def _cpus(self, wanted: str, limit: int) -> Optional[str]:
        """The CPUs a run asks for, or, side by side, an equal share; None while others have them."""
        taken: Set[int] = set()
        for active in self.active.values():
            taken |= _cpus_or_none(active.seat.cpus)
        if wanted:
            return None if _cpus_or_none(wanted) & taken else wanted
        if limit == 1:
            return ""
        everything = sorted(os.sched_getaffinity(0))
        share = max(1, len(everything) // limit)
        free = [cpu for cpu in everything if cpu not in taken]
        if len(free) < share and self.active:
            return None
        return cpu_text(free[:share])

    def _start(self, run: Mapping[str, Any], number: int, seat: Seat) -> None:
        attempt = self.folder.attempt(run["id"], number)
        problem = self._why_not(run)
        if problem:
            self._write_record(run, attempt, problem)
            return
        try:
            attempt.claim()
        except OSError as error:
            self._complain("the attempt folder %s cannot be made: %s" % (attempt.path, error.strerror))
            self.pending.append((run, number))
            self.disk_full = True
            return
        self._fork(run, attempt, seat, attach=False)
        if len(self.active) > 1:
            self._note_neighbours(run["id"])

    def _why_not(self, run: Mapping[str, Any]) -> Optional[Dict[str, str]]:
        gpus = run.get("gpus") or {}
        count, pool = int(gpus.get("count") or 0), gpus.get("pool") or []
        if count > len(pool):
            return {
                "failure_class": "placement",
                "reason": "the model asks for %d GPUs, the host offers %d (docker_gpus)" % (count, len(pool)),
            }
        wanted = int(self.settings["min_free_bytes"])
        try:
            free = shutil.disk_usage(self.folder.path).free
        except OSError:
            return None
        if free < wanted:
            return {
                "failure_class": "infra",
                "reason": "only %d MiB are free in %s, %d MiB are needed to start a run; mad.engine.clean removes old campaigns"
                % (free >> 20, self.folder.path, wanted >> 20),
            }
        return None

    def _note_neighbours(self, new: str) -> None:
        """Write down for all that run now beside whom they run."""
        for run_id, active in self.active.items():
            others = [new] if run_id != new else [other for other in self.active if other != new]
            with contextlib.suppress(OSError), open(active.attempt.file("neighbours"), "a", encoding="ascii") as stream:
                stream.write("".join(other + "\n" for other in others))

    # -- the rest ----------------------------------------------------------------------------------------------------------------

    def _beat(self, force: bool = False) -> None:
        """state.json: who we are, what runs. A full disk must not stop the runs."""
        now = time.time()
        running = sorted(self.active)
        if not force and now - self.last_beat < HEARTBEAT and running == getattr(self, "_shown", None):
            return
        self.last_beat, self._shown = now, running
        me = os.getpid()
        state = {
            "pid": me,
            "started": processes.start_ticks(me),
            "boot_id": self.boot_id,
            "heartbeat": now,
            "running": running,
            "queued": len(self.pending),
            "machine_lock": self.machine_lock is not None,
            "version": self.version,
        }
        try:
            write_quickly(self.folder.file("state.json"), state)
        except OSError as error:
            self._complain("state.json cannot be written: %s" % error.strerror)

    def _sweep(self) -> None:
        """Containers of finished attempts whose keeper died between the record and the removal."""
        from ..containers.engine import Engine

        programs = sorted({str(run["runtime"]) for run in self.folder.runs() if run["runtime"] != "host"})
        for program in programs if self.folder.state() else []:
            with contextlib.suppress(MadError):
                engine = Engine(program)
                for name in engine.containers_of(self.folder.path):
                    self._sweep_one(engine, name)

    def _sweep_one(self, engine: Any, name: str) -> None:
        parts = name.rsplit("-", 2)
        if len(parts) == 3 and parts[2].isdecimal():
            run, attempt = self.folder.run(parts[1]), self.folder.attempt(parts[1], int(parts[2]))
            if run and attempt.result() and not attempt.held() and not (run.get("keep") or {}).get("alive"):
                engine.remove(name)

    def _complain(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write("%s %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text))
            sys.stderr.flush()

    def _leave(self) -> None:
        """Secrets go when nothing is left to run; under the lock of staging, so that those of new runs stay."""
        with files.locked(self.folder.file("stage.lock"), blocking=False) as mine:
            if mine and all(self.folder.standing(run).state == "done" for run in self.folder.runs()):
                self.folder.forget_secrets()
                for name in (ending.RESERVE, "crashes"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.folder.file(name))
        self._beat(force=True)


def _cpus_or_none(text: str) -> Set[int]:
    try:
        return cpu_set(text) if text else set()
    except MadError:
        return set()  # the keeper says what is wrong with it


def cpu_text(cpus: Sequence[int]) -> str:
    """ "0-2,8" of [0, 1, 2, 8]."""
    parts: List[List[int]] = []
    for cpu in cpus:
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join("%d-%d" % (first, last) if last > first else str(first) for first, last in parts)


def write_quickly(path: str, value: Any) -> None:
    """Replace a JSON file in one step without asking the disk to keep it: for what is only of use while this boot lasts."""
    import json

    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    os.replace(temporary, path)


# -- the program -----------------------------------------------------------------------------------------------------------------


def detach(log: str, ready: Optional[int]) -> Callable[[], None]:
    """Become a daemon: own session, no terminal, no descriptor of the caller, cwd /. Returns what tells the caller that we stand."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, ready if ready is not None else 65536)
    if ready is not None:
        os.closerange(ready + 1, 65536)

    def say() -> None:
        if ready is not None:
            with contextlib.suppress(OSError):
                os.close(ready)

    return say


def run_program(argv: Sequence[str]) -> int:
    """`supervise <folder> [<descriptor to close when detached>]`."""
    if len(argv) not in (2, 3) or argv[0] != "supervise":
        sys.stderr.write("usage: supervise FOLDER [DESCRIPTOR]\n")
        return 4
    folder = HostFolder(argv[1])
    work_folder.check_owner(folder.path)
    say = detach(folder.file("supervisor.log"), int(argv[2]) if len(argv) == 3 else None)
    say()
    try:
        Supervisor(folder).main()
    except Exception as error:  # noqa: BLE001 the log is the only one who listens; the next poll reads it and starts another supervisor
        traceback.print_exc()
        folder.note_crash(str(error) or repr(error))
        return 1
    return 0
