# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a run: its lock, its logs, its status and its checkpoints. Only rank 0 writes; the others get the decisions."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from . import tree
from .checkpoint import layout
from .checkpoint.manager import CheckpointManager
from .checkpoint.store import Checkpoint
from .config import TrainingConfig
from .durable import replace_json
from .errors import EngineError, PeerError, SaveError, UsageError
from .events import EventLog, MetricsLog
from .exitcodes import ExitCode
from .peers import Peers
from .status import StatusFile
from .step import code_of

LOCK_WAIT = 5.0  # seconds that a new process waits for the old one to let go
HEARTBEAT_EVERY = 0.5  # seconds
# What a path cannot mend by being tried again; anything else (a full disk, a storage that is away) may be better at the next start.
HOPELESS = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EROFS, errno.ELOOP)

VERDICTS = (ExitCode.USAGE, ExitCode.DATA, ExitCode.NO_RETRY)  # nothing starts these again but a person


def try_lock(folder: Path) -> IO[bytes] | None:
    """The lock of a run folder, None where another process has it. The kernel frees it when its process ends, however it ends."""
    stream = open(folder / ".lock", "wb")  # noqa: SIM115  # held as long as it is open
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


class RunFolder:
    """RUN/{status.json, events.jsonl, metrics.jsonl, config.json, ckpt/}."""

    def __init__(self, config: TrainingConfig, peers: Peers) -> None:
        self.config, self._peers = config, peers
        self.path = Path(config.run.run_dir)
        self.run_id = ""
        section = config.checkpoint
        self.manager = CheckpointManager(self.path / "ckpt", section.keep_best_k, section.keep_last_n, section.monitor, section.mode,
                                         mirror=section.mirror, on_event=self.event, on_saved=self._saved)
        self._events: EventLog | None = None
        self._metrics: MetricsLog | None = None
        self._status: StatusFile | None = None
        self._lock: IO[bytes] | None = None
        self._beat, self._beat_at = os.environ.get("TRAINING_HEARTBEAT"), 0.0

    def open(self) -> Checkpoint | None:
        """Take the lock, count the start, and find the checkpoint to resume from. Every rank returns the same one."""
        found, problem = None, ""
        error: EngineError | None = None
        if self._peers.first:
            try:
                found = self._open_first()
            except EngineError as caught:
                error, problem = caught, str(caught)
        answer = json.loads(self._peers.from_first(json.dumps({"path": str(found.path) if found else "", "problem": problem,
                                                               "code": int(error.exit_code) if error else 0})))
        if error is not None:
            raise error
        if answer["problem"]:
            raise _same_verdict(answer["code"], answer["problem"])
        if not self._peers.first and answer["path"]:
            found = self.manager.open_verified(Path(answer["path"]))
        return found

    def _open_first(self) -> Checkpoint | None:
        try:
            return self._open_locked()
        except OSError as error:
            kind = UsageError if error.errno in HOPELESS else SaveError
            raise kind(f"the run folder {self.path} cannot be used: {error}; repair it or make room and start the same line again (what "
                       "was saved is untouched), or give another run_dir") from error

    def _open_locked(self) -> Checkpoint | None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._events = EventLog(self.path / "events.jsonl")
        status = StatusFile(self.path)
        status.begin(uuid.uuid4().hex[:12], self.config.run.no_progress_limit)
        self._status = status
        self.run_id = status.value.run_id
        self.event("start", run_id=self.run_id, attempt=status.value.attempt, pid=os.getpid(), world=self._peers.world)
        self.manager.prepare()
        replace_json(self.path / "config.json", {"values": self.config.to_dict(), "sources": dict(self.config.sources)})
        found = self.manager.latest()
        self._metrics = MetricsLog(self.path / "metrics.jsonl")
        if found is None:
            self._metrics.cut(0)
        return found

    def _take_lock(self) -> None:
        """One writer per run folder."""
        limit = time.monotonic() + LOCK_WAIT
        while (lock := try_lock(self.path)) is None:
            if time.monotonic() > limit:
                raise PeerError(f"another process is training in {self.path}; wait for it, or give another run_dir")
            time.sleep(0.1)
        self._lock = lock

    def resumed(self, log_bytes: int, checkpoint: Checkpoint) -> None:
        """Cut the metrics log back to the checkpoint and report."""
        if self._metrics is not None:
            self._metrics.cut(log_bytes)
        self.event("resume", checkpoint=checkpoint.path.name, step=checkpoint.metadata.step)

    def event(self, name: str, **fields: Any) -> None:
        """Append to events.jsonl (rank 0 only)."""
        if self._events is not None:
            self._events.write(name, **fields)

    def log(self, values: Mapping[str, Any]) -> None:
        """Append to metrics.jsonl (rank 0 only)."""
        if self._metrics is not None:
            self._metrics.write(values)

    def log_bytes(self) -> int:
        """Make metrics.jsonl durable; its length."""
        return self._metrics.durable_offset() if self._metrics else 0

    def heartbeat(self, step: int) -> None:
        """Tell the launcher that this rank lives."""
        if self._beat and time.monotonic() - self._beat_at > HEARTBEAT_EVERY:
            self._beat_at = time.monotonic()
            Path(self._beat).write_text(f"{step}\n", encoding="ascii")

    def save(self, step: int, parts: Mapping[str, Any], ranks: list[bytes], state: Mapping[str, Any], facts: Mapping[str, Any], *,
             blocking: bool) -> float:
        """Save; `ranks` are the files of the ranks as they gathered them. Returns the seconds that training was held up."""
        files = {layout.rank_file(number): _unpacked(data) for number, data in enumerate(ranks)}
        return self.manager.save_parts(step, {**parts, **files}, state, facts, blocking=blocking)

    def _saved(self, path: Path, step: int) -> None:
        if self._status is not None:
            progress = step > self._status.value.checkpoint_step
            fruitless = 0 if progress else self._status.value.fruitless
            self._status.write(checkpoint=path.name, checkpoint_step=step, step=step, phase="training", fruitless=fruitless)

    def is_saved(self, step: int) -> bool:
        """Whether the newest checkpoint is that of `step`, on every rank's word of rank 0."""
        mine = ""
        if self._peers.first:
            target = self.path / "ckpt" / layout.folder_name(step)
            mine = "yes" if target.is_dir() and not self.manager.verify(target) else "no"
        return self._peers.from_first(mine) == "yes"

    def newest(self) -> Path | None:
        """The newest checkpoint."""
        entries = self.manager.list_checkpoints()
        return entries[-1].path if entries else None

    def wait(self) -> None:
        """Wait for a save in the background."""
        self.manager.wait()

    def end(self, code: ExitCode, reason: str, step: int) -> None:
        """The last words of a process: status.json and the event."""
        if self._metrics is not None:
            self._metrics.flush()
        self.event("exit", exit_code=int(code), reason=reason, step=step)
        if self._status is not None:
            self._status.end(code, reason, step)

    def give_up(self, error: BaseException) -> None:
        """The run ends badly: a save that waits for other ranks waits no longer. Three mistakes in a notebook are not a run that dies
        again and again, so a start that ends with a verdict does not count as one without progress."""
        self.manager.give_up()
        if self._status is None:
            return
        code, reason = code_of(error), f"{type(error).__name__}: {error}"[:2000]
        with contextlib.suppress(OSError):
            if code in VERDICTS:
                self._status.refused(code, reason)
            else:
                self._status.end(code, reason, self._status.value.step)

    def close(self) -> None:
        """Finish what runs in the background and let the lock go. Errors of the writer come out of wait(), not of here."""
        try:
            self._finish()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _finish(self) -> None:
        try:
            self.manager.wait()
        except EngineError as error:
            self.event("save_failed", reason=str(error))
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None


def _same_verdict(code: int, problem: str) -> EngineError:
    """The error that rank 0 met, for the other ranks: all end with the same code."""
    error = EngineError(problem)
    error.exit_code = ExitCode(code)
    return error


def _unpacked(data: bytes) -> Any:
    from safetensors.torch import load as load_bytes

    length = int.from_bytes(data[:8], "little")
    skeleton = json.loads(data[8:8 + length])["__metadata__"]["skeleton"]
    tensors: dict[str, torch.Tensor] = load_bytes(data)
    return tree.unflatten(skeleton, tensors)
