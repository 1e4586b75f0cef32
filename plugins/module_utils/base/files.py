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
import tempfile
from typing import Any, Iterator, Optional, Tuple

from .errors import InvalidInput


def sync_folder(path: str) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace a file in one step: temporary file beside it, fsync, rename, fsync of the folder."""
    folder = os.path.dirname(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:  # also on KeyboardInterrupt: the temporary file must not stay
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def write_json(path: str, value: Any, mode: int = 0o644) -> None:
    """Write a JSON document atomically (indented, sorted keys, UTF-8, newline at the end)."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, text.encode("utf-8", "surrogateescape"), mode)


def version(path: str) -> Optional[Tuple[int, ...]]:
    """What changes whenever an atomically written file is replaced; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


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
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except OSError as error:
        raise InvalidInput("%s %s cannot be read: %s" % (what, path, error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput("%s %s is not valid JSON: %s" % (what, path, error)) from error


@contextlib.contextmanager
def locked(path: str, blocking: bool = True) -> Iterator[bool]:
    """Hold an exclusive flock on `path` (made if absent). Yields False, without the lock, when not blocking and taken."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except OSError as error:
            if blocking or error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
