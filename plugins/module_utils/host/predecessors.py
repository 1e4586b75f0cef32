# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host remembers campaigns by their names, and a name can come again: whose is the folder, and what becomes of what an earlier one left."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from typing import List, Tuple

from ..base import files, work_folder
from ..base.errors import MadError
from ..containers.engine import Engine
from . import host_state, processes
from .host_state import HostFolder


def take_over(folder: HostFolder, campaign: str, host: str) -> Tuple[str, bool]:
    """Make the campaign's folder, or join it. Returns (where a finished campaign of the same name was put aside, or "", whether it is new).

    A campaign of the same name from another results folder that still runs here is joined: its runs are the same content, measured now. One
    in which nothing runs any more is history: its records must not pass for new measurements.
    """
    work_folder.own_folder(os.path.dirname(os.path.dirname(folder.path)), 0o711)
    replaced = ""
    with joining(folder):
        if folder.occupant() is not None and not folder.exists() and not why_busy(folder):
            replaced = _put_aside(folder)
        return replaced, folder.make(campaign, host)


def joining(folder: HostFolder) -> contextlib.AbstractContextManager[bool]:
    """The lock of the work folder under which campaigns' folders are made, joined, left and removed."""
    return files.locked(os.path.join(os.path.dirname(os.path.dirname(folder.path)), "campaigns.lock"))


def others(folder: HostFolder) -> List[str]:
    """Identities of other campaigns that joined ours here and have not said that they are done."""
    return [known for known in folder.host().get("identities", ()) if known != folder.identity] if folder.identity else []


def leave(folder: HostFolder) -> bool:
    """Take ourselves out of a folder that others still work with; False where there are none: then it can go."""
    with joining(folder):
        left = others(folder)
        if left:
            files.write_json(folder.file("host.json"), dict(folder.host(), identities=left), 0o600)
        return bool(left)


def _put_aside(folder: HostFolder) -> str:
    """Rename the folder; its files stay until mad.engine.clean. Containers that were kept alive go: their names are needed again."""
    lock = host_state.try_lock(folder.file("supervisor.lock"))
    if lock is None:
        raise MadError("a supervisor began to work in %s just now; try again" % folder.path)
    try:
        remove_containers(folder)
        aside = "%s~%s" % (folder.path, secrets.token_hex(4))
        os.rename(folder.path, aside)
    finally:
        os.close(lock)
    return aside


def why_busy(folder: HostFolder) -> str:
    """What still works in a folder, "" when nothing does."""
    if folder.supervised():
        return "a supervisor works in it"
    for run_id in folder.run_ids():
        for number in folder.attempts(run_id):
            attempt = folder.attempt(run_id, number)
            if attempt.held():
                return "run %s is running" % run_id
            if attempt.launch() and not attempt.result() and attempt.launch().get("boot_id") in (processes.boot_id(), host_state.ELSEWHERE):
                return "run %s was started and has no record yet; poll or cancel the campaign first" % run_id
    return ""


def left_behind(folder: HostFolder) -> str:
    """Remove what a keeper could not remove because its engine gave no answer; "" or what is still there."""
    for run_id in folder.run_ids():
        for number in folder.attempts(run_id):
            mark = folder.attempt(run_id, number).file(host_state.LEFT)
            program = str(folder.run(run_id).get("runtime")) if os.path.exists(mark) else ""
            if not shutil.which(program):  # nothing was left, or its engine has left the machine as well
                continue
            name = host_state.read_text(mark)
            try:
                problem = Engine(program).remove(name)
            except MadError as error:
                problem = error.message
            if problem:
                return "its container %s could not be removed: %s" % (name, problem)
            os.unlink(mark)
    return ""


def remove_containers(folder: HostFolder) -> None:
    """Remove the containers that were kept alive for this folder; an engine that does not answer has none that run."""
    for program in sorted({str(run.get("runtime")) for run in folder.runs()} - {"host"}):
        engine = Engine(program)
        with contextlib.suppress(MadError):
            for name in engine.containers_of(folder.path):
                engine.remove(name)
