# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of a plan that only the host or the build can say: how they are marked, found and counted."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

_MARK = "unresolved"
_NESTED = (dict, list, tuple)


def unresolved(why: str, **more: Any) -> Dict[str, Any]:
    """The mark: {"unresolved": why} and what is needed to fill it later."""
    return dict(more, **{_MARK: why})


def is_unresolved(value: Any) -> bool:
    """Whether a value is such a mark."""
    return isinstance(value, dict) and _MARK in value


def find(value: Any, path: str = "") -> Iterator[Tuple[str, str]]:
    """(path, why) of every mark in a structure, paths like gpus.count."""
    if is_unresolved(value):
        yield path, str(value[_MARK])
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, _NESTED):
                yield from find(item, "%s.%s" % (path, key) if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if isinstance(item, _NESTED):
                yield from find(item, "%s[%d]" % (path, index))
