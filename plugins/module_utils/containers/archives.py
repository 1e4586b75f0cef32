# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that go between controller and host: made without following links, unpacked without leaving their folder."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from typing import IO, Callable, Dict, Iterator, List, Optional, Tuple

from ..base.errors import MadError


def check_member(name: str) -> str:
    """The name of a member in its shortest form; MadError when it is absolute or leaves the folder."""
    short = posixpath.normpath(name)
    if name.startswith("/") or short in ("", ".", "..") or short.startswith("../") or "\0" in name:
        raise MadError("the archive holds %r, which leaves its folder; nothing was unpacked from there on" % name[:200])
    return short


def add_file(archive: tarfile.TarFile, path: str, name: str) -> int:
    """Add a regular file as it is at this moment; returns its bytes, -1 when there is none. A link in its place is not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return -1
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = found.st_size, int(found.st_mtime), 0o644 | (found.st_mode & 0o111)
        archive.addfile(info, stream)
    return info.size


def add_bytes(archive: tarfile.TarFile, data: bytes, name: str, mode: int = 0o644) -> None:
    """Add a file out of memory."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def add_link(archive: tarfile.TarFile, target: str, name: str) -> None:
    """Add a symbolic link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    archive.addfile(info)


def unpack(
    stream: IO[bytes], folder: str, links: bool, wanted: Optional[Callable[[str], bool]] = None, limit: Optional[int] = None
) -> List[str]:
    """Unpack a tar.gz into a new or empty folder; returns the names of its files.

    Only files and folders, and symbolic links where `links` allows them; those are made last, so that no file is ever written through
    one. Anything else (hard links, devices, absolute names, `..`, a name twice) is a MadError, and so is more than `limit` bytes: a small
    archive may hold a huge file. Owners and times do not travel; of the mode only the executable bits do.
    """
    names: List[str] = []
    total = 0
    kept: Dict[str, str] = {}
    with _readable():
        for info, archive, short in _members(stream):
            if wanted is not None and not wanted(short):
                continue
            path = os.path.join(folder, short)
            total += max(info.size, 0)
            if limit is not None and total > limit:
                raise MadError("the archive holds more than the %d MiB that there is room for; %r is not unpacked" % (limit >> 20, short[:200]))
            if info.isdir():
                os.makedirs(path, exist_ok=True)
            elif info.isreg():
                _write_member(archive, info, path)
                names.append(short)
            elif info.issym() and links:
                kept[short] = info.linkname
            else:
                raise MadError("the archive holds %r, which is neither a file nor a folder" % short[:200])
    for short in sorted(kept):
        path = os.path.join(folder, short)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(kept[short], path)
    return names


def read_first(stream: IO[bytes], name: str) -> bytes:
    """The content of the archive's first member, which must be a file of this name."""
    with _readable():
        for info, archive, short in _members(stream):
            source = archive.extractfile(info) if short == name and info.isreg() else None
            if source is None:
                break
            return source.read()
    raise MadError("the archive does not begin with %s" % name)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """What tarfile and zlib say about damaged bytes, in a person's words. Errors of the disk stay what they are."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise MadError("the archive holds a name twice: %s" % os.path.basename(str(error.filename))[:200]) from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise MadError("the archive cannot be unpacked: %s" % error) from error


def _members(stream: IO[bytes]) -> Iterator[Tuple[tarfile.TarInfo, tarfile.TarFile, str]]:
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:
        for info in archive:
            yield info, archive, check_member(info.name)


def _write_member(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> None:
    source, flags = archive.extractfile(info), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:  # the first of its folder
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        if source is not None:
            shutil.copyfileobj(source, target, 1 << 20)
        os.fchmod(target.fileno(), 0o755 if info.mode & 0o111 else 0o644)
