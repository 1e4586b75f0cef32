# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work folder on a host: its names, its files and who may start what. No other code knows them.

<work dir>/lib/<sha256>.pyz                     the core as a zipapp
<work dir>/outbox/<random>.tar.gz               an archive on its way to the controller
<work dir>/campaigns/<campaign>.<12 hex>/       mode 0700, one per campaign and inventory host
    host.json  settings.json  facts.json  secrets.json  state.json  supervisor.lock  stage.lock  settings.lock
    stop  cancel  crashes  supervisor.log
    tree/<hash>/                                staged copies of the repository's paths
    runs/<run id>/run.json
    runs/<run id>/attempt-N/                    made by mkdir: the arbiter
        keeper.lock                             flock, held by the keeper as long as it lives
        launch.json                             written before anything is started
        clock.json                              how far the clock of `phases` is from the boot clock, where it is another one
        io/                                     what driver and model may write: driver.sh, phases, logs, artifacts
        work/                                   /myworkspace
        model.log pre.log post.log engine.log artifacts/      moved here from io/ at the end
        result.json                             the record; its existence is the end of the attempt
        last                                    exists: no attempt follows this one, whatever its record says (text = why)
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..base import files, work_folder
from ..base.errors import InvalidInput, MadError
from ..results import status
from . import processes

_ATTEMPT = re.compile(r"attempt-([1-9][0-9]{0,5})\Z")
_RUN_ID = re.compile(r"[0-9a-f]{16}\Z")
LEFT = "left"  # file in the folder of an attempt whose container could not be removed; the name of the container
LOGS = ("model.log", "pre.log", "post.log", "engine.log")
ELSEWHERE = "elsewhere"  # boot id of a launch that no reboot of this machine ends
DEFAULT_LOCK = "/var/tmp/mad-host.lock"
# A resumable model may ask to be run again (exit code 75) for ever, but not more than so often in a row after so short a time.
HASTY_LIMIT, HASTY_SECONDS = 10, 60.0
DEFAULT_SETTINGS: Dict[str, Any] = {"lock": DEFAULT_LOCK, "parallel": 1, "min_free_bytes": 256 << 20, "grace": 10.0, "boot_id_file": ""}


def work_dir(job: Mapping[str, Any]) -> str:
    """The user's work folder on this host."""
    path = os.path.expanduser(str(job.get("work_dir") or "")) or work_folder.default_work_dir()
    if not os.path.isabs(path):
        raise InvalidInput("mad_work_dir %r is not an absolute path" % path)
    return os.path.normpath(path)


def folder_of(job: Mapping[str, Any]) -> HostFolder:
    """The campaign's folder here."""
    name = work_folder.folder_name(str(job["campaign"]), str(job["host"]))
    return HostFolder(os.path.join(work_dir(job), "campaigns", name), str(job.get("identity") or ""))


def read_optional(path: str) -> Dict[str, Any]:
    """A JSON object, or {} where it is absent or no JSON object. All these files are replaced atomically: half of one never stands there.

    One that is there and cannot be read (a disk that fails, a right that is missing) is an error: it must not pass for one that never was.
    """
    try:
        value = files.read_json(path, "the file")
    except InvalidInput as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            raise MadError(error.message) from error
        return {}
    return value if isinstance(value, dict) else {}


