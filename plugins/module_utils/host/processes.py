# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of this machine: who lives, who descends from whom, and how to end them all. Linux only, standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from ..base.errors import MadError

BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_KILL_PATIENCE = 60.0  # seconds of SIGKILL before a process counts as stuck in the kernel


def boot_id(path: str = BOOT_ID_FILE) -> str:
    """The id of this boot of the machine. A kernel that does not tell is an error: nothing could be said about earlier processes."""
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError as error:
        raise MadError("the boot id of this machine cannot be read from %s: %s" % (path, error.strerror)) from error


def uptime() -> float:
    """Seconds since boot of the kernel, untouched when the time is set.

    What `phases` is written with, /proc/uptime, is this clock only where nothing virtual lies over it (lxcfs, gVisor), and `date` stands in where it
    cannot be read: see `Attempt.clock_offset`.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_clock(seconds_since_boot: float) -> float:
    """Seconds since the epoch of a moment on that clock."""
    return time.time() - (uptime() - seconds_since_boot)


def _stat_fields(pid: int) -> List[str]:
    """Fields of /proc/<pid>/stat from the state on (the name before it may hold anything); [] when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot: with the pid and the boot id it names a process for ever. 0: gone."""
    fields = _stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def is_alive(pid: int, ticks: int) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    fields = _stat_fields(pid)
    return len(fields) > 19 and int(fields[19]) == ticks and fields[0] not in ("Z", "X")


def session_of(pid: int) -> int:
    """The session of a process; 0: gone."""
    fields = _stat_fields(pid)
    return int(fields[3]) if len(fields) > 3 else 0


def command_of(pid: int) -> List[str]:
    """The command line of a process; [] when it is gone."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return os.fsdecode(stream.read()).split("\0")[:-1]
    except OSError:
        return []


def age(ticks: int) -> float:
    """Seconds since the start time of a process in clock ticks."""
    return max(0.0, uptime() - ticks / float(os.sysconf("SC_CLK_TCK")))


