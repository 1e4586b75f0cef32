# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs become jobs: which of them share an array, how each submission is called, and which task is which run."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

from ..base.canonical import hash_value
from ..base.errors import InvalidInput, MadError
from ..planning.plan_options import DEFAULT_TIMEOUT
from ..results.status import is_resumable
from .slurm_options import STAGING_MARGIN, Options, Shape
from .slurm_time import limit

PREFIX = "mad-"
DEFAULT_MAX_ARRAY = 1001  # Slurm's own default
_NAME = re.compile(r"mad-[0-9a-f]{12}\Z")

Run = Mapping[str, Any]


class Task(NamedTuple):
    """One line of a manifest."""

    number: int  # array index; 0 for a job that is no array
    run_id: str
    attempt: int


class Submission(NamedTuple):
    """One sbatch: a job of several nodes, a job of one node, or an array of these."""

    name: str
    shape: Shape
    tasks: Tuple[Task, ...]
    array: bool

    def indexes(self) -> str:
        """The value of --array."""
        last = self.tasks[-1].number
        return "0-%d" % last if last else "0"

    def manifest(self) -> Dict[str, Any]:
        """What is written down before sbatch is called."""
        return {
            "schema": 1,
            "name": self.name,
            "array": self.array,
            "shape": dict(self.shape._asdict()),
            "tasks": [dict(task._asdict()) for task in self.tasks],
        }


def read_manifest(document: Mapping[str, Any]) -> Submission:
    """A submission out of its manifest; MadError when it is none."""
    try:
        tasks = tuple(Task(int(task["number"]), str(task["run_id"]), int(task["attempt"])) for task in document["tasks"])
        shape = Shape(*(int(document["shape"][key]) for key in Shape._fields))
        name = str(document["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise MadError("a manifest of submitted runs cannot be read: %r" % error) from error
    if not _NAME.match(name) or not tasks:
        raise MadError("the manifest of %r names no job of ours" % name[:80])
    return Submission(name, shape, tasks, bool(document.get("array")))


def shape_of(run: Run, options: Options) -> Shape:
    """What one run asks for."""
    launcher, gpus = run.get("launcher") or {}, run.get("gpus") or {}
    timeout = run.get("timeout")
    seconds = limit(options.time, DEFAULT_TIMEOUT if timeout is None else int(timeout), STAGING_MARGIN)
    again = options.requeue or is_resumable(run)  # nobody else's model is started twice in one attempt
    return Shape(int(launcher.get("nnodes") or 1), int(gpus.get("count") or 0), seconds, int(again))


def name_of(campaign: str, place: str, tasks: Iterable[Task]) -> str:
    """`mad-<12 hex>`: the same runs of the same campaign have the same name, whoever submits them and however often.

    `place` is what `place_of` says: a campaign of the same name whose folder was removed must not adopt the jobs of its predecessor.
    """
    content = [[task.number, task.run_id, task.attempt] for task in tasks]
    return PREFIX + hash_value(["slurm", 1, campaign, place, content])[:12]


def place_of(folder: Mapping[str, Any]) -> str:
    """What tells a campaign's folder on a cluster from every other one: its host.json."""
    return "%s %s" % (folder.get("host"), folder.get("created"))


def _chunks(runs: Sequence[Run], size: int) -> List[Sequence[Run]]:
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def group(runs: Sequence[Run], options: Options, campaign: str, place: str, max_array: int = DEFAULT_MAX_ARRAY) -> List[Submission]:
    """Submissions of these runs, in the order of the plan: runs of one node and one shape share arrays, others are jobs of their own.

    An array holds at most `max_array` tasks (MaxArraySize is one more than the largest index) and at most slurm.max_jobs. A run alone is
    no array. The order inside an array is the plan's, so that repeats come as whole rounds.
    """
    if max_array < 1:
        raise InvalidInput("MaxArraySize %d: the cluster takes no job arrays; expected at least 1" % max_array)
    size = min(max_array, options.max_jobs or max_array)
    alike: Dict[Shape, List[Run]] = {}
    batches: List[Tuple[Shape, Sequence[Run]]] = []
    for run in sorted(runs, key=lambda entry: (entry.get("order", 0), str(entry["id"]))):
        shape = shape_of(run, options)
        if shape.nodes > 1:
            batches.append((shape, [run]))
        else:
            alike.setdefault(shape, []).append(run)
    batches += [(shape, chunk) for shape, members in alike.items() for chunk in _chunks(members, size)]
    orders = {str(run["id"]): int(run.get("order", 0)) for run in runs}
    made = [_submission(shape, members, campaign, place) for shape, members in batches]
    return sorted(made, key=lambda entry: (orders[entry.tasks[0].run_id], entry.name))


def _submission(shape: Shape, members: Sequence[Run], campaign: str, place: str) -> Submission:
    tasks = tuple(Task(number, str(run["id"]), int(run.get("attempt") or 1)) for number, run in enumerate(members))
    return Submission(name_of(campaign, place, tasks), shape, tasks, len(tasks) > 1)


def may_submit(waiting: Sequence[Submission], active_tasks: int, options: Options) -> List[Submission]:
    """Those that fit now: slurm.max_jobs bounds the tasks that wait or run at one time. One that alone is too large goes when nothing is active."""
    if not options.max_jobs:
        return list(waiting)
    chosen: List[Submission] = []
    for submission in waiting:
        if active_tasks and active_tasks + len(submission.tasks) > options.max_jobs:
            break  # in order: a large one is not overtaken for ever
        chosen.append(submission)
        active_tasks += len(submission.tasks)
    return chosen
