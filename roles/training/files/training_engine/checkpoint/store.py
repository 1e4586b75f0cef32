# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: one folder of checkpoints on one file system, each written as a whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import tree
from ..durable import Buffer, fsync_folder, read_json, rename, replace_text, write_file
from ..errors import CheckpointError
from . import layout, shards
from .integrity import problems

Event = Callable[..., None]
Files = Mapping[str, Iterable[Buffer]]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint. Its parts are read when they are asked for."""

    metadata: layout.CheckpointMetadata
    manifest: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The folder."""
        return self.metadata.path

    @property
    def sharded(self) -> bool:
        """Whether tensors of it are spread over files of several ranks."""
        return layout.SHARDS in self.manifest["files"]

    def model(self, into: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The model's state dict. Shards are read into the sharded tensors of `into` (by name, all ranks together), else put together."""
        return self._mapping(layout.MODEL, into)

    def optim(self, into: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """State of optimizer, scheduler and scaler; `into` as for `model`."""
        return self._mapping(layout.OPTIM, into)

    def rank(self, rank: int) -> dict[str, Any]:
        """What belongs to one rank: its random generators. Raises CheckpointError when the checkpoint has no such rank."""
        return self._mapping(layout.rank_file(rank))

    def state(self) -> dict[str, Any]:
        """Where the run stands, as plain data."""
        value = read_json(self.path / layout.STATE)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.path / layout.STATE} is not a JSON object")
        return value

    def _mapping(self, name: str, into: Mapping[str, Any] | None = None) -> dict[str, Any]:
        value = tree.load(self.path / name, self._shards(name, into) if self.sharded else None)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.path / name} does not hold a dict")
        return value

    def _shards(self, file: str, into: Mapping[str, Any] | None) -> dict[str, Any]:
        """The sharded tensors of a file, by their name in it."""
        index = {name: facts for name, facts in shards.read_index(self.path).items() if name.startswith(f"{file}:")}
        names = {name: name.removeprefix(f"{file}:") for name in index}
        if not index:
            return {}
        if into is None:
            targets = {name: shards.empty_like(facts) for name, facts in index.items()}
        else:
            mine = {name for name, tensor in into.items() if tree.is_sharded(tensor)}
            if odd := sorted(mine ^ set(names.values())):
                raise CheckpointError(f"{self.path} does not fit: {', '.join(odd[:5])} is sharded here or there, and not on the other side")
            targets = {name: into[short] for name, short in names.items()}
        shards.read_into(self.path, targets)
        return {names[name]: tensor for name, tensor in targets.items()}


