# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One canonical text for any JSON value, and content hashes of values, files and trees."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, Callable, Iterator, Optional, Tuple

_CHUNK = 1 << 20
# Never part of a content hash: version control and what interpreters leave behind.
IGNORED_NAMES = frozenset((".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no blanks and plain ASCII: equal values give equal text. NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_value(value: Any) -> str:
    """sha256 (64 hex digits) over the canonical text of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def hash_file(path: str) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _entry(path: str) -> Tuple[str, str]:
    """(kind, content) of one directory entry; a link counts by where it points, not by what is there."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "link", os.readlink(path)
    if stat.S_ISREG(mode):
        return ("exec" if mode & stat.S_IXUSR else "file"), hash_file(path)
    return "other", ""


def walk_files(root: str, keep: Optional[Callable[[str], bool]] = None) -> Iterator[str]:
    """Relative paths ('/' separated, sorted) of everything that is not a directory below root.

    `keep` gets the relative path and says whether the file counts; IGNORED_NAMES never do. Links are not followed.
    """
    for folder, folders, names in os.walk(root):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(name for name in folders if name not in IGNORED_NAMES and name not in linked)
        for name in sorted(names + linked):
            relative = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if name not in IGNORED_NAMES and (keep is None or keep(relative)):
                yield relative


def hash_tree(root: str, keep: Optional[Callable[[str], bool]] = None) -> str:
    """sha256 over (path, kind, bytes) of a file or of every file below a directory; times and owners do not count."""
    if not os.path.isdir(root):
        return hash_value([["", *_entry(root)]])
    return hash_value(sorted([relative, *_entry(os.path.join(root, relative))] for relative in walk_files(root, keep)))
