# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write, then submit, then note: a submission is on disk before sbatch is called, and is submitted once, whoever dies in between.

submissions/lock               flock: one submitter; sbatch itself holds it too, until it has ended
submissions/<name>/job.sh      the script
submissions/<name>/tasks       "<index> <run id> <attempt>" lines; a task of an array finds its run here
submissions/<name>/manifest.json   written last: from here on the submission counts
submissions/<name>/tried       made before sbatch is called: without it no job of this name can be there, and nobody has to be asked
submissions/<name>/taken_back.json  the manifest of an array that sbatch refused as too large: its runs wait again
submissions/<name>/job.json    {"job", "submitted", "adopted"}: what sbatch answered, or the job that was found
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set

from ..base import files
from ..base.errors import MadError
from ..host.host_state import HostFolder, read_optional, try_lock
from . import slurm_attempt, slurm_jobs, slurm_watch
from .slurm_client import Silent, Slurm
from .slurm_jobs import Submission

_LIMIT = "array_limit.json"
_TAKEN = "taken_back.json"  # a manifest that counts no more
LOCK_SECONDS = 180.0  # longer than an sbatch may take


class Entry(NamedTuple):
    """A submission that was written; `job` is 0 until it is known what Slurm made of it."""

    submission: Submission
    job: int
    submitted: float


