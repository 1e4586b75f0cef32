# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions while jobs wait and run: when to ask again, which job is ours, what became of a task."""

from __future__ import annotations

import random
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import slurm_states
from .slurm_jobs import Submission
from .slurm_output import Job

SHORTEST, LONGEST = 1.0, 60.0
_GROWTH = 1.5
# Seconds after which a job that no command knows and that left no marker counts as gone: sacct may be that late. A slurmctld that dies has
# lost the jobs of its last seconds, which it had not saved; it ends them when their nodes report again.
FORGOTTEN = 120.0
# Seconds after which an end that nobody explains is believed: a shared file system may show the marker a minute late.
LATE = 70.0


def pause(polls: int, rand: Callable[[], float] = random.random) -> float:
    """Seconds before the next question: 1 s at first, growing to 60 s, a quarter of it by chance so that many plays do not ask together."""
    base = min(LONGEST, SHORTEST * _GROWTH ** min(polls, 20))
    return max(SHORTEST, base * (0.75 + 0.25 * rand()))


def adopt(submission: Submission, jobs: Sequence[Job], marked: Sequence[int] = ()) -> Optional[int]:
    """The job that a submission became, when its submitter died before writing the id down; None when there is none.

    `jobs` is what Slurm knows under any name, `marked` the ids that the tasks' own markers hold. The oldest job of the name is the one:
    a younger one is a submission that ran twice, whose tasks refuse to start (the older has their folders). Ids wrap, so a job counts only
    by its name or its marker, never because its number is near.
    """
    if marked:
        return marked[0]
    numbers = sorted({job.job for job in jobs if job.name == submission.name})
    return numbers[0] if numbers else None


def doubles(submission: Submission, jobs: Sequence[Job], own: int) -> List[int]:
    """Other jobs of the same name that have not ended: they are cancelled."""
    return sorted({job.job for job in jobs if job.name == submission.name and job.job != own and job.state.phase != slurm_states.ENDED})


class Found:
    """What a command printed, by task: a campaign has thousands of both."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs: Dict[Tuple[int, int], Job] = {}
        for job in jobs:
            self._jobs.setdefault((job.job, job.task), job)

    def task(self, number: int, task: int) -> Optional[Job]:
        """One task of a job; a job that is no array has only one."""
        return self._jobs.get((number, task)) or self._jobs.get((number, -1))


class Sight(NamedTuple):
    """All that is known of one task at one time."""

    job: Optional[Job]  # from squeue, sacct or scontrol; None: none of them knows it
    marker: Mapping[str, Any]  # {} without one; "code", "signal" (what the task was told), ...
    silent: float  # seconds since the task was last known to anybody
    unexplained: float = LATE  # seconds since it looks ended without a word of anybody


class Verdict(NamedTuple):
    """Whether a task goes on, and if not, what the scheduler did to it."""

    phase: str  # slurm_states.QUEUED, RUNNING or ENDED
    outcome: Dict[str, Any]  # keys of an outcome: cancelled, preempted, timed_out, oom, error
    warning: str = ""


def judge(sight: Sight, waited_for_state: bool = False) -> Verdict:
    """What became of a task.

    Its own marker ends it when nothing interfered. When it was told to end (a signal), or without a marker, the scheduler's state says
    why; `waited_for_state` says that nobody could tell it for long enough. A job that nobody knows is not an end before FORGOTTEN seconds.
    """
    job, marker = sight.job, sight.marker
    if marker and not marker.get("signal"):
        return Verdict(slurm_states.ENDED, {})
    if job is not None and not marker and sight.unexplained < LATE and is_unexplained(job):
        return Verdict(slurm_states.RUNNING, {})
    if job is not None:
        return _judge_state(job, bool(marker), waited_for_state)
    if marker and (waited_for_state or sight.silent >= FORGOTTEN):
        reason = "it was told to end by %s, and Slurm no longer says why" % marker.get("signal")
        return Verdict(slurm_states.ENDED, {"preempted": True, "error": {"class": "preempted", "reason": reason}})
    if sight.silent < FORGOTTEN:
        return Verdict(slurm_states.RUNNING, {})
    reason = "neither squeue nor sacct nor scontrol knows the job, and it left no word"
    return Verdict(slurm_states.ENDED, {"error": {"class": "infra", "reason": reason}})


def is_unexplained(job: Job) -> bool:
    """Whether Slurm calls a job ended and blames nobody; then the word of its script counts."""
    return job.state.phase == slurm_states.ENDED and not job.state.failure_class


def _judge_state(job: Job, marked: bool, waited_for_state: bool) -> Verdict:
    state = job.state
    odd = state.phase != slurm_states.ENDED and bool(state.reason)
    warning = "job %s: %s" % (job.shown(), state.reason) if odd else ""
    if state.phase != slurm_states.ENDED and not (marked and waited_for_state):
        why = slurm_states.stuck(job.reason) if state.phase == slurm_states.QUEUED else ""
        return Verdict(state.phase, {}, warning or ("job %s waits for ever: %s" % (job.shown(), why) if why else ""))
    return Verdict(slurm_states.ENDED, outcome_of(job, marked), warning)


def outcome_of(job: Job, marked: bool) -> Dict[str, Any]:
    """The keys of an outcome that an ended job's state decides; with a marker COMPLETED and FAILED say nothing of their own."""
    failure, reason = job.state.failure_class, "job %s: %s" % (job.shown(), job.state.reason)
    if failure == "timeout":
        return {"timed_out": True, "error": {"class": "timeout", "reason": reason}}
    if failure == "cancelled":
        return {"cancelled": True, "error": {"class": "cancelled", "reason": reason}}
    if failure == "preempted":
        return {"preempted": True, "error": {"class": "preempted", "reason": reason}}
    if failure == "oom":
        return {"oom": True}
    if failure:
        return {"error": {"class": failure, "reason": reason}}
    if marked:
        return {}
    code = "exit status %d, signal %d" % job.code if job.code else "no exit status"
    return {"error": {"class": "launch", "reason": "job %s ended (%s) without a word of its script; see slurm.log" % (job.shown(), code)}}


def retries(record: Mapping[str, Any]) -> bool:
    """Whether another attempt on other nodes makes sense: what the cluster did to a run, never what the model did."""
    return record.get("status") == "FAILURE" and record.get("failure_class") in ("infra", "preempted", "launch", "lost_contact")


def newest(jobs: Sequence[Job]) -> Optional[int]:
    """The number of the youngest job; numbers wrap, so one that has not ended comes before one that has."""
    if not jobs:
        return None
    return max(jobs, key=lambda job: (job.state.phase != slurm_states.ENDED, job.job)).job
