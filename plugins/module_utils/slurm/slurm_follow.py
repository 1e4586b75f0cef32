# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a campaign's tasks: what its own marker explains needs nobody's word, for all others the scheduler is asked once.

A poll asks one command. squeue, whose word is newer, has the first; tasks that it does not know (a job is forgotten minutes after its
end) are asked of accounting at the next one. watch.json of the folder is the memory between polls: when the scheduler was asked last and
how often since something happened, which tasks squeue did not know then (`unknown`), when accounting was found to be off (`unaccounted`), which
tasks no command knew (`missing`), which left a marker while Slurm had not said why (`marked`), and which ended without a word of anybody
(`unexplained`), each with the time it began.
"""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..base import files
from ..base.errors import LaunchError, MadError
from ..host.host_state import Attempt, read_optional
from ..results import record
from . import slurm_jobs, slurm_output, slurm_record, slurm_states, slurm_watch
from .slurm_client import Silent, Slurm
from .slurm_folder import CampaignFolder
from .slurm_jobs import Submission, Task
from .slurm_options import Options
from .slurm_output import Job
from .slurm_submit import Entry, Submissions, read_marker
from .slurm_watch import Found, Sight, Verdict

_UNACCOUNTED = 600.0  # seconds after which a site that keeps no accounting is asked again
_KILLED = 137  # a status that only Slurm can explain: its own kill for memory, or somebody's
_TAKEN_BACK = "%s; this retry was cancelled before it began"
_TOGETHER = 100  # records that are written at once
_FULL = re.compile("SubmitJob|MaxJob", re.IGNORECASE)  # sbatch's words when a limit on the number of jobs is reached: later is better
_PARTS = 4  # an array that is larger than such a limit is made anew as so many


class Open(NamedTuple):
    """A task without a record."""

    entry: Entry
    task: Task
    attempt: Attempt

    def key(self) -> str:
        """In watch.json."""
        return "%s/%d" % (self.task.run_id, self.task.attempt)

    def place(self) -> int:
        """Of the task in its array, 0 for a job that is none."""
        return self.task.number if self.entry.submission.array else 0

    def shown(self, job: Optional[Job]) -> str:
        """The job's id as people write it."""
        if job is not None:
            return job.shown()
        return "%d_%d" % (self.entry.job, self.task.number) if self.entry.submission.array else str(self.entry.job)


