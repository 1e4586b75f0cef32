# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an attempt on a host: logs and artifacts moved out of reach, secrets masked, the record made and written."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import time
from typing import Any, Callable, Dict, List, Mapping, Optional

from ..base import files, secret_names
from ..base.files import is_folder, is_regular
from ..results import perf, record
from . import driver
from .host_state import LOGS, Attempt, HostFolder

_CHUNK = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{7,64}\Z")
_LOST = "%s was replaced by something that is not a file; its content is lost"
RESERVE = "reserve"  # a file that is given up when the disk is full, so that the record can still be written
RESERVE_BYTES = 1 << 20


def phase_name(run: Mapping[str, Any], phase: str, detail: str) -> str:
    """A phase in a person's words."""
    if phase in ("pre", "post"):
        scripts = run.get(phase + "_scripts") or []
        number = int(detail) if detail.isdecimal() and len(detail) < 10 else -1
        path = scripts[number].get("path", "?") if 0 <= number < len(scripts) else "?"
        return "the %s script %s" % (phase, path)
    return {"clone": "git clone of %s" % run.get("url"), "prepare": "preparing the run directory", "collect": "collecting the results"}.get(
        phase, phase
    )


def phase_failure(run: Mapping[str, Any], failure: Mapping[str, Any]) -> Dict[str, str]:
    """The error of an outcome for a phase that failed: scripts are the model's own work, the rest is the machine's."""
    phase = failure["phase"]
    what = phase_name(run, phase, str(failure["detail"]))
    reason = "%s ended with exit status %d" % (what, failure["code"])
    if phase in ("pre", "post"):
        return {"class": "crash", "reason": reason + "; see %s.log" % phase}
    words = str(failure["detail"]) if phase == "prepare" else ""
    return {"class": "infra", "reason": (reason + ": " + words) if words else reason + ("; see pre.log" if phase == "clone" else "")}


