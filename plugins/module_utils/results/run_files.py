# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs and artifacts in a run's folder on the controller: those of the newest attempt on top, those of older ones in attempt-N/.

Which of them came home stands in one file per host, so that bringing a thousand home writes one file and not a thousand.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from typing import Any, Callable, Dict, Mapping, Optional

from ..base import files
from ..base.errors import InvalidInput, MadError
from .record_shape import problem_of

_OURS = re.compile(r"(run\.log|pre\.log|post\.log|engine\.log|artifacts|node-[0-9]{1,6})\Z")


def put_aside(folder: str, attempt: int) -> None:
    """Make room on top for a newer attempt; interrupted, the next call goes on."""
    target = os.path.join(folder, "attempt-%d" % attempt)
    for name in sorted(os.listdir(folder)):
        if _OURS.match(name):
            os.makedirs(target, exist_ok=True)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                shutil.rmtree(os.path.join(target, name))  # a copy of the same attempt, fetched once before
            os.replace(os.path.join(folder, name), os.path.join(target, name))


def read_dict(path: str, what: str) -> Optional[Dict[str, Any]]:
    if not os.path.lexists(path):
        return None
    document = files.read_json(path, what)
    if not isinstance(document, dict):
        raise InvalidInput("%s %s is not a JSON object" % (what, path))
    return document


def check_record(record: Any, run_id: str, path: str) -> Optional[Dict[str, Any]]:
    """The record if it is one of this run; a file of another run in this folder must not become this run's row."""
    if record is None:
        return None
    problem = problem_of(record) if isinstance(record, dict) and record.get("run_id") == run_id else "another run, or no JSON object"
    if problem:
        raise InvalidInput("the result %s is not the record of run %s: %s" % (path, run_id, problem))
    return dict(record)


def write_if_changed(
    batch: files.Batch, path: str, value: Any, known: Optional[Any] = None, form: Callable[[Any], bytes] = files.json_lines
) -> bool:
    if known is None and os.path.lexists(path):
        with contextlib.suppress(MadError):
            known = files.read_json(path, "the file")
    if known == value and os.path.lexists(path):
        return False
    batch.write(path, form(value))
    return True


class Collected:
    """What was collected of each host's runs: {run id: [attempt, how]}, `how` being `home` or `gone` (the host no longer has it)."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._known: Dict[str, Dict[str, Any]] = {}

    def _path(self, host: str) -> str:
        return os.path.join(self.folder, hashlib.sha256(host.encode("utf-8", "surrogateescape")).hexdigest()[:12] + ".json")

    def _read(self, host: str) -> Dict[str, Any]:
        """One that cannot be read costs a second collection, nothing else."""
        with contextlib.suppress(MadError):
            document = files.read_json(self._path(host), "the list of what was collected") if os.path.exists(self._path(host)) else {}
            if isinstance(document, dict) and document.get("host") == host and isinstance(document.get("runs"), dict):
                return dict(document["runs"])
        return {}

    def has(self, host: str, run_id: str, attempt: int) -> bool:
        """Whether nothing of this attempt is still to be brought home."""
        if host not in self._known:
            self._known[host] = self._read(host)
        entry = self._known[host].get(run_id)
        return isinstance(entry, list) and entry[:1] == [attempt]

    def add(self, host: str, attempts: Mapping[str, int], how: str) -> None:
        """Note these attempts, {run id: attempt}."""
        if not attempts:
            return
        os.makedirs(self.folder, exist_ok=True)
        with files.locked(os.path.join(self.folder, ".lock")):
            known = {**self._read(host), **{run_id: [attempt, how] for run_id, attempt in attempts.items()}}
            files.write_json(self._path(host), {"schema": 1, "host": host, "runs": known}, indent=None)
        self._known[host] = known