def read_text(path: str, limit: int = 65536) -> str:
    """The beginning of a small text file; "" where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(limit)
    except OSError:
        return ""


def try_lock(path: str) -> Optional[int]:
    """A descriptor that holds the exclusive flock of this file, or None when another process holds it.

    Who only looks (`is_locked`) holds it for a moment: nobody shall take that for the owner.
    """
    for pause in (0.001, 0.01, 0.05):
        descriptor = _take_lock(path)
        if descriptor is not None:
            return descriptor
        time.sleep(pause)
    return _take_lock(path)


def _take_lock(path: str) -> Optional[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    taken = False
    try:
        taken = files.lock(descriptor, path, False)
    finally:
        if not taken:
            os.close(descriptor)
    return descriptor if taken else None


def is_locked(path: str) -> bool:
    """Whether a living process holds the flock of this file."""
    if not os.path.exists(path):
        return False
    descriptor = _take_lock(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def open_machine_lock(path: str) -> int:
    """Open the lock of the machine: usable by every user, never followed through a link, never truncated, never deleted."""
    descriptor = _open_existing_lock(path)
    if descriptor is None:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            os.fchmod(descriptor, 0o666)  # the umask must not decide who may measure here
    if descriptor is None:  # somebody else made it in between
        descriptor = _open_existing_lock(path)
    if descriptor is None:
        raise MadError("the machine lock %s appears and disappears; nobody may delete it while campaigns run" % path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInput("mad_host_lock %s is not a regular file" % path)
    return descriptor


def _open_existing_lock(path: str) -> Optional[int]:
    # Without O_CREAT: in a sticky folder the kernel refuses O_CREAT on a file of somebody else (fs.protected_regular), even to root.
    for flags in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except PermissionError:
            continue
        except OSError as error:
            reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise InvalidInput("mad_host_lock %s cannot be opened: %s" % (path, reason)) from error
    raise InvalidInput("mad_host_lock %s cannot be opened by user %s: make it mode 0666" % (path, work_folder.user_name(os.geteuid())))


class Attempt:
    """One attempt-N folder."""

    def __init__(self, path: str, run_id: str, number: int) -> None:
        self.path, self.run_id, self.number = path, run_id, number

    def file(self, *names: str) -> str:
        """A path inside."""
        return os.path.join(self.path, *names)

    def claim(self) -> bool:
        """Make the folder; False when somebody made it before."""
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            return False
        return True

    def hold(self) -> Optional[int]:
        """Take the keeper's lock; the descriptor goes to the keeper. None: a living keeper has it."""
        return try_lock(self.file("keeper.lock"))

    def held(self) -> bool:
        """Whether the keeper lives."""
        return is_locked(self.file("keeper.lock"))

    def launch(self) -> Dict[str, Any]:
        """launch.json; {} when nothing was started."""
        return read_optional(self.file("launch.json"))

    def save_launch(self, launch: Mapping[str, Any], batch: Optional[files.Batch] = None) -> None:
        """Write launch.json durably, now or with others."""
        with contextlib.nullcontext(batch) if batch else files.Batch() as own:
            own.write(self.file("launch.json"), files.json_bytes(launch, None), 0o600)

    def clock_offset(self) -> Optional[float]:
        """Seconds to add to a moment in `phases` to have it on the boot clock; None where its keeper found no difference, or has not looked."""
        offset = read_optional(self.file("clock.json")).get("offset")
        return float(offset) if isinstance(offset, (int, float)) else None

    def wall_clock(self, moment: float) -> float:
        """Seconds since the epoch of a moment in `phases`."""
        return processes.wall_clock(moment + (self.clock_offset() or 0.0))

    def save_clock_offset(self, offset: float) -> None:
        """Keep it, for whoever reads `phases` after this keeper."""
        files.write_json(self.file("clock.json"), {"offset": offset}, 0o600)

    def result(self) -> Optional[Dict[str, Any]]:
        """The record, None while there is none."""
        return read_optional(self.file("result.json")) or None

    def save_result(self, record: Mapping[str, Any], batch: Optional[files.Batch] = None) -> None:
        """Write the record durably, now or with others: the end of this attempt."""
        with contextlib.nullcontext(batch) if batch else files.Batch() as own:
            own.write(self.file("result.json"), files.json_bytes(record, None), 0o600)

    def settle(self, reason: str) -> None:
        """Make this attempt the last one of its run, durably: a retry that its record would allow does not begin."""
        files.write_atomic(self.file("last"), reason.encode("utf-8", "surrogateescape"), 0o600)

    def settled(self) -> str:
        """Why no attempt follows; "" where nobody said so."""
        return (read_text(self.file("last")).strip() or "last") if os.path.exists(self.file("last")) else ""

    def log(self, name: str) -> str:
        """Where a log is now: in io/ while the run runs, then beside the record."""
        moved = self.file(name)
        return moved if os.path.lexists(moved) else self.file("io", name)


class Standing(NamedTuple):
    """Where a run stands: `done` (attempt has the final record), `open` (attempt is under way or its keeper died), `pending` (start attempt)."""

    state: str
    attempt: int
    record: Optional[Dict[str, Any]]


