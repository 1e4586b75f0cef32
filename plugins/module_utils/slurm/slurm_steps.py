# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `slurm_run` does on a login node, one function per state, with the jobs and answers of `host/host_steps`.

`started` takes two calls: the first answers with `waiting`, the attempts that need a job, and what their scripts need to know; the
controller, which has the templates, brings the scripts with the second. `polled` answers `waiting` too: attempts after a failure of the
cluster's, which the controller submits in the same way.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterable, List, Mapping, Set, Tuple

from ..base.errors import MadError
from ..host import host_clean, host_collect, host_steps
from ..host.arguments import CANCEL_SECONDS, Answer, Job
from ..host.host_state import Standing, work_dir
from ..results import record
from . import slurm_attempt, slurm_images, slurm_jobs, slurm_node_check, slurm_options, slurm_output
from .slurm_client import Silent, Slurm
from .slurm_folder import CampaignFolder, NodeFolder, folder_of
from .slurm_follow import Follower, is_running
from .slurm_record import NodeEnding
from .slurm_submit import Submissions

_CANCEL_PAUSES = (0.5, 5.0)  # seconds between two looks, growing from the one to the other


def staged(job: Job) -> Answer:
    """Unpack the controller's archive, see that nodes get the images, hand the runs over."""
    return host_steps.staged(job, slurm_images.images)


# -- started ---------------------------------------------------------------------------------------------------------------------


def started(job: Job) -> Answer:
    """See that every wanted run has a job. `acknowledged` are the runs whose submission is written: from there on it is submitted once."""
    folder = folder_of(job)
    if not folder.exists():
        if job.get("check"):
            return dict(host_steps.nothing(), changed=True, queued=len(job["runs"]), acknowledged={}, waiting=[])
        raise MadError("nothing is staged for campaign %s in %s" % (job["campaign"], folder.path))
    follower = _follower(folder, job)
    if job.get("check"):
        waiting = _waiting(folder, job, follower)
        return dict(_answer(folder, job), changed=bool(waiting), acknowledged={}, waiting=waiting)
    if not job.get("submissions"):  # the first call of a start takes back an earlier stop or cancel
        for name in ("cancel", "stop"):
            folder.unsay(name)
    _write(folder, job, follower.submissions)
    follower.follow()
    waiting = _checked(_possible(_waiting(folder, job, follower), folder, job, follower), folder, job, follower)
    answer = _complete(_answer(folder, job), waiting, folder, follower)
    return dict(answer, acknowledged=_acknowledged(folder, job, follower.submissions))


def _follower(folder: CampaignFolder, job: Job) -> Follower:
    return Follower(folder, Slurm(), slurm_options.parse(job.get("section") or {}).max_jobs)


def _write(folder: CampaignFolder, job: Job, submissions: Submissions) -> None:
    """Write the submissions that the controller rendered."""
    for entry in job.get("submissions") or []:
        submission = slurm_jobs.read_manifest(entry["manifest"])
        runs = {task.run_id: dict(folder.run(task.run_id), attempt=task.attempt) for task in submission.tasks}
        submissions.write(submission, str(entry["script"]), runs, _archives(job, runs.values()))


def _archives(job: Job, runs: Iterable[Mapping[str, Any]]) -> Dict[str, str]:
    """{image id: its archive on the shared file system} of these runs, as far as there is one."""
    digests = {str((run.get("image") or {}).get("digest") or "") for run in runs}
    found = {digest: slurm_images.archive_path(work_dir(job), digest) for digest in digests if digest}
    return {digest: path for digest, path in found.items() if path}


def _possible(waiting: List[Answer], folder: CampaignFolder, job: Job, follower: Follower) -> List[Answer]:
    """What waits and can be put into files; a run that cannot is one row, and holds up no other."""
    runs = {entry["run"]: dict(folder.run(entry["run"]), attempt=entry["attempt"]) for entry in waiting}
    archives = _archives(job, runs.values())
    left = []
    for entry in waiting:
        attempt = folder.attempt(entry["run"], int(entry["attempt"]))
        try:
            slurm_attempt.Preparation(folder, runs[entry["run"]], attempt, archives).texts()
        except MadError as error:
            _close(folder, entry["run"], attempt.number, error.failure_class, error.message)
            follower.changed = True
        else:
            left.append(entry)
    return left


