# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registry[T]: names for things that can be chosen in a configuration, with a hint for every typo."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from importlib import metadata
from typing import Generic, TypeVar

from .errors import UsageError

T = TypeVar("T")
D = TypeVar("D")


class Registry(Generic[T]):
    """A table of named entries.

    A second registration of a name is refused unless `replace=True`. Entry points of the group `training_engine.<kind>`
    (in third-party packages) are loaded at the first name that is not found, so a lookup of a known name costs one dict access.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._lock = threading.Lock()
        self._searched = False

    def register(self, name: str, *, replace: bool = False) -> Callable[[D], D]:
        """Decorator: `@losses.register("language_modeling")`. The decorated object is returned as it is."""

        def add(entry: D) -> D:
            self.add(name, entry, replace=replace)  # type: ignore[arg-type]  # D is T or a subclass; a decorator must keep the exact type
            return entry

        return add

    def add(self, name: str, entry: T, *, replace: bool = False) -> None:
        """Put `entry` under `name`. Raises UsageError for a duplicate or an empty name."""
        if not name or name != name.strip():
            raise UsageError(f"a {self.kind} needs a name without blanks around it, not {name!r}")
        with self._lock:
            if name in self._entries and not replace:
                raise UsageError(f"the {self.kind} {name!r} is registered already; pass replace=True to replace it")
            self._entries[name] = entry

    def get(self, name: str) -> T:
        """The entry called `name`. Raises UsageError with the closest names."""
        try:
            return self._entries[name]
        except KeyError:
            self._load_entry_points()
        if name in self._entries:
            return self._entries[name]
        raise UsageError(f"there is no {self.kind} {name!r}{self._hint(name)}; available: {', '.join(self.list_available()) or 'none'}")

    def list_available(self) -> list[str]:
        """All names, sorted."""
        self._load_entry_points()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.6)
        return f", did you mean {close[0]!r}?" if close else ""

    def _load_entry_points(self) -> None:
        if self._searched:
            return
        self._searched = True
        for point in metadata.entry_points(group=f"training_engine.{self.kind}"):
            if point.name not in self._entries:
                self.add(point.name, point.load())