class HostFolder:
    """One campaign's folder for one inventory host."""

    def __init__(self, path: str, identity: str = "") -> None:
        self.path, self.identity = os.path.abspath(path), identity
        self._values: Tuple[Any, List[str]] = (None, [])  # secret values, and which file they were read from

    def file(self, *names: str) -> str:
        """A path inside; the names come from this module's callers."""
        return os.path.join(self.path, *names)

    # -- identity, settings, secrets -------------------------------------------------------------------------------------------

    def make(self, campaign: str, host: str) -> bool:
        """Make the folder (mkdir decides between two controllers); returns whether it is new."""
        work_dir = os.path.dirname(os.path.dirname(self.path))
        for folder, mode in ((work_dir, 0o711), (os.path.dirname(self.path), 0o700)):
            work_folder.own_folder(folder, mode)
        new = work_folder.own_folder(self.path, 0o700)
        for name in ("runs", "tree"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.file(name), 0o700)
        known = self.host()
        if not known or not self._is_ours(known):
            document = known or {"schema": 1, "host": host, "campaign": campaign, "uid": os.geteuid(), "created": time.time()}
            document["identities"] = [*document.get("identities", ()), self.identity]
            files.write_json(self.file("host.json"), document, 0o600)
        return new

    def exists(self) -> bool:
        """Whether it was made for this campaign; one of somebody else is an error."""
        known = self.occupant()
        return known is not None and self._is_ours(known)

    def occupant(self) -> Optional[Dict[str, Any]]:
        """host.json of whatever campaign has the folder; None where there is none."""
        if not os.path.lexists(self.path):
            return None
        work_folder.check_owner(self.path)
        return self.host() if os.path.exists(self.file("host.json")) else None

    def _is_ours(self, known: Mapping[str, Any]) -> bool:
        """Whether it belongs to the campaign of our results folder, not to another one of the same name."""
        return not self.identity or self.identity in known.get("identities", ())

    def host(self) -> Dict[str, Any]:
        """host.json."""
        return read_optional(self.file("host.json"))

    def settings(self) -> Dict[str, Any]:
        """settings.json over the defaults."""
        return dict(DEFAULT_SETTINGS, **read_optional(self.file("settings.json")))

    def save_settings(self, changes: Mapping[str, Any]) -> int:
        """Change settings; returns their new `version`: the supervisor says in its state which one it has read (and looked for runs since)."""
        with files.locked(self.file("settings.lock")):
            known = read_optional(self.file("settings.json"))
            version = int(known.get("version") or 0) + 1
            files.write_json(self.file("settings.json"), dict(known, **dict(changes, version=version)), 0o600)
        return version

    def facts(self) -> Dict[str, Any]:
        """Facts of this host, for the records."""
        return read_optional(self.file("facts.json"))

    def _all_secrets(self) -> Dict[str, Dict[str, str]]:
        return {
            str(run_id): dict(values) for run_id, values in read_optional(self.file("secrets.json")).items() if isinstance(values, dict)
        }

    def secrets(self, run_id: str) -> Dict[str, str]:
        """Values of a run's secret variables; {} when it needs none or all work is done."""
        return self._all_secrets().get(run_id, {})

    def secret_values(self) -> List[str]:
        """Every secret value that this folder knows, to be kept out of texts."""
        version = files.version(self.file("secrets.json"))  # every record asks, so one file is read once
        if version != self._values[0]:
            self._values = (version, sorted({value for values in self._all_secrets().values() for value in values.values()}))
        return list(self._values[1])

    def save_secrets(self, values: Mapping[str, Mapping[str, str]]) -> None:
        """Keep the values of secrets, {run id: {name: value}} (mode 0600), beside known ones, as long as runs need them."""
        files.write_json(self.file("secrets.json"), dict(self._all_secrets(), **values), 0o600)

    def forget_secrets(self) -> None:
        """Remove them."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file("secrets.json"))

    def reason(self, name: str) -> Optional[str]:
        """Text of the file `stop` or `cancel`; None when it is absent."""
        return (read_text(self.file(name)).strip() or name) if os.path.exists(self.file(name)) else None

    def say(self, name: str, reason: str) -> bool:
        """Make the file `stop` or `cancel`; returns whether it is new."""
        if os.path.exists(self.file(name)):
            return False
        files.write_atomic(self.file(name), reason.encode("utf-8", "surrogateescape"), 0o600)
        return True

    def unsay(self, name: str) -> bool:
        """Remove it; returns whether it was there."""
        try:
            os.unlink(self.file(name))
        except FileNotFoundError:
            return False
        return True

    # -- supervisor ------------------------------------------------------------------------------------------------------------

    def state(self) -> Dict[str, Any]:
        """state.json of the supervisor."""
        return read_optional(self.file("state.json"))

    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        return is_locked(self.file("supervisor.lock"))

    def note_crash(self, words: str) -> None:
        """Write down that a supervisor ended by an error of its own; `crashes` says how often that happened since one ended well."""
        with contextlib.suppress(OSError), open(self.file("crashes"), "a", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(words.replace("\n", " ")[:1000] + "\n")

    def crashes(self) -> List[str]:
        """What the supervisors said that ended by an error since the last one that ended well."""
        return read_text(self.file("crashes")).splitlines()

    # -- runs ------------------------------------------------------------------------------------------------------------------

    def run_ids(self) -> List[str]:
        """Ids of the runs that were handed over."""
        try:
            names = os.listdir(self.file("runs"))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _RUN_ID.match(name) and os.path.exists(self.file("runs", name, "run.json")))

    def run(self, run_id: str) -> Dict[str, Any]:
        """run.json, {} when absent."""
        return read_optional(self.file("runs", run_id, "run.json"))

    def runs(self) -> List[Dict[str, Any]]:
        """All runs in the order of the plan."""
        found = [run for run in (self.run(run_id) for run_id in self.run_ids()) if run.get("id")]
        return sorted(found, key=lambda run: (run.get("order", 0), run["id"]))

    def save_run(self, run: Mapping[str, Any], batch: Optional[files.Batch] = None) -> bool:
        """Hand a run over, now or with others; returns whether anything changed. An older attempt number never replaces a newer one."""
        run_id = str(run.get("id"))
        if not _RUN_ID.match(run_id):
            raise InvalidInput("%r is not a run id (16 hex digits)" % run_id[:80])
        folder = self.file("runs", run_id)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        known = self.run(run_id)
        if known and (known.get("attempt", 1) > run.get("attempt", 1) or _essence(known) == _essence(run)):
            return False
        with contextlib.nullcontext(batch) if batch else files.Batch() as own:
            own.write(os.path.join(folder, "run.json"), files.json_bytes(dict(run, staged=time.time())), 0o600)
        return True

    def attempts(self, run_id: str) -> List[int]:
        """Numbers of the attempts, ascending."""
        try:
            names = os.listdir(self.file("runs", run_id))
        except FileNotFoundError:
            return []
        found = (_ATTEMPT.match(name) for name in names)
        return sorted(int(match.group(1)) for match in found if match)

    def attempt(self, run_id: str, number: int) -> Attempt:
        """One attempt; touches nothing."""
        return Attempt(self.file("runs", run_id, "attempt-%d" % number), run_id, number)

    def standing(self, run: Mapping[str, Any]) -> Standing:
        """Where a run stands, from its attempts since the one that the controller asked for."""
        first = int(run.get("attempt", 1))
        numbers = [number for number in self.attempts(run["id"]) if number >= first]
        if not numbers:
            return Standing("pending", first, None)
        counted = hasty = 0
        record: Optional[Dict[str, Any]] = None
        for number in numbers:
            attempt = self.attempt(run["id"], number)
            record = attempt.result()
            if record is None:
                return Standing("open", number, None)
            kind = self.again(run, record)
            settled = attempt.settled() if kind else ""
            if settled:
                return Standing("done", number, dict(record, notes=[*record.get("notes", ()), settled]))
            hasty = hasty + 1 if kind == "free" and is_hasty(record) else 0
            kind = "counted" if hasty > HASTY_LIMIT else kind
            counted += kind != "free"
        if kind and (kind == "free" or counted <= int(run.get("retries", 0))):
            return Standing("pending", numbers[-1] + 1, record)
        return Standing("done", numbers[-1], record)

    def end_of_pending(self, run: Mapping[str, Any], number: int, cancel: Optional[str], stop: Optional[str]) -> Optional[Dict[str, str]]:
        """What `cancel` or else `stop` (their reasons) makes of an attempt that has not begun: the decision for its record, or None when it needs none.

        A retry that `stop` forbids has none of its own: the attempt before it becomes the last one, and its record the run's.
        """
        if cancel is not None:
            return {"failure_class": "cancelled", "reason": cancel}
        reason = str(stop) if str(stop).startswith(status.STOPPED) else "%s: %s" % (status.STOPPED, stop)
        if number > int(run.get("attempt", 1)):
            self.attempt(run["id"], number - 1).settle("it was not tried again: " + reason)
            return None
        return {"failure_class": "", "reason": reason}

    def again(self, run: Mapping[str, Any], record: Mapping[str, Any]) -> str:
        """What another attempt after this record would be: "free", "counted" or ""."""
        return retry_kind(run, record)


def _essence(run: Mapping[str, Any]) -> Dict[str, Any]:
    """A run without the moments at which it came here."""
    return {key: value for key, value in run.items() if key not in ("queued", "staged")}


def is_hasty(record: Mapping[str, Any]) -> bool:
    """Whether an attempt ended before it can have got anywhere: a model that asks for ever to be run again must come to an end."""
    return float((record.get("timings") or {}).get("run") or 0.0) < HASTY_SECONDS


def retry_kind(run: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """ "free", "counted" or "": what another attempt after this record would be. A wrong image stays wrong."""
    if record.get("failure_class") == "image":
        return ""
    return status.retry_kind(run, record, {"status": record.get("status", ""), "failure_class": record.get("failure_class", "")})
