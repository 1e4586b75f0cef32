# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a build context an engine sees: .dockerignore by Docker's rules, and never our own results folder."""

from __future__ import annotations

import os
import posixpath
import re
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..base.errors import InvalidInput

Keep = Callable[[str], bool]
_ESCAPED = frozenset(".+()|{}$")


class Rule(NamedTuple):
    """One line: what it matches, and whether it brings back (`!`) what an earlier one excluded."""

    pattern: re.Pattern[str]
    brings_back: bool


def _stars(text: str, position: int) -> Tuple[str, int]:
    """The expression for the stars that begin at a position: `*` stays in a folder, `**` goes through any number of them."""
    if text[position : position + 2] != "**":
        return "[^/]*", position + 1
    position += 2
    if text[position : position + 1] == "/":
        position += 1
    return (".*" if position >= len(text) else "(?:.*/)?"), position


def _expression(text: str) -> str:
    """Docker's pattern language as a regular expression: *, **, ?, [classes] and backslash."""
    parts: List[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "*":
            part, position = _stars(text, position)
            parts.append(part)
            continue
        if character == "?":
            parts.append("[^/]")
        elif character == "\\" and position + 1 < len(text):
            position += 1
            parts.append(re.escape(text[position]))
        else:
            parts.append("\\" + character if character in _ESCAPED or character == "\\" else character)
        position += 1
    return "".join(parts)


def _rule(line: str, where: str) -> Optional[Rule]:
    text = line.strip()
    if line.startswith("#") or not text:
        return None
    brings_back = text.startswith("!")
    text = text[1:].strip() if brings_back else text
    if not text:
        raise InvalidInput("%s: '!' stands alone; expected a pattern behind it" % where)
    text = posixpath.normpath(text).lstrip("/") or "/"
    try:
        return Rule(re.compile(_expression(text) + r"\Z", re.DOTALL), brings_back)
    except re.error as error:
        raise InvalidInput("%s: %r is not a pattern: %s" % (where, line, error)) from error


def rules(text: str, name: str) -> List[Rule]:
    """The rules of an ignore file; `name` is what errors call it."""
    lines = text[1:] if text.startswith("\ufeff") else text
    found = [_rule(line, "%s:%d" % (name, number)) for number, line in enumerate(lines.split("\n"), 1)]
    return [rule for rule in found if rule]


def excluded(path: str, ignore: Sequence[Rule]) -> bool:
    """Whether an engine leaves out a file (relative, '/' separated): the last rule that matches it or a folder above it decides."""
    parts = path.split("/")
    names = [path] + ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    out = False
    for rule in ignore:
        if rule.brings_back == out and any(rule.pattern.match(name) for name in names):
            out = not rule.brings_back
    return out


def _is_campaign(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, "plan.json")) and os.path.isdir(os.path.join(folder, "runs"))


def _holds_campaigns(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir(follow_symlinks=False) and _is_campaign(entry.path) for entry in entries)


class _Results:
    """Recognises results folders inside a context: with them in its hash, every play would see a changed context."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.known: Dict[str, bool] = {"": False}  # the context itself is never left out

    def inside(self, path: str) -> bool:
        """Whether a file lies in a results folder."""
        folder = posixpath.dirname(path)
        if folder not in self.known:
            self.known[folder] = self.inside(folder) or _holds_campaigns(os.path.join(self.context, folder))
        return self.known[folder]


def context_filter(context: str, dockerfile: str) -> Keep:
    """For canonical.hash_tree: which files of a build context belong to it.

    As with Docker, `<Dockerfile>.dockerignore` beside the Dockerfile counts if it is there, else `.dockerignore` in the context. A folder
    with campaigns in it is left out.
    """
    own = dockerfile + ".dockerignore"
    name = own if os.path.isfile(own) else os.path.join(context, ".dockerignore")
    ignore: List[Rule] = []
    if os.path.isfile(name):
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as stream:
                ignore = rules(stream.read(), name)
        except OSError as error:
            raise InvalidInput("%s cannot be read: %s" % (name, error.strerror)) from error
    results = _Results(context)
    return lambda path: not excluded(path, ignore) and not results.inside(path)
