# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small area below the ordinary output of a terminal, redrawn in place. Ordinary output goes on above it, unchanged.

No thread and no timer: it is drawn when something is reported, so that a fork of Ansible never inherits a lock. The cursor rests at
the first column of the area's first line, where the next ordinary output goes; the stand-ins for stdout and stderr clear the area
before they write.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

_CLEAR_BELOW = "\x1b[J"
_MOST_ROWS = 8
_PAUSE = 0.25  # seconds between two drawings that nobody asked for

Row = tuple[str, str, str]  # host, model, how long


def usable(stream: Any, environ: Mapping[str, str]) -> bool:
    """Whether there is a terminal that understands cursor movements, and rich to draw with."""
    try:
        import rich.console  # noqa: F401, PLC0415  # optional

        return bool(stream.isatty()) and environ.get("TERM", "dumb") not in ("", "dumb")
    except (ImportError, AttributeError, ValueError, OSError):
        return False


def render(title: str, rows: Sequence[Row], width: int) -> list[str]:
    """The area's lines, none longer than the terminal is wide: a title and a table of what runs, the longest first."""
    from rich.console import Console  # noqa: PLC0415  # optional
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2), expand=False)
    for column in ({"style": "cyan"}, {"overflow": "ellipsis"}, {"justify": "right"}):
        table.add_column(no_wrap=True, **column)  # type: ignore[arg-type]
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(Text(cell) for cell in row))
    target = io.StringIO()
    console = Console(file=target, force_terminal=True, width=max(10, width - 1), highlight=False)
    console.print(Text(title, style="bold"), no_wrap=True, overflow="ellipsis", crop=True)
    if rows:
        console.print(table)
    if len(rows) > _MOST_ROWS:
        console.print(Text("... and %d more" % (len(rows) - _MOST_ROWS), style="dim"), no_wrap=True, overflow="ellipsis")
    return target.getvalue().splitlines()


class Screen:
    """Draws the area on `stream`; `content` gives (title, rows)."""

    def __init__(self, stream: TextIO, content: Callable[[], tuple[str, Sequence[Row]]]) -> None:
        self._stream = stream
        self._content = content
        self._owner = os.getpid()
        self._height = 0
        self._drawn_at = 0.0
        self._at_line_start = True
        self._replaced: list[tuple[str, Any, Stand]] = []

    def open(self) -> None:
        """Stand between Ansible and its output streams."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            stand = Stand(stream, self)
            self._replaced.append((name, stream, stand))
            setattr(sys, name, stand)

    def close(self) -> None:
        """Clear the area and give the streams back, unless somebody else stands there by now."""
        self.clear()
        for name, stream, stand in self._replaced:
            if getattr(sys, name) is stand:
                setattr(sys, name, stream)
        self._replaced = []

    def draw(self, at_once: bool = True) -> None:
        """Draw the area anew; without `at_once` not more often than four times a second."""
        now = time.monotonic()
        if os.getpid() != self._owner or not self._at_line_start or not self._replaced or (not at_once and now - self._drawn_at < _PAUSE):
            return
        size = shutil.get_terminal_size()
        lines = render(*self._content(), width=size.columns)[: max(1, size.lines - 2)]
        self._drawn_at, self._height = now, len(lines)
        self._write(_CLEAR_BELOW + "\n".join(lines) + "\r" + ("\x1b[%dA" % (len(lines) - 1) if len(lines) > 1 else ""))

    def clear(self) -> None:
        if self._height and os.getpid() == self._owner:
            self._height = 0
            self._write(_CLEAR_BELOW)

    def abandon(self) -> None:
        """Clear the area for good from inside a signal handler: past the stream's buffer, which may be in use just now."""
        height, self._height, self._replaced = self._height, 0, []
        if height:
            with contextlib.suppress(OSError, ValueError):
                os.write(self._stream.fileno(), _CLEAR_BELOW.encode())

    def wrote(self, text: str) -> None:
        """After ordinary output: the area comes back below a whole line, and stays away from a prompt."""
        self._at_line_start = text.endswith("\n")
        self.draw(at_once=False)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Stand:
    """In the place of stdout or stderr: clears the area, writes, and lets it be drawn again. Everything else is the stream's own."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen

    def write(self, text: str) -> int:
        if not text:
            return 0
        self._screen.clear()
        written = self._stream.write(text)
        if self._stream.isatty():
            self._screen.wrote(text)
        return written

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
