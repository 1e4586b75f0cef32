# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second place for checkpoints: a mounted folder (a network drive, a synchronised folder) or any URL that fsspec knows.

A checkpoint is copied file by file with the manifest last, verified after the copy, and fetched back the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from pathlib import Path
from typing import Any, Protocol

from ..durable import fsync_folder, rename, write_file
from ..errors import UsageError
from . import layout


class Mirror(Protocol):
    """What the manager needs of a mirror."""

    def put(self, folder: Path, names: list[str]) -> None:
        """Copy a finished checkpoint there; `names` has the manifest last. Raises OSError when the copy differs."""

    def steps(self) -> list[int]:
        """The steps that have a manifest there."""

    def fetch(self, step: int, target: Path) -> None:
        """Copy one back into the new folder `target`. Raises OSError."""

    def drop(self, step: int) -> None:
        """Delete one there."""


def open_mirror(place: str) -> Mirror:
    """The mirror at a path or URL."""
    return UrlMirror(place) if "://" in place else FolderMirror(Path(place))


class FolderMirror:
    """A mirror on a mounted file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, folder: Path, names: list[str]) -> None:
        """See Mirror."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / folder.name
        temporary = self.folder / f"{layout.TEMPORARY}{folder.name}.{uuid.uuid4().hex[:8]}"
        copy_folder(folder, temporary, names)
        if target.exists():
            shutil.rmtree(target)
        rename(temporary, target)

    def steps(self) -> list[int]:
        """See Mirror."""
        if not self.folder.is_dir():
            return []
        found = (layout.step_of(path.name) for path in self.folder.iterdir() if (path / layout.MANIFEST).is_file())
        return sorted(step for step in found if step is not None)

    def fetch(self, step: int, target: Path) -> None:
        """See Mirror."""
        source = self.folder / layout.folder_name(step)
        copy_folder(source, target, [*sorted(path.name for path in source.iterdir() if path.name != layout.MANIFEST), layout.MANIFEST])

    def drop(self, step: int) -> None:
        """See Mirror."""
        shutil.rmtree(self.folder / layout.folder_name(step), ignore_errors=True)


def copy_folder(source: Path, target: Path, names: list[str]) -> None:
    """Copy files into a new folder, fsync them, and compare what arrived. Raises OSError when it differs."""
    target.mkdir(parents=True)
    try:
        for name in names:
            data = (source / name).read_bytes()
            write_file(target / name, [data])
            if (target / name).read_bytes() != data:
                raise OSError(f"the copy of {source / name} in {target} differs from it")
        fsync_folder(target)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(target)
        raise


class UrlMirror:
    """A mirror behind fsspec (s3://, gs://, memory:// and so on)."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(f"the mirror {url} needs fsspec: pip install 'training-engine[mirror]'") from error
        self._fs: Any
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # no driver for this kind of URL, or no such kind
            raise UsageError(f"the mirror {url} cannot be used: {error}") from error

    def _at(self, *parts: str) -> str:
        return "/".join([str(self._root).rstrip("/"), *parts])

    def put(self, folder: Path, names: list[str]) -> None:
        """See Mirror. Object stores have no rename: the manifest goes last, and without it a checkpoint does not exist."""
        for name in names:
            data = (folder / name).read_bytes()
            self._fs.makedirs(self._at(folder.name), exist_ok=True)
            self._fs.pipe_file(self._at(folder.name, name), data)
            if hashlib.sha256(self._fs.cat_file(self._at(folder.name, name))).digest() != hashlib.sha256(data).digest():
                raise OSError(f"the copy of {folder / name} at {self._at(folder.name)} differs from it")

    def steps(self) -> list[int]:
        """See Mirror."""
        if not self._fs.exists(self._root):
            return []
        names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False)]
        found = [step for name in names if (step := layout.step_of(name)) is not None]
        return sorted(step for step in found if self._fs.exists(self._at(layout.folder_name(step), layout.MANIFEST)))

    def fetch(self, step: int, target: Path) -> None:
        """See Mirror."""
        target.mkdir(parents=True)
        for path in sorted(self._fs.ls(self._at(layout.folder_name(step)), detail=False)):
            write_file(target / str(path).rsplit("/", 1)[-1], [self._fs.cat_file(path)])
        fsync_folder(target)

    def drop(self, step: int) -> None:
        """See Mirror."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._at(layout.folder_name(step)), recursive=True)
