# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CheckpointManager: save, load, list, get_best, verify; with retention, mirror and an asynchronous writer."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .. import __version__, rng
from ..durable import Buffer
from ..errors import CheckpointError, DataError, SaveError, UsageError
from ..tree import Flat, flatten, is_sharded, serialize
from . import layout, shards
from .mirror import open_mirror
from .store import Checkpoint, CheckpointStore
from .writer import BackgroundTask, Staging

REMEDY = "; make room or repair the folder, then start the same line again: the older checkpoints are untouched"


def _silent(event: str, **fields: Any) -> None:
    """The event sink of a manager that nobody listens to."""


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and torch.compile wrappers, whose prefixes must not get into a file."""
    while True:
        inner = getattr(model, "_orig_mod", None) or (model.module if isinstance(model, nn.parallel.DistributedDataParallel) else None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


class CheckpointManager:
    """The checkpoints of one run.

    checkpoint_dir: one folder per checkpoint is made in it.
    keep_best_k, keep_last_n: a checkpoint stays if either rule keeps it; the newest always stays.
    monitor, mode: the metric that ranks them, and whether "min" or "max" is good.
    mirror: a second place (folder or fsspec URL), written after each save and searched at a load.
    on_event: called with (event, **fields) for save, quarantine, mirror trouble; may be called from the writer's thread.
    """

    def __init__(self, checkpoint_dir: str | os.PathLike[str], keep_best_k: int = 3, keep_last_n: int = 5, monitor: str = "val_loss",
                 mode: Literal["min", "max"] | str = "min", *, mirror: str | None = None, on_event: Callable[..., None] | None = None,
                 on_saved: Callable[[Path, int], None] | None = None) -> None:
        if mode not in ("min", "max"):
            raise UsageError(f"mode must be 'min' or 'max', not {mode!r}")
        if keep_last_n < 1 or keep_best_k < 0:
            raise UsageError(f"keep_last_n must be at least 1 and keep_best_k at least 0, not {keep_last_n} and {keep_best_k}")
        self.checkpoint_dir = Path(checkpoint_dir)
        self.keep_best_k, self.keep_last_n, self.monitor, self.mode = keep_best_k, keep_last_n, monitor, mode
        self._event = on_event or _silent
        self._on_saved = on_saved
        self._store = CheckpointStore(self.checkpoint_dir, self._event)
        self._mirror = open_mirror(mirror) if mirror else None
        self._staging, self._task = Staging(), BackgroundTask()
        self._given_up = threading.Event()

    # -- saving

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, scheduler: Any = None, epoch: int = 0,
             metrics: Mapping[str, float] | None = None, custom_state: Mapping[str, Any] | None = None, *, step: int) -> Path:
        """Save model, optimizer, scheduler, the random generators and `custom_state` as the checkpoint of `step`; returns its folder.

        This is the whole state of a plain loop of one's own; the trainer uses `save_parts`. Every value of `custom_state` is plain
        data, or an object with state_dict().
        """
        custom = {key: value.state_dict() if hasattr(value, "state_dict") else value for key, value in (custom_state or {}).items()}
        optim = {"optimizer": optimizer.state_dict() if optimizer else None, "scheduler": scheduler.state_dict() if scheduler else None,
                 "custom": custom}
        self.save_parts(step, {layout.MODEL: unwrap(model).state_dict(), layout.OPTIM: optim, layout.rank_file(0): {"rng": rng.capture()}},
                        {"step": step, "epoch": epoch}, {"epoch": epoch, "metrics": dict(metrics or {})})
        return self.checkpoint_dir / layout.folder_name(step)

    def save_parts(self, step: int, parts: Mapping[str, Any], state: Mapping[str, Any], facts: Mapping[str, Any], *,
                   blocking: bool = True) -> float:
        """Save nested values, one safetensors file each, with `state` as state.json and `facts` in the manifest.

        Returns the seconds that training was held up. With blocking=False the values are copied and written by a thread; its errors
        are raised by the next call or by `wait`.

        Where a value holds sharded tensors (DTensor), all ranks call this together: each writes its shard, rank 0 the rest.
        """
        begin = time.perf_counter()
        self.wait()
        flats, sharded = shards.split({name: flatten(value) for name, value in parts.items()})
        texts: dict[str, Any] = {layout.STATE: state}
        shared = None
        if sharded:
            shared = shards.plan_save(sharded, self._given_up)
            flats = {**(flats if shared.rank == 0 else {}), layout.shard_file(shared.rank): Flat(shared.chunks, "null")}
            texts[layout.SHARDS] = shared.index
        files: dict[str, list[Buffer]] = {name: [json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()]
                                          for name, value in texts.items()}
        everything = {**_environment(), **facts}
        if blocking:
            self._write(step, flats, files, everything, begin, shared)
            if shared is None or shared.rank == 0:
                self._check_written(step)
        else:
            copies = self._staging.copy(flats)
            self._task.start(lambda: self._write(step, copies, files, everything, begin, shared))
        return time.perf_counter() - begin

    def give_up(self) -> None:
        """Another rank is gone: no longer wait for its shard. The save in hand fails."""
        self._given_up.set()

    def wait(self) -> None:
        """Wait for a save in the background. Raises SaveError when it failed."""
        try:
            self._task.wait()
        except OSError as error:
            raise SaveError(f"the checkpoint could not be written to {self.checkpoint_dir}: {error}{REMEDY}") from error

    def _write(self, step: int, flats: Mapping[str, Flat], texts: Mapping[str, list[Buffer]], facts: Mapping[str, Any], begin: float,
               shared: shards.SharedSave | None) -> None:
        files: dict[str, Any] = {name: serialize(flat) for name, flat in flats.items()}
        try:
            if shared is not None and shared.rank:
                self._store.add(step, files, shared)
                return
            path = self._store.write(step, {**files, **texts}, facts, shared)
        except OSError as error:
            raise SaveError(f"the checkpoint of step {step} could not be written to {self.checkpoint_dir}: {error}{REMEDY}") from error
        if self._on_saved:
            self._on_saved(path, step)
        self._event("save", step=step, checkpoint=path.name, bytes=sum(flat.nbytes() for flat in flats.values()),
                    seconds=round(time.perf_counter() - begin, 4))
        self._copy_to_mirror(path)
        self._prune()

    def _check_written(self, step: int) -> None:
        problems = self._store.problems(self.checkpoint_dir / layout.folder_name(step))
        if problems:
            raise SaveError("what was written is not what was meant: " + "; ".join(problems))

    def _copy_to_mirror(self, path: Path) -> None:
        """A mirror that fails is reported and does not stop the run: the checkpoint itself is safe."""
        if self._mirror is None:
            return
        try:
            self._mirror.put(path, self._store.files_of(path))
        except Exception as error:  # fsspec's file systems raise errors of their own libraries
            self._event("mirror_failed", checkpoint=path.name, reason=f"{type(error).__name__}: {error}")

    def _prune(self) -> None:
        given_up = layout.superseded(self._store.entries(), keep_best_k=self.keep_best_k, keep_last_n=self.keep_last_n,
                                     monitor=self.monitor, mode=self.mode)
        self._store.delete(given_up)
        for entry in given_up if self._mirror else []:
            try:
                self._mirror.drop(entry.step)  # type: ignore[union-attr]  # the loop is empty without a mirror
            except Exception as error:  # as in _copy_to_mirror
                self._event("mirror_failed", checkpoint=entry.path.name, reason=f"{type(error).__name__}: {error}")

    # -- reading

    def prepare(self) -> None:
        """Make the folder, and clear away what killed processes left. Needs the run's lock."""
        self._store.prepare()

    def load(self, path: str | os.PathLike[str] | None = None) -> Checkpoint:
        """Open the checkpoint at `path`, or the newest whole one. Raises CheckpointError, with the reason and the way out."""
        if path is not None:
            return self._store.open(Path(path))
        found = self.latest()
        if found is None:
            raise CheckpointError(f"there is no checkpoint in {self.checkpoint_dir}")
        return found

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint of folder and mirror; None in a folder that never had one.

        Broken ones are quarantined. Raises DataError when there were some and none is whole: starting from nothing instead would
        silently throw the training away.
        """
        found = self._store.newest_whole()
        found = self._newer_in_mirror(found) or found
        if found is None and self._store.has_quarantined():
            raise DataError(f"every checkpoint in {self.checkpoint_dir} is broken and has been set aside as {layout.BAD}*; "
                            "restore one from a backup, or move the folder away to start anew")
        return found

    def _newer_in_mirror(self, found: Checkpoint | None) -> Checkpoint | None:
        steps: list[int] = []
        try:
            steps = self._mirror.steps() if self._mirror else []
        except Exception as error:  # as in _copy_to_mirror: an unreachable mirror must not stop a run whose own checkpoints are there
            self._event("mirror_failed", reason=f"{type(error).__name__}: {error}")
        for step in sorted(steps, reverse=True):
            if found is not None and step <= found.metadata.step:
                return None
            if fetched := self._fetch(step):
                return fetched
        return None

    def _fetch(self, step: int) -> Checkpoint | None:
        assert self._mirror is not None
        temporary = self.checkpoint_dir / f"{layout.TEMPORARY}{step:08d}.{uuid.uuid4().hex[:8]}"
        target = self.checkpoint_dir / layout.folder_name(step)
        try:
            self._mirror.fetch(step, temporary)
            os.rename(temporary, target)
        except Exception as error:  # as in _copy_to_mirror
            self._event("mirror_failed", checkpoint=target.name, reason=f"{type(error).__name__}: {error}")
            return None
        problems = self._store.problems(target)
        if problems:
            self._store.quarantine(target, "fetched from the mirror: " + "; ".join(problems))
            return None
        self._event("fetched", checkpoint=target.name)
        return self._store.open_verified(target)

    def open_verified(self, path: Path) -> Checkpoint:
        """Open a checkpoint that rank 0 has verified."""
        return self._store.open_verified(path)

    def verify(self, path: str | os.PathLike[str]) -> list[str]:
        """Everything that is wrong with one checkpoint; empty when it is whole."""
        return self._store.problems(Path(path))

    def list_checkpoints(self) -> list[layout.CheckpointMetadata]:
        """What is there, oldest first, read from the manifests (so a new process sees the same as the old one)."""
        return self._store.entries()

    def get_best(self) -> Path | None:
        """The folder of the best checkpoint by `monitor`; None where none has a finite value of it."""
        best = layout.ranking(self._store.entries(), self.monitor, self.mode)
        return best[0].path if best else None

    def restore(self, checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer | None = None,
                scheduler: Any = None) -> dict[str, Any]:
        """Put a checkpoint made by `save` back; returns its custom state. Raises CheckpointError where it does not fit the model."""
        load_model(model, checkpoint)
        live = None
        if optimizer is not None and is_sharded_model(model):
            materialise(optimizer)
            live = flatten({"optimizer": optimizer.state_dict()}).tensors
        optim = checkpoint.optim(live)
        for target, name in ((optimizer, "optimizer"), (scheduler, "scheduler")):
            if target is not None:
                if optim[name] is None:
                    raise CheckpointError(f"{checkpoint.path} was saved without {name}")
                target.load_state_dict(optim[name])
        rng.restore(checkpoint.rank(0)["rng"])
        custom = optim["custom"]
        return dict(custom)


def is_sharded_model(model: nn.Module) -> bool:
    """Whether parameters of a model are spread over ranks."""
    return any(is_sharded(parameter) for parameter in unwrap(model).parameters())


def materialise(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer its state before its first update (by one with rate and gradients 0), so that shards can be read into it."""
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the weights strictly; all ranks together where the model is sharded. Raises CheckpointError with the names that do not fit."""
    inner = unwrap(model)
    if is_sharded_model(inner) and not checkpoint.sharded:
        raise CheckpointError(f"{checkpoint.path} is not sharded: load it before the model is spread over ranks")
    try:
        inner.load_state_dict(checkpoint.model(flatten(inner.state_dict()).tensors if is_sharded_model(inner) else None))
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.path} does not fit the model: {error}\ngive the model that it was made for, or start a new run "
                              "folder") from error


@cache
def git_commit() -> str | None:
    """The commit of the code that trains: TRAINING_GIT_COMMIT (for images, which hold no repository), else that of the working folder."""
    named = os.environ.get("TRAINING_GIT_COMMIT", "").strip().lower()
    if not named:
        try:
            named = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None
    return named if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", named) else None


def _environment() -> dict[str, Any]:
    """The facts of the process that decide whether a resume can be exact. An allow-list: no environment, no arguments."""
    return {"timestamp": round(time.time(), 3), "num_threads": torch.get_num_threads(), "git_commit": git_commit(),
            "versions": {"engine": __version__, "torch": str(torch.__version__), "numpy": np.__version__,
                         "python": platform.python_version()}, "machine": platform.machine()}
