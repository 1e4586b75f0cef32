# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a keeper keeps: a container of an engine, or processes on the bare host. Both answer the same few questions.

`start` begins it, `attach` finds what a dead keeper left, `running` tells whether it goes on, `end` ends all of it, `state` what is known
about its end, `clean_up` leaves nothing behind. A body decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..base import files
from ..base.canonical import hash_value
from ..base.errors import LaunchError, MadError
from ..containers import engine
from . import driver, host_state, processes
from .host_state import Attempt, HostFolder
from .preparation import Prepared, Seat, cpu_set, mark

RUNNING, ENDED, NEVER, GONE = "running", "ended", "never", "gone"  # what attach finds
_STARTING = ("created", "configured", "initialized")  # a container that no process has run in
_ENGINE_PATIENCE = 120.0  # seconds for an engine to come back: it is restarted, or hangs for a time
_SHORT_PATIENCE = 5.0  # the same where it has made no container for us, as far as anybody knows


class End(NamedTuple):
    """How it ended, as far as it can be seen from outside."""

    code: Optional[int]  # exit status of driver, container or client; None: not known
    oom: bool  # the engine says that it was killed for memory
    words: str  # what the engine says


class Body:
    """The half that both kinds share: one child process that is waited for."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> None:
        self.folder, self.run, self.attempt, self.seat = folder, run, attempt, seat
        self.child: Optional[subprocess.Popen[bytes]] = None
        self.reaped: Dict[int, int] = {}

    def _spawn(self, argv: List[str], cwd: str, environment: Optional[Mapping[str, str]]) -> None:
        """Start the child that is waited for."""
        self.child = self._popen(argv, cwd, environment, self._in_child)

    def _popen(
        self, argv: List[str], cwd: str, environment: Optional[Mapping[str, str]], in_child: Optional[Callable[[], None]] = None
    ) -> subprocess.Popen[bytes]:
        try:
            with open(self.attempt.file("engine.log"), "ab") as log:
                return subprocess.Popen(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=cwd,
                    start_new_session=True,
                    preexec_fn=in_child,  # noqa: PLW1509 a keeper has one thread
                )
        except (OSError, ValueError) as error:
            raise LaunchError("%s cannot be started: %s" % (argv[0], getattr(error, "strerror", None) or error)) from error

    def _wait_for(self, child: subprocess.Popen[bytes]) -> int:
        """Exit code of a child, when it has ended; -1 if somebody else has collected it."""
        while child.pid not in self.reaped:
            ended = processes.reap(wait=True)
            if not ended:
                return -1
            self.reaped.update(ended)
        return processes.exit_code(self.reaped[child.pid])[0]

    def _in_child(self) -> None:
        """In the new process, before it becomes the program: our signal handling is not its own."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    def child_status(self) -> Optional[int]:
        """Exit code of the child (128 + n after a signal), None while it runs or where there is none."""
        self.reaped.update(processes.reap())
        if self.child is None or self.child.pid not in self.reaped:
            return None
        return processes.exit_code(self.reaped[self.child.pid])[0]

    def oom_kills(self) -> Optional[int]:
        """How many of its processes the kernel has killed for memory; None where only the machine's are counted."""
        return None

    def progress(self) -> driver.Progress:
        """What the driver has written."""
        return driver.read_phases(self.attempt.file("io", "phases"))


