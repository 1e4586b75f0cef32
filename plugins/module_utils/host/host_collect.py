# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs and artifacts of a host's runs as one archive for the controller."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import shutil
import time
from typing import Any, Iterator, List, Mapping, Tuple

from ..base import work_folder
from ..base.errors import MadError
from ..base.files import is_folder, is_regular
from ..containers import archives
from . import host_state, host_steps
from .arguments import Answer, Job
from .host_state import HostFolder, folder_of, work_dir

_NODE = re.compile(r"node-[1-9][0-9]{0,5}\Z")  # what the other nodes of a run of several left


_WITH_A_POLL = 8 << 20  # bytes of logs and artifacts that come home within the time of a poll


def polled(job: Job) -> Answer:
    """`host_steps.polled`; once all has ended with the archive of everything under `home`, if it is a small one.

    `files` are runs (ids and attempts) that ended before and whose files are still here. It saves a step of its own, and the files of a
    host that is done early need not wait for the other hosts.
    """
    answer = host_steps.polled(job)
    if any(answer[name] for name in ("running", "queued", "more", "large", "unknown")) or job.get("check"):
        return answer
    try:
        return dict(answer, home=collected(dict(job, runs={**job["files"], **job["runs"]}), _WITH_A_POLL))
    except (MadError, OSError):  # the records are home; the step that collects will say it
        return answer


def collected(job: Job, limit: float = math.inf) -> Answer:
    """Logs and artifacts of these runs in one archive for the connection to fetch; `content_bytes` is what they need unpacked.

    Beyond `limit` bytes there is no archive.
    """
    folder = folder_of(job)
    if not folder.exists():
        return {"changed": False, "archive": "", "runs": [], "unknown": sorted(job["runs"])}
    chosen = _result_of if job.get("only_results") else _files_of
    found = {run_id: chosen(folder, run_id) for run_id in sorted(job["runs"]) if folder.run(run_id)}
    total = sum(os.path.getsize(path) for entries in found.values() for path, dummy in entries)
    answer: Answer = {
        "changed": bool(found),
        "runs": sorted(found),
        "content_bytes": total,
        "unknown": sorted(set(job["runs"]) - set(found)),
        "archive": "",
    }
    if not found or job.get("check") or total > limit:
        return answer
    free = shutil.disk_usage(folder.path).free
    if free < total + (16 << 20):
        raise MadError(
            "the archive of logs and artifacts needs up to %d MiB in %s, where %d MiB are free" % (total >> 20, folder.path, free >> 20)
        )
    answer["archive"] = _make_archive(work_dir(job), found)
    answer["bytes"] = os.path.getsize(answer["archive"])
    return answer


def _files_of(folder: HostFolder, run_id: str) -> List[Tuple[str, str]]:
    """(path here, name in the archive) of everything that comes home of one run: the newest attempt on top, older ones below."""
    found: List[Tuple[str, str]] = []
    numbers = [number for number in folder.attempts(run_id) if folder.attempt(run_id, number).result()]
    for number in numbers:
        attempt = folder.attempt(run_id, number)
        prefix = run_id if number == numbers[-1] else "%s/attempt-%d" % (run_id, number)
        found += _files_in(attempt.path, prefix)
        for name in sorted(os.listdir(attempt.path)):
            if _NODE.match(name) and is_folder(attempt.file(name)):
                found += _files_in(attempt.file(name), "%s/%s" % (prefix, name))
    return found


def _files_in(folder: str, prefix: str) -> List[Tuple[str, str]]:
    """Logs and artifacts of one attempt, or of one node's part of it."""
    found = []
    for name in host_state.LOGS:
        path = os.path.join(folder, name)
        if is_regular(path):
            found.append((path, "%s/%s" % (prefix, "run.log" if name == "model.log" else name)))
    artifacts = os.path.join(folder, "artifacts")
    names = sorted(os.listdir(artifacts)) if is_folder(artifacts) else []
    paths = [(os.path.join(artifacts, name), "%s/artifacts/%s" % (prefix, name)) for name in names]
    return found + [(path, name) for path, name in paths if is_regular(path)]


def _result_of(folder: HostFolder, run_id: str) -> List[Tuple[str, str]]:
    """The newest record alone, where it is too large for an answer."""
    numbers = [number for number in folder.attempts(run_id) if folder.attempt(run_id, number).result()]
    return [(folder.attempt(run_id, numbers[-1]).file("result.json"), run_id + "/result.json")] if numbers else []


def _make_archive(base: str, found: Mapping[str, List[Tuple[str, str]]]) -> str:
    """An archive under a name that cannot be guessed, readable by the login user too (become may have made us another one)."""
    outbox = make_outbox(base)
    path = os.path.join(outbox, secrets.token_hex(16) + ".tar.gz")
    with _open_archive(path) as archive:
        for run_id, entries in found.items():
            sizes = {name: archives.add_file(archive, place, name) for place, name in entries}
            if sizes.get(run_id + "/run.log", -1) < 0:
                archives.add_bytes(archive, b"", run_id + "/run.log")
    os.chmod(path, 0o644)
    return path


def make_outbox(base: str) -> str:
    """The folder for files on their way to the controller: nobody can list it."""
    work_folder.own_folder(base, 0o711)
    outbox = os.path.join(base, "outbox")
    work_folder.own_folder(outbox, 0o711)
    for name in os.listdir(outbox):
        path = os.path.join(outbox, name)
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime > 86400:
                os.unlink(path)
    return outbox


@contextlib.contextmanager
def _open_archive(path: str) -> Iterator[Any]:
    import tarfile

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz", compresslevel=3) as archive:
            yield archive
    except BaseException:  # also on KeyboardInterrupt: half an archive must not stay
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
