# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model repository as the plan sees it: what exists, and content hashes, each computed once."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..base import files
from ..base.canonical import files_of, hash_files, hash_value
from ..base.errors import InvalidInput
from ..building import build_source, dockerfiles

DATA = "data.json"  # who brings which data
COMMON = "scripts/common"  # on every host, whatever the model
_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def _unfit(path: str) -> str:
    """Why something below a folder cannot go to hosts with it, "" for files and links."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return ""
    kind = next((word for test, word in _KINDS if test(mode)), "no file")
    shown = path.encode("utf-8", "backslashreplace").decode()
    return "%s is %s; the script's whole directory goes to the hosts, so only files and links may lie there" % (shown, kind)


class Repository:
    """Answers about one repository; remembers every hash, so that a plan of many hosts reads each file once."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._trees: Dict[str, str] = {}
        self._stage: Dict[str, str] = {}
        self._contexts: Dict[Tuple[str, str], str] = {}
        self._candidates: Dict[str, List[dockerfiles.Candidate]] = {}
        self._sources: Dict[str, Dict[str, Any]] = {}
        self._data: Optional[Tuple[Any, Optional[InvalidInput]]] = None

    def inside(self, path: str, what: str) -> str:
        """A path relative to the repository in its one form; what leads out of it is an error that names `what`."""
        relative = posixpath.normpath(path)
        if posixpath.isabs(relative) or relative == ".." or relative.startswith("../"):
            raise InvalidInput("%s: %r leads out of the repository %s" % (what, path[:200], self.path))
        return relative

    def exists(self, path: str) -> bool:
        """Whether there is anything at a relative path, a link that leads nowhere included."""
        return os.path.lexists(os.path.join(self.path, path))

    def is_file(self, path: str) -> bool:
        """Whether a relative path is a file."""
        return os.path.isfile(os.path.join(self.path, path))

    def is_dir(self, path: str) -> bool:
        """Whether a relative path is a directory."""
        return os.path.isdir(os.path.join(self.path, path))

    def check_stage(self, path: str, what: str) -> None:
        """InvalidInput, which begins with `what`, for a path that cannot go to hosts: it would keep every model of a host from being staged."""
        if path not in self._stage:
            self._stage[path] = self._unstageable(path)
        if self._stage[path]:
            raise InvalidInput("%s: %s" % (what, self._stage[path]))

    def _unstageable(self, path: str) -> str:
        full = os.path.join(self.path, path)
        if os.path.commonpath([os.path.realpath(full), self.path]) != self.path:
            return "%s is a link that leads out of the repository %s; nothing of the controller goes to hosts" % (path, self.path)
        try:
            self.tree(path)
            return next(filter(None, map(_unfit, files_of(full, self.path).values())), "") if os.path.isdir(full) else ""
        except InvalidInput as error:
            return error.message
        except OSError as error:  # it vanished between two looks
            return "%s cannot be read: %s" % (error.filename or full, error.strerror)

    def tree(self, path: str) -> str:
        """Content hash of a file or directory; "" for what is not there."""
        if path not in self._trees:
            full = os.path.join(self.path, path)
            try:
                self._trees[path] = hash_files(files_of(full, self.path)) if os.path.exists(full) else ""
            except OSError as error:
                raise InvalidInput("%s cannot be read: %s" % (error.filename or full, error.strerror)) from error
        return self._trees[path]

    def known_tree(self, path: str) -> str:
        """The hash of what can be read, else "": for the id of a run that `check_stage` has refused."""
        try:
            return self.tree(path)
        except InvalidInput:
            return ""

    def data(self) -> Any:
        """The content of data.json, nothing where there is none; a broken one is an error each time."""
        if self._data is None:
            try:
                self._data = (
                    files.read_json(os.path.join(self.path, DATA), "the data configuration") if self.is_file(DATA) else None,
                    None,
                )
            except InvalidInput as error:
                self._data = (None, error)
        found, problem = self._data
        if problem:
            raise problem
        return found

    def candidates(self, prefix: str) -> List[dockerfiles.Candidate]:
        """Dockerfiles of a prefix."""
        if prefix not in self._candidates:
            self._candidates[prefix] = dockerfiles.candidates(self.path, prefix)
        return self._candidates[prefix]

    def source(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        """build_source.describe() of a build request."""
        key = hash_value([request["dockerfile"], request["dockercontext"], request["build_args"]])
        if key not in self._sources:
            self._sources[key] = build_source.describe(request, self.path, self._contexts)
        return self._sources[key]
