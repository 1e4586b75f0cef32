# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing that survives a crash: write, fsync, rename, fsync of the folder, and the hook by which tests kill it at each of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Buffer = bytes | memoryview
CHUNK = 4 << 20  # bytes handed to one write call at most
SMALL = 64 << 10  # parts below this are joined

# Called as fault_hook(operation, path) before each write, fsync and rename. Tests put a function here that kills the process
# at the n-th call; nothing else may set it.
fault_hook: Callable[[str, str], None] | None = None


def _hook(operation: str, path: Path) -> None:
    if fault_hook is not None:
        fault_hook(operation, str(path))


def write_file(path: Path, parts: Iterable[Buffer]) -> tuple[int, str]:
    """Write `parts` one after the other into a new file and fsync it. Returns (bytes, sha256), taken on the way."""
    digest = hashlib.sha256()
    total = 0
    with open(path, "wb", buffering=0) as stream:
        for piece in _pieces(parts):
            _hook("write", path)
            _write_all(stream.fileno(), piece)
            digest.update(piece)
            total += len(piece)
        _hook("fsync", path)
        os.fsync(stream.fileno())
    return total, digest.hexdigest()


def _pieces(parts: Iterable[Buffer]) -> Iterator[memoryview]:
    """The same bytes in pieces worth a system call: small parts are joined, large ones cut and not copied."""
    pending = bytearray()
    for part in parts:
        view = memoryview(part).cast("B") if len(part) else memoryview(b"")
        if len(view) < SMALL:
            pending += view
        if pending and (len(view) >= SMALL or len(pending) >= SMALL):
            yield memoryview(bytes(pending))
            pending.clear()
        if len(view) >= SMALL:
            yield from (view[start:start + CHUNK] for start in range(0, len(view), CHUNK))
    if pending:
        yield memoryview(bytes(pending))


def _write_all(descriptor: int, piece: memoryview) -> None:
    done = 0
    while done < len(piece):
        done += os.write(descriptor, piece[done:])


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    _hook("fsync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename inside one folder and make the new name durable."""
    _hook("rename", target)
    os.rename(source, target)
    fsync_folder(target.parent)


def replace_text(path: Path, text: str) -> None:
    """Replace a small file as a whole: readers see the old or the new text, never half of one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        write_file(temporary, [text.encode()])
        _hook("rename", path)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def replace_json(path: Path, value: Any) -> None:
    """`replace_text` with sorted, indented JSON."""
    replace_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file, or None where the file is absent, empty or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def sha256_file(path: Path) -> str:
    """sha256 of a file, read in large pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