class ContainerBody(Body):
    """A container, seen through the client of its engine. The container belongs to the engine and lives on when client and keeper die."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> None:
        super().__init__(folder, run, attempt, seat)
        self.name = engine.container_name(run["campaign"], run["id"], attempt.number)
        self.engine = engine.Engine(str(run["runtime"]))
        self.restarts = 0
        self._silent_since = 0.0  # when the engine began to give no answer; 0: it answers
        self._remover: Optional[subprocess.Popen[bytes]] = None
        self.started: Optional[Prepared] = None

    def describe(self) -> Dict[str, Any]:
        """For launch.json."""
        return {"container": self.name, "labels": engine.labels(self.run, self.attempt.number, self.folder.path)}

    def start(self, prepared: Prepared) -> None:
        """The engine's client in the foreground; it ends when the container ends."""
        self.started = prepared
        self._spawn(prepared.argv, "/", None)

    def _in_child(self) -> None:
        super()._in_child()
        processes.die_with_parent()  # the client alone, so that a dead keeper's client starts nothing later

    def attach(self) -> str:
        """What became of the container of a dead keeper."""
        for _look in range(100):
            document = self._mine_patiently()
            if document is None:
                progress = self.progress()
                if ended_well(progress):
                    return ENDED  # removed while its record was being written
                return GONE if progress.began else NEVER
            state = document["State"]
            if state.get("Status") not in _STARTING:
                break
            if not self.engine.remove(document["Id"], force=False):
                return NEVER
            time.sleep(0.1)  # it resists because it is being started in this moment
        if not _is_up(state):
            return ENDED
        self._wait_for_end()
        return RUNNING

    def _mine(self) -> Optional[Dict[str, Any]]:
        """The container if it exists. One of the same name that this folder did not make is somebody else's: LaunchError."""
        document = self.engine.inspect(self.name)
        self._silent_since = 0.0
        if document is None:
            return None
        found = ((document.get("Config") or {}).get("Labels") or {}).get("mad.folder")
        if found != engine.labels(self.run, self.attempt.number, self.folder.path)["mad.folder"]:
            raise LaunchError(
                "a container named %s exists already and belongs to another work folder of this machine; it was left alone" % self.name
            )
        return document

    def _mine_patiently(self) -> Optional[Dict[str, Any]]:
        """The same; an engine that gives no answer is waited for."""
        while True:
            try:
                return self._mine()
            except LaunchError:
                raise
            except MadError:
                if not self._is_worth_waiting():
                    raise
                time.sleep(1.0)

    def _wait_for_end(self) -> None:
        """A client that does nothing but wait: no polling beside a benchmark."""
        self._spawn([self.engine.program, "wait", self.name], "/", None)

    def running(self) -> bool:
        """Whether it goes on. A client that ended without the container (the engine was restarted) is replaced."""
        code = self.child_status()
        if code is None:
            return True
        progress = self.progress()
        if progress.ended or (code == 0 and self.started):
            return False
        try:
            document = self._mine()
        except LaunchError:
            raise
        except MadError:
            if not self._is_worth_waiting():
                raise
            return True
        if document is not None and _is_up(document["State"]):
            time.sleep(1.0)
            self._wait_for_end()
            return True
        if document is not None and document["State"].get("Status") in _STARTING and not progress.began and code == 125:
            return self._start_again(document)
        return False

    def _is_worth_waiting(self) -> bool:
        """The engine gives no answer. A container may go on without it (live-restore), and its driver writes its end down itself."""
        self._silent_since = self._silent_since or time.monotonic()
        return self._may_exist() and time.monotonic() - self._silent_since <= _ENGINE_PATIENCE

    def _may_exist(self) -> bool:
        """Whether there may be a container: the engine gave an id, or nobody has seen how the client that asked for one ended."""
        return bool(self._id()) or self.started is None or self.child_status() is None

    def _start_again(self, document: Mapping[str, Any]) -> bool:
        """The name was taken by a start that a dead keeper's client had asked for and that came to nothing."""
        if self.restarts >= 3 or self.started is None or self._id() == document["Id"]:
            return False
        self.restarts += 1
        if not self.engine.remove(str(document["Id"]), force=False):
            self._spawn(self.started.argv, "/", None)
        else:
            self._wait_for_end()
        return True

    def end(self) -> List[str]:
        """Kill and remove it; returns notes about what did not work."""
        problem = self._remove()
        if self.child is not None and self.child_status() is None:
            processes.send([self.child.pid], signal.SIGKILL)
        return ["the container %s could not be removed: %s" % (self.name, problem)] if problem else []

    def leave(self) -> None:
        """keep_alive: the container stays, only our client goes."""
        if self.child is not None and self.child_status() is None:
            processes.send([self.child.pid], signal.SIGKILL)

    def _id(self) -> str:
        """The id that the engine gave to the container that this attempt made; "" when it made none."""
        with contextlib.suppress(OSError), open(self.attempt.file("container.id"), encoding="ascii", errors="replace") as stream:
            return stream.read(100).strip()
        return ""

    def _remove(self) -> str:
        deadline = time.monotonic() + (_ENGINE_PATIENCE if self._may_exist() else _SHORT_PATIENCE)
        while True:
            try:
                document = None if self._id() else self._mine()
                who = self._id() or str((document or {}).get("Id") or "")
                problem = self.engine.remove(who) if who else ""
            except LaunchError:
                return ""  # not ours: nothing of this attempt is there
            except MadError as error:
                problem = error.message
            if not problem or time.monotonic() > deadline:
                return problem
            time.sleep(1.0)

    def state(self) -> End:
        """How it ended (asked only when it did not simply succeed)."""
        state: Mapping[str, Any] = (self._mine() or {}).get("State") or {}
        code = state.get("ExitCode") if state.get("Status") not in _STARTING else None
        return End(
            code if code is not None else self.child_status(), bool(state.get("OOMKilled")), self._words() or str(state.get("Error") or "")
        )

    def _words(self) -> str:
        """The last line of engine.log that says something."""
        with contextlib.suppress(OSError), open(self.attempt.file("engine.log"), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 4096))
            lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines()]
            useful = [line for line in lines if line and not line.startswith(("See '", "Run '", "Usage:"))]
            return useful[-1][:1000] if useful else ""
        return ""

    def begin_clean_up(self) -> bool:
        """Let the engine remove the container while the record is written: all that is to be known of it is on disk. Whether that has begun."""
        if self._id():
            self._remover = self._popen([self.engine.program, "rm", "--force", "--volumes", self._id()], "/", None)
        return self._remover is not None

    def clean_up(self, keep_alive: bool) -> List[str]:
        """Remove the container unless it is to stay."""
        if self._remover is not None and self._wait_for(self._remover) == 0:
            return []
        notes = [] if keep_alive else self.end()
        if notes:
            with contextlib.suppress(OSError):  # a full disk: the notes still say which container is left
                files.write_atomic(self.attempt.file(host_state.LEFT), self.name.encode("utf-8"), 0o600)
        return notes

    def empty(self, path: str) -> None:
        """Empty a folder of what root in the container left and we may not delete."""
        self._as_root(path, "rm -rf /rm/* /rm/.[!.]* /rm/..?*")

    def open_up(self) -> None:
        """Logs and artifacts belong to root in the container; a driver that was killed did not open them to us any more."""
        folder = self.attempt.file("io")
        if os.geteuid() != 0 and not self.progress().ended and _is_foreign(folder):
            self._as_root(folder, "chmod -R a+rwX /rm", 60.0)

    def _as_root(self, path: str, command: str, seconds: float = 600.0) -> None:
        """Do something to a folder with the same image, as root again."""
        words = engine.mount(path, "/rm") + ["--user", "0:0", "--entrypoint", "sh", engine.image_reference(self.run)]
        with contextlib.suppress(MadError):
            self.engine.call("run", "--rm", "--pull", "never", "--network", "none", *words, "-c", command, timeout=seconds)