def _checked(waiting: List[Answer], folder: CampaignFolder, job: Job, follower: Follower) -> List[Answer]:
    """What waits, after a look at the nodes where slurm.node_check asks for it: bad nodes excluded, runs that find no place ended."""
    section = slurm_options.parse(job.get("section") or {})
    if not section.node_check or not waiting:
        return waiting
    runs = {entry["run"]: folder.run(entry["run"]) for entry in waiting}
    try:
        report = slurm_node_check.check(
            follower.slurm, section, slurm_node_check.needs_of(runs.values(), _archives(job, runs.values()), folder.path)
        )
    except Silent as error:
        follower.warnings.append("no node check: %s" % error.message)
        return waiting
    if report.text():
        follower.warnings.append("node check: " + report.text())
    left = []
    for entry in waiting:
        problem = report.problem(slurm_attempt.nodes_of(runs[entry["run"]]), section)
        if problem:
            _close(folder, entry["run"], int(entry["attempt"]), "infra", problem)
        else:
            left.append(dict(entry, exclude=sorted({*entry["exclude"], *report.bad})))
    return left


def _acknowledged(folder: CampaignFolder, job: Job, submissions: Submissions) -> Dict[str, Any]:
    """{run id: what the controller's ledger says of it} of the wanted runs that are in a submission."""
    found: Dict[str, Any] = {}
    for entry in submissions.entries():
        for task in entry.submission.tasks:
            if task.run_id in job["runs"] and task.attempt >= int(job["runs"][task.run_id]):
                run = folder.run(task.run_id)
                told = {"attempt": int(run.get("attempt", 1)), "folder": folder.path, "job": entry.job, "queued": run.get("queued")}
                found[task.run_id] = told
    return found


def _waiting(folder: CampaignFolder, job: Job, follower: Follower) -> List[Answer]:
    """Attempts that need a submission: [{"run", "attempt", "exclude": nodes that failed it before}]."""
    if folder.reason("stop") is not None or folder.reason("cancel") is not None:
        return []
    written = {(task.run_id, task.attempt) for entry in follower.submissions.entries() for task in entry.submission.tasks}
    found = []
    for run_id, first in sorted(job["runs"].items()):
        state, standing = _standing(folder, run_id, int(first))
        if standing is not None and state == "pending" and (run_id, standing.attempt) not in written:
            found.append({"run": run_id, "attempt": standing.attempt, "exclude": _failed_nodes(folder, run_id, int(first))})
    return found


def _failed_nodes(folder: CampaignFolder, run_id: str, first: int) -> List[str]:
    """Nodes on which the cluster failed earlier attempts of a run."""
    found: Set[str] = set()
    for number in folder.attempts(run_id):
        document = (folder.attempt(run_id, number).result() or {}) if number >= first else {}
        if document.get("failure_class") in ("infra", "launch"):
            found |= {str(name) for name in (document.get("target") or {}).get("nodes") or []}
    return sorted(found)


def _complete(answer: Answer, waiting: List[Answer], folder: CampaignFolder, follower: Follower) -> Answer:
    """An answer with what the controller needs for scripts, and with warnings."""
    answer = dict(answer, waiting=waiting, warnings=follower.warnings, changed=bool(answer["changed"] or follower.changed))
    if waiting:
        largest = follower.submissions.largest(_max_array(follower))
        answer.update(folder=folder.path, place=slurm_jobs.place_of(folder.host()), max_array=largest)
    return answer


def _max_array(follower: Follower) -> int:
    """How many tasks an array may have; Slurm's default while it does not answer."""
    try:
        return slurm_output.max_array_size(follower.slurm.config(), slurm_jobs.DEFAULT_MAX_ARRAY)
    except Silent as error:
        follower.warnings.append(error.message)
        return slurm_jobs.DEFAULT_MAX_ARRAY


# -- polled ----------------------------------------------------------------------------------------------------------------------


def polled(job: Job) -> Answer:
    """New results, what runs, new output; what has ended gets its record here."""
    folder = folder_of(job)
    if not folder.exists():
        return dict(host_steps.nothing(), unknown=sorted(job["runs"]), waiting=[])
    if job.get("check"):
        return dict(_answer(folder, job), waiting=[])
    follower = _follower(folder, job)
    _write(folder, job, follower.submissions)
    said = bool(job.get("stop")) and folder.say("stop", str(job["stop"]))
    stopped = folder.reason("stop") is not None
    dropped = stopped and follower.cancel_waiting()
    follower.follow(now=said or dropped)
    if stopped:
        _skip_pending(folder, job, follower)
    waiting = _possible(_waiting(folder, job, follower), folder, job, follower)
    answer = _answer(folder, job)
    return _complete(dict(answer, changed=bool(answer["results"] or said)), waiting, folder, follower)