class CheckpointStore:
    """Writes, verifies, quarantines and lists the checkpoints of one folder."""

    def __init__(self, folder: Path, on_event: Event) -> None:
        self.folder, self._event = folder, on_event

    def prepare(self) -> None:
        """Make the folder and clear away what killed processes left half-written. Only the holder of the run's lock may call it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._recover_retired()
        for entry in self.folder.iterdir():
            if entry.name.startswith((layout.TEMPORARY, layout.DELETED, f".{layout.LATEST}.")):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _recover_retired(self) -> None:
        """A save that replaces one of the same step takes the old one out of the way first; killed between the two, it is put back."""
        for entry in list(self.folder.glob(f"{layout.RETIRED}*")) if self.folder.is_dir() else []:
            target = self.folder / entry.name.removeprefix(layout.RETIRED).split(".")[0]
            shutil.rmtree(entry) if target.exists() else os.rename(entry, target)

    def write(self, step: int, files: Files, facts: Mapping[str, Any], shared: shards.SharedSave | None = None) -> Path:
        """Write the files and their manifest, fsync all, rename. Returns the folder. With `shared` the other ranks add theirs by `add`.

        Whatever happens on the way (a kill, a full disk), the older checkpoints stay as they are.
        """
        target = self.folder / layout.folder_name(step)
        temporary = self._temporary(step, shared)
        try:
            written = {name: write_file(temporary / name, parts) for name, parts in files.items()}
            if shared is not None:
                written.update(shared.collect(temporary))
            manifest = {**facts, "format": layout.FORMAT, "step": step,
                        "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in written.items()}}
            write_file(temporary / layout.MANIFEST, [layout.sealed(manifest)])
            fsync_folder(temporary)
            self._replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(temporary)
            raise
        replace_text(self.folder / layout.LATEST, target.name + "\n")
        return target

    def add(self, step: int, files: Files, shared: shards.SharedSave) -> None:
        """On the other ranks: write one's own files into the folder of rank 0, which finishes it."""
        temporary = self._temporary(step, shared)
        try:
            shared.done(temporary, {name: write_file(temporary / name, parts) for name, parts in files.items()})
        except OSError as error:
            with contextlib.suppress(OSError):
                shared.failed(temporary, error)
            raise

    def _temporary(self, step: int, shared: shards.SharedSave | None) -> Path:
        path = self.folder / f"{layout.TEMPORARY}{step:08d}.{shared.token if shared else uuid.uuid4().hex[:8]}"
        path.mkdir(parents=True, exist_ok=shared is not None)
        return path

    @staticmethod
    def _replace(temporary: Path, target: Path) -> None:
        retired = target.with_name(f"{layout.RETIRED}{target.name}.{uuid.uuid4().hex[:8]}")
        if target.exists():
            rename(target, retired)
        rename(temporary, target)
        shutil.rmtree(retired, ignore_errors=True)

    def entries(self) -> list[layout.CheckpointMetadata]:
        """Every checkpoint whose manifest can be read, oldest first. Says nothing about whether it is whole."""
        found = [self._entry(path) for path in self._folders()]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.step)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if layout.step_of(path.name) is not None and path.is_dir()]

    def _entry(self, path: Path) -> layout.CheckpointMetadata | None:
        raw = read_json(path / layout.MANIFEST)
        if not isinstance(raw, dict) or raw.get("step") != layout.step_of(path.name):
            return None
        metrics = raw.get("metrics")
        return layout.CheckpointMetadata(
            step=raw["step"], epoch=raw.get("epoch", 0), path=path, metrics=metrics if isinstance(metrics, dict) else {},
            timestamp=raw.get("timestamp", 0.0), git_commit=raw.get("git_commit"), world_size=raw.get("world_size", 1), info=raw)

    @staticmethod
    def problems(path: Path) -> list[str]:
        """Everything that is wrong with a checkpoint; an empty list means that it is whole."""
        return problems(path)

    def open(self, path: Path) -> Checkpoint:
        """Verify and open one checkpoint. Raises CheckpointError with what is wrong and what to do."""
        problems = self.problems(path)
        entry = self._entry(path)
        if problems or entry is None:
            raise CheckpointError("the checkpoint is not whole:\n  - " + "\n  - ".join(problems or [f"{path}: unreadable"]) +
                                  "\nuse an older one (`python -m training_engine verify RUN` lists them), or one of the mirror")
        return Checkpoint(entry, entry.info)

    def newest_whole(self) -> Checkpoint | None:
        """The newest checkpoint that is whole. Broken newer ones are quarantined on the way."""
        self._recover_retired()
        for path in sorted(self._folders(), key=lambda path: layout.step_of(path.name) or 0, reverse=True):
            problems = self.problems(path)
            if not problems:
                return self.open_verified(path)
            self.quarantine(path, "; ".join(problems))
        return None

    def open_verified(self, path: Path) -> Checkpoint:
        """Open a checkpoint that has been verified already (by this process or by rank 0)."""
        entry = self._entry(path)
        if entry is None:
            raise CheckpointError(f"{path} has no readable manifest")
        return Checkpoint(entry, entry.info)

    def quarantine(self, path: Path, reason: str) -> Path:
        """Set a broken checkpoint aside under a name that no resume looks at; nothing is deleted."""
        target = path.with_name(f"{layout.BAD}{path.name}.{uuid.uuid4().hex[:8]}")
        os.rename(path, target)
        self._event("quarantine", checkpoint=path.name, moved_to=target.name, reason=reason)
        return target

    def has_quarantined(self) -> bool:
        """Whether broken checkpoints have been set aside here."""
        return self.folder.is_dir() and any(path.name.startswith(layout.BAD) for path in self.folder.iterdir())

    def delete(self, entries: Iterable[layout.CheckpointMetadata]) -> None:
        """Delete checkpoints. Each disappears under its name at once, so that none is ever seen half-deleted."""
        for entry in entries:
            hidden = entry.path.with_name(f"{layout.DELETED}{entry.path.name}.{uuid.uuid4().hex[:8]}")
            os.rename(entry.path, hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def files_of(self, path: Path) -> list[str]:
        """The names of the files of a checkpoint, the manifest last."""
        manifest = read_json(path / layout.MANIFEST)
        return [*sorted(manifest["files"]), layout.MANIFEST]


def digest_of(parts: Iterable[Buffer]) -> str:
    """sha256 over parts, for tests and reports that compare states."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