class Submissions:
    """The submissions of one campaign's folder on the cluster."""

    def __init__(self, folder: HostFolder, slurm: Slurm) -> None:
        self.folder, self.slurm = folder, slurm

    def _file(self, *names: str) -> str:
        return self.folder.file("submissions", *names)

    # -- writing -------------------------------------------------------------------------------------------------------------------

    def write(self, submission: Submission, script: str, runs: Mapping[str, Mapping[str, Any]], archives: Mapping[str, str]) -> bool:
        """Put everything that its jobs need on disk; False when the same submission stands there already."""
        if os.path.exists(self._file(submission.name, "manifest.json")):
            return False
        os.makedirs(self._file(submission.name), mode=0o700, exist_ok=True)
        with files.Batch() as batch:
            for task in submission.tasks:
                os.makedirs(self.folder.file("runs", task.run_id), mode=0o700, exist_ok=True)
                attempt = self.folder.attempt(task.run_id, task.attempt)
                slurm_attempt.Preparation(self.folder, runs[task.run_id], attempt, archives).write(batch)
            lines = "".join("%d %s %d\n" % task for task in submission.tasks)
            for name, text in (("tasks", lines), ("job.sh", script)):
                batch.write(self._file(submission.name, name), text.encode("utf-8", "surrogateescape"), 0o600)
        files.write_json(self._file(submission.name, "manifest.json"), submission.manifest(), 0o600)
        return True

    def entries(self) -> List[Entry]:
        """All submissions, the oldest first."""
        found = []
        names = os.listdir(self._file()) if os.path.isdir(self._file()) else []
        for name in names:
            if os.path.exists(self._file(name, _TAKEN)):
                self._unwrite(name)
                continue
            job = self._submitted(name)
            manifest = read_optional(self._file(name, "manifest.json"))
            if manifest:
                entry = Entry(slurm_jobs.read_manifest(manifest), int(job.get("job") or 0), float(job.get("submitted") or 0.0))
                found.append((os.stat(self._file(name, "manifest.json")).st_mtime_ns, entry))
        return [entry for dummy, entry in sorted(found, key=lambda pair: (pair[0], pair[1].submission.name))]

    def _submitted(self, name: str) -> Dict[str, Any]:
        """job.json, {} while nothing is known of a job."""
        if not os.path.exists(self._file(name, "job.json")):
            files.look_again(self._file(name))  # a play on another login node may have submitted it a moment ago
        return read_optional(self._file(name, "job.json"))

    def take_back(self, submission: Submission, smaller: int) -> None:
        """Unwrite what sbatch refused as too large: its runs wait again, for arrays of at most so many tasks."""
        files.write_json(self.folder.file(_LIMIT), {"tasks": smaller}, 0o600)
        os.rename(self._file(submission.name, "manifest.json"), self._file(submission.name, _TAKEN))
        self._unwrite(submission.name)

    def _unwrite(self, name: str) -> None:
        """Remove what was taken back, also what a process that was killed over it left."""
        for task in slurm_jobs.read_manifest(read_optional(self._file(name, _TAKEN))).tasks:
            shutil.rmtree(self.folder.attempt(task.run_id, task.attempt).path, ignore_errors=True)
        shutil.rmtree(self._file(name))

    def largest(self, otherwise: int) -> int:
        """How many tasks an array may have, where sbatch refused one as too large; else what the cluster says."""
        return min(otherwise, int(read_optional(self.folder.file(_LIMIT)).get("tasks") or otherwise))

    # -- submitting ----------------------------------------------------------------------------------------------------------------

    def submit(self, chosen: Sequence[Submission]) -> Dict[str, int]:
        """{name: job} of these submissions: found where Slurm knows them already, submitted otherwise."""
        if not chosen:
            return {}
        os.makedirs(self._file(), mode=0o700, exist_ok=True)
        lock = self._lock()
        try:
            known = {submission.name: int(self._submitted(submission.name).get("job") or 0) for submission in chosen}
            pending = [submission for submission in chosen if not known[submission.name]]
            known.update(self._adopt(pending))
            for submission in pending:
                known[submission.name] = known[submission.name] or self._submit(submission, lock)
            return {submission.name: known[submission.name] for submission in chosen}
        finally:
            os.close(lock)

    def adopt(self, chosen: Sequence[Submission]) -> Set[str]:
        """Names of those that Slurm has taken though the answer of sbatch got lost; from now on their job is known. Nothing is submitted."""
        if not any(map(self._is_tried, chosen)):
            return set()
        lock = self._lock()
        try:
            return set(self._adopt(chosen))
        finally:
            os.close(lock)

    def _is_tried(self, submission: Submission) -> bool:
        return os.path.exists(self._file(submission.name, "tried"))

    def _adopt(self, chosen: Sequence[Submission]) -> Dict[str, int]:
        """{name: job} of what Slurm knows already; of two jobs of one submission the second is cancelled."""
        tried = list(filter(self._is_tried, chosen))
        jobs = self.slurm.known([submission.name for submission in tried]) if tried else []
        found: Dict[str, int] = {}
        for submission in chosen:
            number = slurm_watch.adopt(submission, jobs, list(self._marked(submission)))
            if number is not None:
                found[submission.name] = number
                self._note(submission, number, True)
                for double in slurm_watch.doubles(submission, jobs, number):
                    self.slurm.cancel_job(double)
        return found

    def _submit(self, submission: Submission, lock: int) -> int:
        files.write_atomic(self._file(submission.name, "tried"), b"", 0o600)
        with open(self._file(submission.name, "job.sh"), encoding="utf-8", errors="surrogateescape") as stream:
            number = self.slurm.submit(submission.name, stream.read(), inherited=[lock])
        self._note(submission, number, False)
        return number

    def _note(self, submission: Submission, number: int, adopted: bool) -> None:
        document = {"schema": 1, "job": number, "submitted": time.time(), "adopted": adopted}
        files.write_json(self._file(submission.name, "job.json"), document, 0o600)

    def _marked(self, submission: Submission) -> Iterator[int]:
        """Jobs that the tasks' own markers name: the word of a job that has begun, when no command knows it any more."""
        for task in submission.tasks:
            number = read_marker(self.folder.attempt(task.run_id, task.attempt).file("begin")).get("submitted", "")
            if number.isdigit():
                yield int(number)

    def _lock(self) -> int:
        """The lock of submitting. A dead submitter's sbatch still holds it: what it does is waited for."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            descriptor = try_lock(self._file("lock"))
            if descriptor is not None:
                return descriptor
            if time.monotonic() > deadline:
                raise Silent("another process has been submitting in %s for %d s" % (self.folder.path, LOCK_SECONDS))
            time.sleep(0.1)


def read_marker(path: str) -> Dict[str, str]:
    """`name=value` lines of a marker; {} while there is none. It is replaced in one step: half of one never stands there.

    Nodes write them, so one that is not there is looked for anew.
    """
    if not os.path.exists(path):
        files.look_again(os.path.dirname(path))
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            pairs = [line.rstrip("\n").partition("=") for line in stream.read(1 << 16).splitlines()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MadError("the marker %s cannot be read: %s" % (path, error.strerror)) from error
    return {name: value for name, equals, value in pairs if equals}