def _skip_pending(folder: CampaignFolder, job: Job, follower: Follower) -> None:
    """Runs that were never given to Slurm when the play stopped: rows, not silence. A retry has none: the failure before it is the row."""
    written = {(task.run_id, task.attempt) for entry in follower.submissions.entries() for task in entry.submission.tasks}
    cancel, stop = folder.reason("cancel"), folder.reason("stop")
    for run_id, first in job["runs"].items():
        state, standing = _standing(folder, run_id, int(first))
        if standing is None or state != "pending" or (run_id, standing.attempt) in written:
            continue
        decision = folder.end_of_pending(folder.run(run_id), standing.attempt, cancel, stop)
        if decision:
            _close(folder, run_id, standing.attempt, decision["failure_class"], decision["reason"])
        follower.changed = True


def _close(folder: CampaignFolder, run_id: str, number: int, failure_class: str, reason: str) -> None:
    """The record of an attempt that was never given to Slurm."""
    attempt = folder.attempt(run_id, number)
    os.makedirs(attempt.path, mode=0o700, exist_ok=True)
    attempt.save_result(record.make_unrun_record(dict(folder.run(run_id), attempt=number), failure_class, reason))


def _standing(folder: CampaignFolder, run_id: str, attempt: int) -> Tuple[str, Any]:
    run = folder.run(run_id)
    if not run or int(run.get("attempt", 1)) < attempt:
        return "unknown", None
    standing: Standing = folder.standing(run)
    return standing.state, standing


def _answer(folder: CampaignFolder, job: Job) -> Answer:
    """Where the wanted runs stand."""
    answer = host_steps.nothing()
    room = host_steps.RESULTS_LIMIT
    for run_id, attempt in sorted(job["runs"].items()):
        state, standing = _standing(folder, run_id, int(attempt))
        if state == "unknown":
            answer["unknown"].append(run_id)
        elif state == "done" and standing.record:
            room = host_steps.add_result(folder, answer, standing.record, room)
        elif state == "open" and is_running(folder.attempt(run_id, standing.attempt)):
            answer["running"].append(_running(folder, run_id, standing.attempt))
        else:
            answer["queued"] += 1
    if isinstance(job.get("live"), dict):
        answer["live"] = list(host_steps.live_output(folder, job["live"], answer, folder.secret_values()))
    return answer


def _running(folder: CampaignFolder, run_id: str, number: int) -> Answer:
    attempt, run = folder.attempt(run_id, number), folder.run(run_id)
    node = NodeEnding(folder, run, NodeFolder(attempt, 0))
    began = node.wall_clock(node.progress.began) if node.progress.began else time.time()
    return {
        "run": run_id,
        "attempt": number,
        "model": run.get("model", ""),
        "phase": node.progress.phase or "launch",
        "seconds": round(max(0.0, time.time() - began), 1),
    }


# -- cancelled -------------------------------------------------------------------------------------------------------------------


def cancelled(job: Job) -> Answer:
    """End exactly this campaign's jobs; wait until each run has its record."""
    folder = folder_of(job)
    if not folder.exists():
        return dict(host_steps.nothing(), unknown=sorted(job["runs"]))
    quiet = dict(job, live=None)
    answer = _answer(folder, quiet)
    alive = bool(answer["running"] or answer["queued"])
    if job.get("check") or not alive:
        return dict(answer, changed=alive)
    folder.say("cancel", str(job.get("reason") or "cancelled by a person"))
    deadline = time.monotonic() + float(CANCEL_SECONDS if job.get("wait") is None else job["wait"])
    follower = _follower(folder, job)
    words, pause = "", _CANCEL_PAUSES[0]
    while True:
        try:
            follower.cancel()
        except MadError as error:
            words = error.message
        follower.follow(now=True)
        _skip_pending(folder, job, follower)
        answer = _answer(folder, quiet)
        if not answer["running"] and not answer["queued"]:
            return dict(answer, changed=True)
        if time.monotonic() >= deadline:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, _CANCEL_PAUSES[1])
    raise MadError(
        "%d runs of campaign %s have not ended after being cancelled%s; see %s"
        % (len(answer["running"]) + answer["queued"], job["campaign"], ": " + words if words else "", folder.path)
    )


# -- collected, absent -----------------------------------------------------------------------------------------------------------


def collected(job: Job) -> Answer:
    """Logs and artifacts of all nodes in one archive."""
    return host_collect.collected(job)


def absent(job: Job) -> Answer:
    """Remove folders and archives; never a folder that has a job without a record."""
    return host_clean.absent(job, _old_archives)


def _old_archives(base: str, limit: float, keep: Set[str], check: bool) -> List[str]:
    names: Mapping[str, Any] = {digest.partition(":")[2] + ".tar": True for digest in keep}
    return sorted(slurm_images.old_archives(base, limit, names, check))