class Follower:
    """One look at a campaign's tasks. `warnings` are for people, `known` is what Slurm said of each task that has not ended."""

    def __init__(self, folder: CampaignFolder, slurm: Slurm, max_jobs: int = 0) -> None:
        self.folder, self.slurm, self.max_jobs = folder, slurm, max_jobs
        self.submissions = Submissions(folder, slurm)
        self.warnings: List[str] = []
        self.changed = False
        self._watch: Dict[str, Any] = {}
        self._over: List[Tuple[Open, Mapping[str, Any], Optional[Job]]] = []  # seen to have ended in this look

    # -- the tasks -----------------------------------------------------------------------------------------------------------------

    def open_tasks(self) -> List[Open]:
        """Tasks of all submissions, the oldest first, that have no record."""
        found = []
        for entry in self.submissions.entries():
            for task in entry.submission.tasks:
                attempt = self.folder.attempt(task.run_id, task.attempt)
                if attempt.result() is None:
                    found.append(Open(entry, task, attempt))
        return found

    def follow(self, now: bool = False) -> None:
        """Look, write records, submit what waits. `now`: ask the scheduler even when it was asked a moment ago."""
        with files.locked(self.folder.file("follow.lock")):
            self._watch = read_optional(self.folder.file("watch.json"))
            begun = dict(self._watch)
            tasks = self.open_tasks()
            left = []
            for task in tasks:
                marker = read_marker(task.attempt.file("end")) if task.entry.job else {}
                if marker and not _needs_state(marker):
                    self._one(task, marker, None)
                elif task.entry.job:
                    left.append((task, marker))
            asked, jobs = self._ask([task for task, dummy in left], now)
            for task, marker in left:
                self._one(task, marker, jobs if task.key() in asked else None)
            self._end_all()
            self._submit(tasks)
            if self._watch != begun:
                files.write_json(self.folder.file("watch.json"), self._watch, 0o600)
            if self.changed and not self._needed():
                self.folder.forget_secrets()

    def _needed(self) -> bool:
        """Whether any run that was handed over may still need its secrets."""
        return any(self.folder.standing(run).state != "done" for run in self.folder.runs())

    # -- asking --------------------------------------------------------------------------------------------------------------------

    def _ask(self, tasks: Sequence[Open], now: bool) -> Tuple[Set[str], Found]:
        """(the tasks that Slurm was asked for, by key; what it knows of their jobs). No task when it was not asked, or does not answer."""
        polls, asked = int(self._watch.get("polls") or 0), float(self._watch.get("asked") or 0.0)
        pause = slurm_watch.pause(polls, lambda: float(self._watch.get("chance") or 0.0))
        if not tasks or (not now and 0 <= time.time() - asked < pause):
            return set(), Found(())
        before = set(self._watch.pop("unknown", ()))
        past = [task for task in tasks if task.key() in before]
        names = sorted({task.entry.submission.name for task in past or tasks})
        try:
            jobs = Found(self.slurm.past_jobs(names) if past else self.slurm.jobs(names))
        except Silent as error:
            self.warnings.append("%s; asked again later, nothing is given up" % error.message)
            return set(), Found(())
        self._watch.update(asked=time.time(), polls=polls + 1)
        if not self.slurm.accounting:
            self._watch["unaccounted"] = time.time()
        return ({task.key() for task in past} if past else self._known_to_squeue(tasks, jobs)), jobs

    def _known_to_squeue(self, tasks: Sequence[Open], jobs: Found) -> Set[str]:
        """Tasks that squeue knows; of the others nothing is known before accounting was asked, where there is any."""
        unknown = {task.key() for task in tasks if jobs.task(task.entry.job, task.place()) is None}
        if time.time() - float(self._watch.get("unaccounted") or 0.0) <= _UNACCOUNTED:
            unknown.clear()
        elif unknown:
            self._watch["unknown"] = sorted(unknown)
        return {task.key() for task in tasks} - unknown

    def _since(self, name: str, key: str, holds: bool) -> float:
        """Seconds since a condition of a task holds."""
        known: Dict[str, float] = self._watch.setdefault(name, {})
        if not holds:
            known.pop(key, None)
            return 0.0
        return time.time() - known.setdefault(key, time.time())

    # -- one task ------------------------------------------------------------------------------------------------------------------

    def _one(self, task: Open, marker: Mapping[str, str], jobs: Optional[Found]) -> None:
        """See whether a task has ended. `jobs` is None where Slurm was not asked for it."""
        job = jobs.task(task.entry.job, task.place()) if jobs is not None else None
        if jobs is None and (not marker or _needs_state(marker)):
            return  # only the scheduler could say more, and it was not asked
        missing = self._since("missing", task.key(), jobs is not None and job is None)
        marked = self._since("marked", task.key(), bool(marker))
        unexplained = job is not None and not marker and slurm_watch.is_unexplained(job)
        sight = Sight(job, marker, missing, self._since("unexplained", task.key(), unexplained))
        verdict = self._verdict(task, sight, marked >= slurm_watch.FORGOTTEN)
        if verdict.warning and verdict.warning not in self.warnings:
            self.warnings.append(verdict.warning)
        if verdict.phase == slurm_states.ENDED:
            self._over.append((task, verdict.outcome, job))

    @staticmethod
    def _verdict(task: Open, sight: Sight, waited: bool) -> Verdict:
        code = sight.marker.get("code", "")
        if code == str(_KILLED) and not sight.marker.get("signal") and sight.job is not None:
            if sight.job.state.phase != slurm_states.ENDED and not waited:
                return Verdict(slurm_states.RUNNING, {})
            if sight.job.state.failure_class == "oom":
                return Verdict(slurm_states.ENDED, {"oom": True})
        return slurm_watch.judge(sight, waited)

    def _end_all(self) -> None:
        """Write the records of what has ended, many with one sync of the file system."""
        while self._over:
            some, self._over = self._over[:_TOGETHER], self._over[_TOGETHER:]
            with files.Batch() as batch:
                for task, outcome, job in some:
                    self._end(task, outcome, job, batch)
            for task, dummy_outcome, dummy_job in some:
                slurm_record.tidy(self.folder.run(task.task.run_id), task.attempt)

    def _end(self, task: Open, outcome: Mapping[str, Any], job: Optional[Job], batch: files.Batch) -> None:
        """The record of a task, and its memory gone."""
        run = self.folder.run(task.task.run_id)
        stopped, retry = self.folder.reason("stop"), _is_retry(task, run)
        about = {"job": task.shown(job), "submission": task.entry.submission.name, "submitted": task.entry.submitted}
        if outcome.get("cancelled") and self.folder.reason("cancel"):
            outcome = {"cancelled": True, "error": {"class": "cancelled", "reason": self.folder.reason("cancel")}}
        never_began = outcome.get("cancelled") and not read_marker(task.attempt.file("begin"))
        if stopped and never_began and not self.folder.reason("cancel"):
            outcome = {"cancelled": True, "error": {"class": "cancelled", "reason": _TAKEN_BACK % stopped}}
        if stopped and never_began and not retry:
            self.close(task, "", stopped)
        else:
            slurm_record.write(self.folder, dict(run, attempt=task.task.attempt), task.attempt, outcome, about, batch)
        for name in ("missing", "marked", "unexplained"):
            self._watch.get(name, {}).pop(task.key(), None)
        self._watch["polls"] = 0  # something happens: ask sooner
        self.changed = True

    def close(self, task: Open, failure_class: str, reason: str) -> None:
        """The record of a task that never became a job, or whose job never began."""
        run = dict(self.folder.run(task.task.run_id), attempt=task.task.attempt)
        task.attempt.save_result(record.make_unrun_record(run, failure_class, reason))
        self.changed = True

    # -- submitting ----------------------------------------------------------------------------------------------------------------

    def _submit(self, tasks: Sequence[Open]) -> None:
        """Submit what was written and fits; what sbatch refuses has ended."""
        waiting: Dict[str, Submission] = {}
        of_submission: Dict[str, List[Open]] = {}
        for task in tasks:
            of_submission.setdefault(task.entry.submission.name, []).append(task)
            if not task.entry.job and task.attempt.result() is None:
                waiting[task.entry.submission.name] = task.entry.submission
        reason = self.folder.reason("cancel") or self.folder.reason("stop")
        if reason is not None:
            self._take_back(tasks, waiting, reason)
            return
        active = sum(1 for task in tasks if task.entry.job and task.attempt.result() is None)
        for submission in slurm_jobs.may_submit(list(waiting.values()), active, Options(max_jobs=self.max_jobs)):
            mine = of_submission[submission.name]
            try:
                self.submissions.submit([submission])
                active, self.changed = active + len(mine), True
                self._watch.update(polls=0)
            except Silent as error:
                self.warnings.append("%s; submitted later" % error.message)
                return
            except LaunchError as error:
                if _FULL.search(error.message) and self._has_room_later(submission, active, error.message):
                    return
                for task in mine:
                    self.close(task, "launch", error.message)

    def _take_back(self, tasks: Sequence[Open], waiting: Dict[str, Submission], reason: str) -> None:
        """The records of what is not submitted any more; what Slurm has taken all the same, its answer got lost, is followed like the others."""
        try:
            for name in self.submissions.adopt(list(waiting.values())):
                del waiting[name]
        except MadError as error:
            self.warnings.append("%s; whether it has taken jobs before the stop is asked again later" % error.message)
            return
        self._close_all([task for task in tasks if task.entry.submission.name in waiting], reason)

    def _has_room_later(self, submission: Submission, active: int, words: str) -> bool:
        """Whether what a limit on the user's jobs keeps out gets in later: when jobs have ended, or in smaller arrays."""
        if active or self.slurm.is_busy():
            self.warnings.append("%s; submitted when jobs of yours have ended" % words)
            return True
        if len(submission.tasks) == 1:
            return False
        smaller = max(1, len(submission.tasks) // _PARTS)
        self.warnings.append("%s; arrays of %d tasks are tried" % (words, smaller))
        self.submissions.take_back(submission, smaller)
        return True

    def _close_all(self, tasks: Sequence[Open], reason: str) -> None:
        cancelled = self.folder.reason("cancel") is not None
        for task in tasks:
            retry = not cancelled and _is_retry(task, self.folder.run(task.task.run_id))
            self.close(task, "cancelled" if cancelled or retry else "", _TAKEN_BACK % reason if retry else reason)

    def cancel(self) -> None:
        """Tell Slurm to end every job of ours that has not ended."""
        self.slurm.cancel(sorted({task.entry.submission.name for task in self.open_tasks() if task.entry.job}))

    def cancel_waiting(self) -> bool:
        """Tell Slurm to drop what has not begun; whether there was any. What it does not hear now it is told again with the next poll."""
        names = {task.entry.submission.name for task in self.open_tasks() if task.entry.job and not is_running(task.attempt)}
        try:
            self.slurm.cancel(sorted(names), "--state=PENDING")
        except MadError as error:
            self.warnings.append("what waits in Slurm's queue could not be taken out of it: %s" % error.message)
        return bool(names)


def _is_retry(task: Open, run: Mapping[str, Any]) -> bool:
    """Whether a task follows an attempt that failed: its row is then no run that was never tried."""
    return task.task.attempt > int(run.get("attempt", 1))


def _needs_state(marker: Mapping[str, str]) -> bool:
    """Whether a marker alone does not say why its task ended."""
    return bool(marker.get("signal")) or marker.get("code") == str(_KILLED)


def is_running(attempt: Attempt) -> bool:
    """Whether a task's job has begun."""
    return bool(read_marker(attempt.file("begin")))


def as_seen(jobs: Sequence[Job]) -> List[Dict[str, Any]]:
    """Jobs as plain JSON."""
    return [slurm_output.as_document(job) for job in jobs]
