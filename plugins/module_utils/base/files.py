# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are never half written: atomic replacement, JSON in and out, and advisory locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .errors import InvalidInput, MadError

_ONE_LINE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False)


def sync(path: str) -> None:
    """Make a file's content, or a rename in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace a file in one step: temporary file beside it, fsync, rename, fsync of the folder."""
    with Batch() as batch:
        batch.write(path, data, mode)


def write_json(path: str, value: Any, mode: int = 0o644, indent: Optional[int] = 2) -> None:
    """Write a JSON document atomically (indented, sorted keys, UTF-8, newline at the end)."""
    write_atomic(path, json_bytes(value, indent), mode)


def json_bytes(value: Any, indent: Optional[int] = 2) -> bytes:
    """A JSON document as it is written; without `indent` it is one line, for programs, and costs a fifth."""
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "surrogateescape")


def json_lines(value: Any) -> bytes:
    """A JSON object or list with a line for each of its entries: people find what they look for, and it costs a fifth of one that is indented."""
    if isinstance(value, dict):
        lines = ["%s: %s" % (_ONE_LINE.encode(key), _entries(value[key])) for key in sorted(value)]
        return ("{\n%s\n}\n" % ",\n".join(lines)).encode("utf-8", "surrogateescape")
    return (_entries(value) + "\n").encode("utf-8", "surrogateescape")


def _entries(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n%s\n]" % ",\n".join(map(_ONE_LINE.encode, value))
    return _ONE_LINE.encode(value)


class Batch:
    """Files that are replaced together at the end of a `with`: each whole or not at all, in this order, all of them on disk before and
    after their renames. Many of them cost one sync of their file system and not two fsync each. When the block raises, none is replaced.
    """

    MANY = 16  # fewer are synced one by one: a file system's sync also waits for what others have written

    def __init__(self) -> None:
        self._files: List[Tuple[str, str]] = []  # (temporary, path)
        self._name = ".tmp-" + secrets.token_hex(8)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write the temporary file beside it."""
        temporary = os.path.join(os.path.dirname(os.path.abspath(path)), "%s-%d" % (self._name, len(self._files)))
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._files.append((temporary, path))
        try:
            with open(descriptor, "wb", buffering=0) as stream:
                rest = memoryview(data)
                while rest:
                    rest = rest[stream.write(rest) :]
                if mode != 0o600:
                    os.fchmod(descriptor, mode)
        except OSError as error:  # of a full disk: the system does not say which file it was
            error.filename = error.filename or path
            raise

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None and self._files:
                self._replace()
        finally:  # also on KeyboardInterrupt: no temporary file may stay
            for temporary, dummy in self._files:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def _replace(self) -> None:
        folders: Dict[str, None] = dict.fromkeys(os.path.dirname(temporary) for temporary, dummy in self._files)
        together = len(self._files) >= self.MANY
        _sync([temporary for temporary, dummy in self._files], together)
        while self._files:
            os.replace(*self._files[0])
            del self._files[0]
        _sync(list(folders), together)


def _sync(paths: List[str], together: bool) -> None:
    """Have these files or folders, of one file system, on disk; `together` by one call where the system has it."""
    if not (together and _sync_file_system(paths[0])):
        for path in paths:
            sync(path)


def _sync_file_system(path: str) -> bool:
    """syncfs(2) of the file system that holds a path; False where there is no such call, or it does not say that it worked."""
    try:
        import ctypes  # here, for most programs never write many files, and some Pythons lack it

        call = ctypes.CDLL(None).syncfs
    except (ImportError, OSError, AttributeError):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return bool(call(descriptor) == 0)
    finally:
        os.close(descriptor)


def version(path: str) -> Optional[Tuple[int, ...]]:
    """What changes whenever an atomically written file is replaced; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def is_regular(path: str) -> bool:
    """A file that is one itself, no link to one."""
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def is_folder(path: str) -> bool:
    """A folder that is one itself."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def look_again(folder: str) -> None:
    """Have what was made in this folder on another machine be seen: an NFS client remembers for up to a minute which names were not there,
    and asks its server again when the folder is opened.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def read_text(path: str, what: str) -> str:
    """Read a text file; `what` says in the error what the file is."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise InvalidInput("%s %s cannot be read: %s" % (what, path, error.strerror)) from error
    except ValueError as error:
        raise InvalidInput("%s %s is not UTF-8: %s" % (what, path, error)) from error


def read_json(path: str, what: str) -> Any:
    """Read a JSON document; `what` says in the error what the file is ('the build manifest')."""
    try:
        with open(path, "rb", buffering=0) as stream:  # half the system calls of a text file; campaigns read thousands
            return json.loads(stream.read().decode("utf-8-sig"))  # some editors write a mark in front
    except OSError as error:
        raise InvalidInput("%s %s cannot be read: %s" % (what, path, error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("%s %s is not valid JSON: %s" % (what, path, error)) from error


def lock(descriptor: int, path: str, blocking: bool) -> bool:
    """Take the exclusive flock of an open file; False when not blocking and taken. MadError where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
    except OSError as error:
        if not blocking and error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise MadError(
                "the file system of %s has no locks (flock: %s); use a work folder elsewhere, or have it mounted with them (Lustre: -o flock)"
                % (path, error.strerror)
            ) from error
        raise
    return True


@contextlib.contextmanager
def locked(path: str, blocking: bool = True) -> Iterator[bool]:
    """Hold an exclusive flock on `path` (made if absent). Yields False, without the lock, when not blocking and taken.

    One that somebody else made and that may only be read is as good: people share a folder of results.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lock(descriptor, path, blocking)
    finally:
        os.close(descriptor)