def ended_well(progress: driver.Progress) -> bool:
    """Whether the driver itself says that everything went well and is over."""
    return bool(progress.ended) and not progress.failure and not progress.exit_code


def _is_up(state: Mapping[str, Any]) -> bool:
    return bool(state.get("Running") or state.get("Restarting") or state.get("Paused"))


class ProcessBody(Body):
    """The driver and all that it starts, on the bare host. Found again by a mark in the environment, by descent, and by a cgroup where we may."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> None:
        super().__init__(folder, run, attempt, seat)
        self.mark = mark(folder, attempt)
        self.cgroup = processes.Cgroup("mad-%s-%s-%d" % (hash_value(folder.path)[:12], run["id"], attempt.number))
        self.watched: Tuple[int, int] = (0, 0)  # (pid, start ticks) of a dead keeper's driver
        self.grace = float(folder.settings()["grace"])

    def describe(self) -> Dict[str, Any]:
        """For launch.json."""
        return {"container": "", "labels": {}, "mark": self.mark}

    def start(self, prepared: Prepared) -> None:
        """The driver, in a session of its own; whatever its children do to their sessions, they become ours when orphaned."""
        processes.become_subreaper()
        self._spawn(prepared.argv, self.attempt.file("work"), prepared.environment)

    def _in_child(self) -> None:
        super()._in_child()
        self.cgroup.enter()
        if self.seat.cpus:
            os.sched_setaffinity(0, cpu_set(self.seat.cpus))

    def attach(self) -> str:
        """What became of the driver of a dead keeper. It lives on, and writes its end down itself."""
        processes.become_subreaper()
        script = self.attempt.file("io", "driver.sh")
        drivers = [
            pid for pid in processes.with_marker(self.mark) if processes.session_of(pid) == pid and script in processes.command_of(pid)
        ]
        progress = self.progress()
        if drivers:
            self.watched = (drivers[0], processes.start_ticks(drivers[0]))
            return RUNNING
        if progress.ended:
            return ENDED
        return GONE if progress.began else NEVER

    def running(self) -> bool:
        """Whether the driver goes on."""
        if self.child is not None:
            return self.child_status() is None
        return processes.is_alive(*self.watched)

    def end(self) -> List[str]:
        """SIGTERM, then SIGKILL, until nothing is left."""
        dummy, left = processes.kill_all(self._find, self.grace, self.reaped)
        return ["%d processes could not be killed: %s" % (len(left), sorted(left)[:20])] if left else []

    def _find(self) -> Set[int]:
        return processes.descendants([os.getpid()]) | processes.with_marker(self.mark) | self.cgroup.pids()

    def leave(self) -> None:
        """There is nothing that could stay."""

    def state(self) -> End:
        """How the driver ended."""
        return End(self.child_status(), False, "")

    def oom_kills(self) -> Optional[int]:
        """Of its cgroup."""
        return self.cgroup.oom_kills()

    def begin_clean_up(self) -> bool:
        """What is left is ended before the record is written, or after: it makes no difference here."""
        return False

    def clean_up(self, dummy_keep_alive: bool) -> List[str]:
        """End what the model left in the background."""
        notes: List[str] = []
        if processes.has_children() or (self.child is None and self._find()):
            self.cgroup.kill()
            notes = self.end()
        self.cgroup.remove()
        return notes

    def empty(self, path: str) -> None:
        """Nobody else wrote there, but the model may have taken our own rights away."""
        _open_up(path)

    def open_up(self) -> None:
        """The same for logs and artifacts."""
        _open_up(self.attempt.file("io"))


def _is_foreign(folder: str) -> bool:
    """Whether anything in a folder belongs to somebody else, or lies where we may not look."""
    paths = (os.path.join(base, name) for base, folders, names in os.walk(folder) for name in folders + names)
    try:
        return any(os.lstat(path).st_uid != os.geteuid() for path in paths)
    except OSError:
        return True


def _open_up(folder: str) -> None:
    """Give ourselves back the right to read and change all that is in a folder of ours."""
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
    for base, folders, names in os.walk(folder):
        for path, rights in [(os.path.join(base, name), 0o700) for name in folders] + [(os.path.join(base, name), 0o600) for name in names]:
            with contextlib.suppress(OSError):
                mode = os.lstat(path).st_mode
                if mode & rights != rights and not stat.S_ISLNK(mode):
                    os.chmod(path, stat.S_IMODE(mode) | rights)


def make_body(folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, seat: Seat) -> ContainerBody | ProcessBody:
    """The kind that the run's runtime asks for."""
    kind = ProcessBody if run["runtime"] == "host" else ContainerBody
    return kind(folder, run, attempt, seat)
