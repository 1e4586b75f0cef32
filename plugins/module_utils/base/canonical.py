# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One canonical text for any JSON value, and content hashes of values, files and trees."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

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

    `keep` gets the relative path and says whether the file counts; IGNORED_NAMES never do. Links are not followed. A folder
    that cannot be read is an OSError: it must not pass for an empty one.
    """

    def raise_it(error: OSError) -> None:
        if keep is None or keep(os.path.relpath(error.filename, root).replace(os.sep, "/")):
            raise error

    for folder, folders, names in os.walk(root, onerror=raise_it):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = sorted(name for name in folders if name not in IGNORED_NAMES and name not in linked)
        for name in sorted(names + linked):
            relative = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if name not in IGNORED_NAMES and (keep is None or keep(relative)):
                yield relative


def hash_tree(root: str, keep: Optional[Callable[[str], bool]] = None) -> str:
    """sha256 over (path, kind, bytes) of a file or of every file below a directory; times and owners do not count."""
    if not os.path.isdir(root):
        return hash_files({"": root})
    return hash_files({relative: os.path.join(root, relative) for relative in walk_files(root, keep)})


def hash_files(found: Mapping[str, str]) -> str:
    """The same of {name: path}."""
    return hash_value(sorted([name, *_entry(path)] for name, path in found.items()))


def files_of(root: str, top: str) -> Dict[str, str]:
    """{name: path} of what is taken when a file or directory (then as walk_files) of the tree `top` is taken out of it.

    A link that leads elsewhere in that tree would lead nowhere then: what it leads to stands in its place. Other links stay.
    """
    if not os.path.isdir(root):
        return {"": _inside(root, top) or root}
    return _followed(root, top, ())


def _followed(root: str, top: str, above: Tuple[str, ...]) -> Dict[str, str]:
    found: Dict[str, str] = {}
    here = (*above, os.path.realpath(root))
    for name in walk_files(root):
        path = os.path.join(root, name)
        target = _inside(path, top) if os.path.islink(path) and _leads_out(name, os.readlink(path)) else ""
        if not target or any((folder + os.sep).startswith(target + os.sep) for folder in here):  # a directory that it lies in has no end
            found[name] = path
        elif os.path.isdir(target):
            found.update({"%s/%s" % (name, inner): source for inner, source in _followed(target, top, here).items()})
        else:
            found[name] = target
    return found


def _leads_out(name: str, link: str) -> bool:
    relative = os.path.normpath(os.path.join(os.path.dirname(name), link))
    return os.path.isabs(relative) or relative == ".." or relative.startswith("../")


def _inside(path: str, top: str) -> str:
    """Where a link leads if something is there, inside the tree `top`; else ""."""
    target, base = os.path.realpath(path), os.path.realpath(top)
    return target if os.path.exists(target) and os.path.commonpath([target, base]) == base else ""