class Ending:
    """Makes and writes the record of one attempt."""

    def __init__(self, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, outcome: Dict[str, Any]) -> None:
        self.folder, self.run, self.attempt, self.outcome = folder, dict(run, attempt=attempt.number), attempt, outcome
        self.progress = driver.read_phases(attempt.file("io", "phases"))
        self.secrets = [value for value in folder.secret_values() if len(value) >= secret_names.SHORTEST]

    @functools.cached_property
    def launch(self) -> Dict[str, Any]:
        """launch.json; an attempt that ends changes it no more."""
        return self.attempt.launch()

    def write(self, batch: Optional[files.Batch] = None) -> Dict[str, Any]:
        """Write result.json, now or with others, on a full disk by giving up what is least needed; what stands there now."""
        self._times()
        self.move_out()
        document: Dict[str, Any] = self._record()
        if self._may_hold_secrets(document):
            document = self._masked(document)
        for give_up in (self._give_up_reserve, self._give_up_work, None):
            try:
                self.attempt.save_result(document, batch)
                break
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or give_up is None:
                    raise
                give_up()
        return document

    def _give_up_reserve(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.folder.file(RESERVE))

    def _give_up_work(self) -> None:
        shutil.rmtree(self.attempt.file("work"), ignore_errors=True)

    def wall_clock(self, seconds_since_boot: float) -> float:
        """Seconds since the epoch of a moment that the driver noted."""
        return self.attempt.wall_clock(seconds_since_boot)

    # -- times, logs, artifacts --------------------------------------------------------------------------------------------------

    def _times(self) -> None:
        progress, now = self.progress, time.time()
        handed_over = float(self.run.get("staged") or now)
        times = {"queued": float(self.run.get("queued") or handed_over), "staged": handed_over, "finished": now}
        if progress.ended:
            times["finished"] = self.wall_clock(progress.ended)
        for name, moment in (
            ("started", progress.began),
            ("model_started", progress.model_began),
            ("model_finished", progress.model_ended),
        ):
            if moment:
                times[name] = self.wall_clock(moment)
        self.outcome["times"] = times
        self.outcome["notes"] += progress.notes
        if shutil.disk_usage(self.folder.path).free < RESERVE_BYTES:
            self.outcome["notes"].append("the disk of the work folder was full when it ended")

    def move_out(self) -> None:
        """Logs and artifacts leave the folder that the model could write to; only then are they read."""
        for name in LOGS:
            self._move_log(name)
        source, target = self.attempt.file("io", "artifacts"), self.attempt.file("artifacts")
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            try:
                os.rename(source, target)
            except PermissionError:
                self.outcome["notes"].append("the artifacts belong to another user and could not be brought out")
        if not is_folder(target):
            with contextlib.suppress(OSError):
                os.unlink(target)
            os.makedirs(target, exist_ok=True)
        masked = sum(self._mask(os.path.join(target, name), "the artifact " + name) for name in self.artifacts())
        if masked:
            self.outcome["notes"].append("%d artifacts held the value of a secret; it was masked" % masked)

    def _move_log(self, name: str) -> None:
        source, target = self.attempt.file("io", name), self.attempt.file(name)
        if is_folder(source):  # it may be of another user, who alone can move it; it goes with the folder in which it lies
            self.outcome["notes"].append(_LOST % name)
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(source, target)
        if not os.path.lexists(target):
            return
        if not is_regular(target):
            os.unlink(target)
            self.outcome["notes"].append(_LOST % name)
        if self._mask(target, name):
            self.outcome["notes"].append("%s held the value of a secret; it was masked" % name)

    def _mask(self, path: str, what: str) -> bool:
        """Overwrite secrets in a file; returns whether there were any. One that we may not change or read must not cost the record, and is not brought home."""
        try:
            found = mask_file(path, self.secrets)
            readable = not os.path.lexists(path) or os.access(path, os.R_OK)
        except PermissionError:
            found, readable = 0, False
        if not readable:
            self.outcome["notes"].append("%s belongs to another user; its content is lost" % what)
            with contextlib.suppress(OSError):
                os.unlink(path)
        return bool(found)

    def artifacts(self) -> List[str]:
        """Names of the regular files brought out."""
        folder = self.attempt.file("artifacts")
        return sorted(name for name in os.listdir(folder) if is_regular(os.path.join(folder, name)))

    # -- the record --------------------------------------------------------------------------------------------------------------

    def _record(self) -> Dict[str, Any]:
        launch, log = self.launch, self.attempt.file("model.log")
        self.outcome["target"] = {
            "container": launch.get("container", ""),
            "container_id": self._container_id(),
            "parallel": launch.get("parallel", 1),
            "neighbours": self._neighbours(),
        }
        self.outcome["files"] = {
            "log": "run.log",
            "log_bytes": os.path.getsize(log) if os.path.exists(log) else 0,
            "artifacts": self.artifacts(),
        }
        self.outcome["gpus"] = {"indexes": launch.get("gpus", [])}
        self.outcome["cpus"] = launch.get("cpus", "")
        self.outcome["git_commit"] = self.progress.commit if _COMMIT.match(self.progress.commit) else ""
        return record.make_record(self.run, self.outcome, self.parsed(), self.facts())

    def facts(self) -> Dict[str, Any]:
        """Facts of the machine that it ran on."""
        return self.folder.facts()

    def parsed(self) -> Optional[Dict[str, Any]]:
        """What the model printed and left behind; without its log the last words of what came before."""
        if self.progress.model_began and os.path.exists(self.attempt.file("model.log")):
            return perf.parse_run(self.run, self.attempt.file("model.log"), self._results_path(), self.attempt.file("artifacts"))
        return self._only_excerpt()

    def _only_excerpt(self) -> Optional[Dict[str, Any]]:
        """The last lines of the log that explains why there is no model.log."""
        for name in ("pre.log", "engine.log"):
            path = self.attempt.file(name)
            if os.path.exists(path) and os.path.getsize(path):
                return dict(perf.parse(path), metrics=[], errors=[], problem=None)
        return None

    def _results_path(self) -> str:
        name = os.path.basename(str(self.run.get("multiple_results") or ""))
        path = self.attempt.file("artifacts", name)
        return path if name and is_regular(path) else ""

    def _container_id(self) -> str:
        with contextlib.suppress(OSError), open(self.attempt.file("container.id"), encoding="ascii") as stream:
            return stream.read().strip()
        return ""

    def _neighbours(self) -> List[str]:
        """Runs that ran at the same time, written down by the supervisor."""
        with contextlib.suppress(OSError), open(self.attempt.file("neighbours"), encoding="ascii") as stream:
            return sorted(set(stream.read().split()))
        return []

    def _may_hold_secrets(self, document: Mapping[str, Any]) -> bool:
        """Whether any secret stands in the record's text. JSON escapes letter by letter, so one that is in a text is in what JSON makes of it."""
        if not self.secrets:
            return False
        whole = json.dumps(document, ensure_ascii=False)
        return any(json.dumps(secret, ensure_ascii=False)[1:-1] in whole for secret in self.secrets)

    def _masked(self, value: Any) -> Any:
        """The same value with every secret in every text masked."""
        if isinstance(value, str):
            return secret_names.mask(value, self.secrets) if any(secret in value for secret in self.secrets) else value
        if isinstance(value, list):
            return [self._masked(entry) for entry in value]
        if isinstance(value, dict):
            return {self._masked(key): self._masked(entry) for key, entry in value.items()}
        return value


def mask_file(path: str, values: List[str]) -> int:
    """Overwrite secrets in a log of any size with asterisks, in place and in constant memory; returns how many there were."""
    needles = sorted({value.encode("utf-8", "surrogateescape") for value in values}, key=len, reverse=True)
    if not needles or not is_regular(path):
        return 0
    pattern = re.compile(b"|".join(re.escape(needle) for needle in needles))
    keep, found = len(needles[0]) - 1, 0
    with open(path, "r+b", buffering=0) as stream:
        block, position = b"", 0  # position: where in the file the block begins
        while True:
            chunk = stream.read(_CHUNK)
            block += chunk
            done = len(block) - keep if chunk else len(block)  # a secret that begins after this may go on in the next chunk
            for match in pattern.finditer(block):
                if match.start() >= done:
                    break
                os.pwrite(stream.fileno(), b"*" * (match.end() - match.start()), position + match.start())
                found += 1
                done = max(done, match.end())
            if not chunk:
                return found
            block, position = block[max(done, 0) :], position + max(done, 0)


def reserve_space(folder: HostFolder) -> None:
    """Make the file that is given up on a full disk; without space for it there is none."""
    path = folder.file(RESERVE)
    if not os.path.exists(path):
        with contextlib.suppress(OSError):
            files.write_atomic(path, b"\0" * RESERVE_BYTES, 0o600)


def remove_folder(path: str, help_with: Callable[[str], None]) -> None:
    """Remove a folder; where files of another user (root in a container) resist, `help_with(path)` may empty it first."""
    if not os.path.lexists(path):
        return
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        help_with(path)
        shutil.rmtree(path, ignore_errors=True)