def flock_holder(path: str, locks: str = "/proc/locks") -> int:
    """Pid of the process that took the exclusive flock of a file; 0 when nobody has it, or the kernel does not tell (another pid namespace)."""
    try:
        wanted = os.stat(path)
        with open(locks, encoding="ascii", errors="replace") as stream:
            lines = [line.split() for line in stream]
    except OSError:
        return 0
    # 1: FLOCK ADVISORY WRITE 4711 fe:01:1234 0 EOF; overlay file systems show another device than stat does
    held = [line for line in lines if line[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and len(line) > 5]
    same = [(line[5].rpartition(":")[0], line[4]) for line in held if line[5].rpartition(":")[2] == str(wanted.st_ino)]
    device = "%02x:%02x" % (os.major(wanted.st_dev), os.minor(wanted.st_dev))
    same.sort(key=lambda entry: entry[0] != device)
    return int(same[0][1]) if same and same[0][1].isdecimal() else 0


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise MadError("prctl(%d) failed: %s" % (option, os.strerror(ctypes.get_errno())))


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children, whatever session they made for themselves."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """In a new child: SIGKILL for it as soon as its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def all_parents() -> Dict[int, int]:
    """{pid: parent} of every process, zombies left out."""
    parents: Dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat_fields(int(name))
            if len(fields) > 1 and fields[0] not in ("Z", "X"):
                parents[int(name)] = int(fields[1])
    return parents


def descendants(roots: Iterable[int]) -> Set[int]:
    """All living descendants of some processes, the roots left out."""
    children: Dict[int, List[int]] = {}
    for pid, parent in all_parents().items():
        children.setdefault(parent, []).append(pid)
    found: Set[int] = set()
    todo = list(roots)
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def has_children() -> bool:
    """Whether this process has children now, zombies left out (asks the kernel for our own list; walks /proc where it has none)."""
    me = os.getpid()
    try:
        with open("/proc/%d/task/%d/children" % (me, me), encoding="ascii") as stream:
            pids = [int(word) for word in stream.read().split()]
    except OSError:
        return bool(descendants([me]))
    return any(_stat_fields(pid)[:1] not in ([], ["Z"], ["X"]) for pid in pids)


def with_marker(marker: str) -> Set[int]:
    """Processes whose environment, as it was at their start, holds this `NAME=value`; only those that this user may look into."""
    wanted = b"\0" + marker.encode("utf-8", "surrogateescape") + b"\0"
    found: Set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as stream:
                if wanted in b"\0" + stream.read() + b"\0":
                    found.add(int(name))
    found.discard(os.getpid())
    return {pid for pid in found if _stat_fields(pid)[:1] not in ([], ["Z"], ["X"])}


def send(pids: Iterable[int], number: int) -> None:
    """A signal to each of them; who is gone or not ours is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap(wait: bool = False) -> Dict[int, int]:
    """Collect every child that has ended: {pid: wait status}; `wait` until there is one."""
    ended: Dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, 0 if wait and not ended else os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def kill_all(find: Callable[[], Set[int]], grace: float, reaped: Optional[Dict[int, int]] = None) -> Tuple[int, Set[int]]:
    """End what `find` finds, again and again until it finds nothing: SIGTERM, after `grace` seconds SIGKILL.

    Returns (how many processes were met, those that would not die). Children that end meanwhile are reaped into `reaped`.
    """
    met: Set[int] = set()
    started = time.monotonic()
    delay, told = 0.005, False
    while True:
        ended = reap()
        if reaped is not None:
            reaped.update(ended)
        alive = find()
        met |= alive
        waited = time.monotonic() - started
        if not alive or waited > grace + _KILL_PATIENCE:
            return len(met), alive
        if waited >= grace:
            send(alive, signal.SIGKILL)
        elif not told:
            send(alive, signal.SIGTERM)
            told = True
        time.sleep(delay)
        delay = min(delay * 2, 0.1)


def exit_code(status: int) -> Tuple[int, int]:
    """(exit code, signal) of a wait status; a signal gives the code 128 + signal as a shell would say it."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def oom_kills() -> int:
    """How often the kernel has killed anything on this machine for memory since boot (0 where it does not count)."""
    return _count("/proc/vmstat", "oom_kill") or 0


def _count(path: str, name: str) -> Optional[int]:
    """A number out of a kernel's file of `name number` lines; None where it does not stand there."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as stream:
        for line in stream:
            if line.startswith(name + " "):
                return int(line.split()[1])
    return None


class Cgroup:
    """A cgroup (v2) of our own for one attempt, where this user may make one; elsewhere every method does nothing."""

    def __init__(self, name: str, root: str = "/sys/fs/cgroup", own: str = "") -> None:
        self.path = ""
        with contextlib.suppress(OSError):
            parent = os.path.join(root, (own or _own_cgroup()).lstrip("/"))
            if os.path.exists(os.path.join(parent, "cgroup.controllers")):
                path = os.path.join(parent, name)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path)
                self.path = path

    def enter(self) -> None:
        """Put the calling process into it (called in the new child before exec)."""
        if self.path:
            with contextlib.suppress(OSError), open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as stream:
                stream.write("0")

    def kill(self) -> None:
        """SIGKILL to everything in it at once, also to what is being forked."""
        if self.path:
            with contextlib.suppress(OSError), open(os.path.join(self.path, "cgroup.kill"), "w", encoding="ascii") as stream:
                stream.write("1")

    def pids(self) -> Set[int]:
        """Who is in it."""
        if not self.path:
            return set()
        try:
            with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as stream:
                return {int(line) for line in stream if line.strip() != "0"}
        except OSError:
            return set()

    def oom_kills(self) -> Optional[int]:
        """How many processes in it the kernel has killed for memory, its own or the machine's; None where nobody counts."""
        return _count(os.path.join(self.path, "memory.events"), "oom_kill") if self.path else None

    def remove(self) -> None:
        """Remove it; an occupied one stays."""
        if self.path:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)


def _own_cgroup() -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("0::"):
                return line.rstrip("\n")[3:]
    raise FileNotFoundError("no cgroup v2")
