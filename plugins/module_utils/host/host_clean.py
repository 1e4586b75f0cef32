# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what campaigns left on a host: `state=absent` of `container_run`. Never what runs, never what is somebody else's."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Callable, List, Mapping, Set

from ..base import work_folder
from ..base.errors import MadError
from ..base.files import is_folder
from ..building import build_clean
from . import host_state, predecessors, processes
from .arguments import Answer, Job
from .host_state import HostFolder, folder_of, work_dir


class Resists(MadError):
    """A folder that the operating system does not let us remove."""


def _no_more(_base: str, _limit: float, _keep: Set[str], _check: bool) -> List[str]:
    return []


def _nothing_else(folder: HostFolder, _check: bool) -> List[str]:
    if "namespace" in folder.settings():
        raise MadError(
            "Jobs of a Kubernetes cluster may belong to it; mad.engine.clean removes both on the host that stands for the cluster"
        )
    return []


def absent(
    job: Job,
    old: Callable[[str, float, Set[str], bool], List[str]] = _no_more,
    elsewhere: Callable[[HostFolder, bool], List[str]] = _nothing_else,
) -> Answer:
    """Remove this campaign's folder (`keep_days` None) or every folder, archive and core older than so many days; never what runs.

    `runs` of the job are those whose record the controller lacks: with a record of one of them here the folder stays. A folder that campaigns of
    several results folders work with goes with the last of them (or by its age): the others only take themselves out. `old` removes what a
    target keeps beside that and nobody used since; it is told which image ids are in use. `elsewhere` removes what a folder's campaign left in
    other places, before the folder goes: it alone knows of it, so it stays when that fails.
    """
    base = work_dir(job)
    check = bool(job.get("check"))
    removed: List[str] = []
    kept: List[Answer] = []
    if not os.path.lexists(base):
        return {"changed": False, "removed": [], "kept": []}
    work_folder.check_owner(base)
    left: List[str] = []
    resisting: List[str] = []
    for folder in _candidates(job, base):
        shared = bool(predecessors.others(folder))
        why = _still_needed(folder, job.get("runs") or {})
        if not why and (job.get("runs") or not shared):  # what runs there may be the others' alone
            why = predecessors.why_busy(folder)
        if not why and not check:
            why = predecessors.left_behind(folder)
        if why:
            kept.append({"path": folder.path, "reason": why})
            continue
        if shared and (check or predecessors.leave(folder)):
            kept.append({"path": folder.path, "reason": "a campaign of the same name, of another results folder, works with it"})
            left.append(folder.path)
            continue
        try:
            removed += elsewhere(folder, check)
            if not check:
                _remove_folder(folder)
        except MadError as error:
            if job.get("keep_days") is None:
                raise  # of many folders, the others do not wait for this one
            kept.append({"path": folder.path, "reason": error.message})
            resisting += [error.message] if isinstance(error, Resists) else []
            continue
        removed.append(folder.path)
    if job.get("keep_days") is not None:
        from . import host_images  # one campaign's folder goes without all that knows of images

        removed += _remove_old_files(base, _limit(job), check)
        removed += build_clean.old_files(base, _limit(job), check)
        in_use = _images_in_use(base, removed)
        removed += host_images.old_images(_limit(job), in_use, check)
        removed += old(base, _limit(job), in_use, check)
    if resisting:
        raise MadError("%s; everything else that is old was removed" % "; ".join(resisting[:5]))
    gone = removed + [path + " (this campaign's part in it)" for path in left]
    diff = {"before": "".join(line + "\n" for line in gone), "after": ""}
    return {"changed": bool(gone), "removed": removed, "kept": kept, "diff": diff}


def _limit(job: Job) -> float:
    return time.time() - float(job["keep_days"]) * 86400


def _candidates(job: Job, base: str) -> List[HostFolder]:
    if job.get("keep_days") is None:
        folder = folder_of(job)
        return [folder] if folder.exists() else []
    parent = os.path.join(base, "campaigns")
    found = [HostFolder(os.path.join(parent, name)) for name in (sorted(os.listdir(parent)) if is_folder(parent) else [])]
    return [folder for folder in found if is_folder(folder.path) and _last_use(folder) < _limit(job)]


def _images_in_use(base: str, removed: List[str]) -> Set[str]:
    """Ids of the images that campaigns which stay were planned with."""
    parent = os.path.join(base, "campaigns")
    paths = [os.path.join(parent, name) for name in (os.listdir(parent) if is_folder(parent) else [])]
    runs = [run for path in paths if path not in removed for run in HostFolder(path).runs()]
    return {str((run.get("image") or {}).get("digest") or "") for run in runs}


def _last_use(folder: HostFolder) -> float:
    times = [os.lstat(folder.path).st_mtime]
    for name in ("state.json", "settings.json", "host.json", "watch.json"):
        with contextlib.suppress(OSError):
            times.append(os.lstat(folder.file(name)).st_mtime)
    return max(times)


def _still_needed(folder: HostFolder, runs: Mapping[str, int]) -> str:
    """A run that the controller has no record of may have ended since it last asked: its result is nowhere else."""
    for run_id, wanted in sorted(runs.items()):
        for number in folder.attempts(run_id):
            if number >= int(wanted) and folder.attempt(run_id, number).result():
                return "the record of run %s has not come home yet; run the campaign again to fetch it" % run_id
    return ""


def _remove_folder(folder: HostFolder) -> None:
    """Containers that were kept alive, then the folder. The locks are taken first: no supervisor may begin and no campaign may join meanwhile."""
    with predecessors.joining(folder):
        lock = None if predecessors.others(folder) else host_state.try_lock(folder.file("supervisor.lock"))
        if lock is None:
            raise MadError("a supervisor began to work in %s, or another campaign joined it, just now" % folder.path)
        try:
            predecessors.remove_containers(folder)
            shutil.rmtree(folder.path, ignore_errors=True)
            if os.path.lexists(folder.path):
                _say_what_resists(folder.path)
        finally:
            os.close(lock)


def _say_what_resists(path: str) -> None:
    """Try once more; Resists names the folder, the file in it and the reason."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        words = "%s cannot be removed: %s: %s; remove it by hand (is it immutable, mounted over, or another user's?)"
        raise Resists(words % (path, error.filename, error.strerror)) from error


def _remove_old_files(base: str, limit: float, check: bool) -> List[str]:
    """Archives left in the outbox, and cores that nothing was started with lately and nothing works with."""
    in_use = _cores_in_use(base)
    removed = []
    for name in ("outbox", "lib"):
        folder = os.path.join(base, name)
        for entry in sorted(os.listdir(folder)) if is_folder(folder) else []:
            path = os.path.join(folder, entry)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_mtime < limit and path not in in_use:
                    removed.append(path)
                    if not check:
                        os.unlink(path)
    return removed


def _cores_in_use(base: str) -> Set[str]:
    """Cores of living processes, which load parts of them late, and of folders in which something is to be taken over."""
    library, parent = os.path.join(base, "lib"), os.path.join(base, "campaigns")
    words = {word for pid in processes.all_parents() for word in processes.command_of(pid)}
    found = {word for word in words if os.path.dirname(word) == library}
    for folder in [HostFolder(os.path.join(parent, name)) for name in (os.listdir(parent) if is_folder(parent) else [])]:
        if predecessors.why_busy(folder):
            found |= {os.path.join(library, str(run.get("core")) + ".pyz") for run in folder.runs()}
    return found
