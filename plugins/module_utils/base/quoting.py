# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where a value becomes shell text."""

from __future__ import annotations

import re
import shlex
from typing import Any, Iterable, List, Mapping

from .errors import InvalidInput

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def is_env_name(name: str) -> bool:
    """Whether a text is a name that a shell and an engine take as an environment variable."""
    return bool(_NAME.match(name))


def quote(value: Any) -> str:
    """One shell word that stands for exactly this text in any POSIX shell. A NUL byte is refused: no process can carry it."""
    text = value if isinstance(value, str) else str(value)
    if "\0" in text:
        raise InvalidInput("a value with a NUL byte cannot be passed to a process: %r" % text[:80])
    return shlex.quote(text)


def quote_argv(argv: Iterable[Any]) -> str:
    """A command line of quoted words."""
    return " ".join(quote(word) for word in argv)


def quote_env(variables: Mapping[str, Any]) -> str:
    """Lines of `export NAME=value`, sorted by name, each value quoted; a bad name is refused, never mended."""
    lines = []
    for name in sorted(variables):
        if not is_env_name(name):
            raise InvalidInput("%r is not a name for an environment variable (letters, digits and _, no leading digit)" % name)
        lines.append("export %s=%s\n" % (name, quote(variables[name])))
    return "".join(lines)


def split_words(text: str, what: str) -> List[str]:
    """Split option text by POSIX shell rules without any expansion; `what` names it in the error."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput("%s cannot be split into words (%s): %r" % (what, error, text[:200])) from error
