# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of get_models_json.py files, kept by content: as long as nothing they depend on has changed, nothing is run.

The name of an entry hashes what was asked, the Python and every file of the directory. The entry itself names what else
the code looked at (files elsewhere, environment variables; of these only hashes), which must still be the same. An
answer for which the code asked other programs or the network is never kept. Anything odd about an entry makes it no entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from typing import Any, Dict, List, Optional

from ..base.canonical import hash_file, hash_tree, hash_value
from ..base.files import write_atomic
from .list_models import PROTOCOL

_KEEP_DAYS = 30  # since the last use


def default_cache() -> str:
    """The user's cache folder for discovery, as the desktop specification has it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mad.engine", "discovery")


def fingerprint(path: str) -> str:
    """What a file holds or which names a directory lists, as a hash; "" for everything else, also if it isn't there."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return hash_value(sorted(os.fsencode(name).hex() for name in os.listdir(path)))
        return hash_file(path) if stat.S_ISREG(mode) else ""
    except OSError:
        return ""


def look(path: str) -> str:
    """What somebody learns who only looks at a file, without its times: a fresh checkout has others."""
    try:
        known = os.stat(path)
    except (OSError, ValueError):
        return ""
    return "%o %d" % (stat.S_IFMT(known.st_mode), known.st_size if stat.S_ISREG(known.st_mode) else 0)


def variable_print(name: str) -> str:
    """A hash of an environment variable's value (values may be secrets), "" if it is unset."""
    value = os.environ.get(name)
    return "" if value is None else hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


class Cache:
    """The cache folder, seen from one repository. An empty folder name means that nothing is kept; `frozen`, that nothing in it changes."""

    def __init__(self, folder: str, repo: str, frozen: bool = False) -> None:
        self._folder = folder
        self._repo = repo
        self._frozen = frozen
        self.problem = ""  # why something could not be kept, for a warning

    def key(self, folder: str, question: Any) -> str:
        """The name of the entry for a question about the files of a folder; "" if it cannot be kept."""
        if not self._folder:
            return ""
        try:
            content = hash_tree(folder)
        except OSError:  # an unreadable file: only running the code can tell
            return ""
        return hash_value([PROTOCOL, sys.version, sys.prefix, os.path.basename(folder), content, question])

    def get(self, key: str) -> Optional[List[Dict[str, Any]]]:
        """The models of a kept answer that still holds, or None."""
        if not key:
            return None
        try:
            with open(self._path(key), encoding="utf-8") as stream:
                kept = json.load(stream)
            if not self._holds(kept):
                return None
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):  # absent, torn, or of another shape
            return None
        if not self._frozen:
            with contextlib.suppress(OSError):  # somebody else's cache may be read-only
                os.utime(self._path(key))
        models: List[Dict[str, Any]] = kept["models"]
        return models

    def put(self, key: str, models: List[Dict[str, Any]], inputs: Dict[str, Any]) -> None:
        """Keep an answer; a folder that cannot be written is a `problem`, not an error."""
        if not key or inputs["volatile"] or self._frozen:
            return
        document = {
            "protocol": PROTOCOL,
            "models": models,
            "paths": {self._shown(path): fingerprint(path) for path in inputs["paths"]},
            "looked": {self._shown(path): look(path) for path in inputs["looked"]},
            "variables": {name: variable_print(name) for name in inputs["variables"]},
        }
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            write_atomic(self._path(key), json.dumps(document).encode("ascii"), 0o600)  # keys stay in the card's own order
        except OSError as error:
            self.problem = "the answers of get_models_json.py files cannot be kept in %s: %s" % (self._folder, error.strerror)

    def prune(self) -> None:
        """Remove entries that nobody has used for a month."""
        if self._frozen:
            return
        oldest = time.time() - _KEEP_DAYS * 86400
        with contextlib.suppress(OSError):
            for item in os.scandir(self._folder):
                if item.name.endswith(".json") and len(item.name) == 69 and item.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(item.path)

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key + ".json")

    def _shown(self, path: str) -> str:
        """Paths inside the repository are kept relative to it: a fresh checkout elsewhere has the same answers."""
        return path[len(self._repo) + 1 :] if path.startswith(self._repo + "/") else path

    def _holds(self, kept: Dict[str, Any]) -> bool:
        return (
            kept["protocol"] == PROTOCOL
            and all(isinstance(model["card"], dict) for model in kept["models"])
            and all(fingerprint(os.path.join(self._repo, path)) == known for path, known in kept["paths"].items())
            and all(look(os.path.join(self._repo, path)) == known for path, known in kept["looked"].items())
            and all(variable_print(name) == known for name, known in kept["variables"].items())
        )
