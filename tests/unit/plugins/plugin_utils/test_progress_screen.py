# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The area of the terminal, seen by a small terminal of our own: ordinary output stays whole above it."""

from __future__ import annotations

import io
import os
import re
import sys

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils import progress_screen
from ansible_collections.mad.engine.plugins.plugin_utils.progress_screen import Screen, render, usable


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and keeps what a person would see."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        """The screen after all escape sequences that the area uses: colours, erase below, cursor up."""
        lines: list[str] = [""]
        row = column = 0
        for sequence, letter in re.findall(r"(\x1b\[[0-9;]*[A-Za-z])|([^\x1b])", self.getvalue(), re.DOTALL):
            if sequence.endswith("J"):
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            elif sequence.endswith("A"):
                row -= int(sequence[2:-1] or 1)
            elif sequence.endswith("m"):
                continue
            elif letter == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif letter == "\r":
                column = 0
            else:
                assert letter, "an escape sequence that this terminal does not know: %r" % sequence
                lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the test itself: pytest sets its own stdout between a fixture and its test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_screen, "_PAUSE", 0.0)
    return stream


ROWS = [("n1", "resnet", "1m05s"), ("n2", "bert", "4s")]


def test_ordinary_output_goes_on_above(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    screen = Screen(stream, lambda: ("2 of 4 runs done", ROWS))
    screen.open()
    print("TASK [Poll]")
    screen.draw()
    for number in range(3):
        print("ok: [n%d]" % number)
    seen = stream.seen()
    assert seen[:4] == ["TASK [Poll]", "ok: [n0]", "ok: [n1]", "ok: [n2]"]
    assert seen[4] == "2 of 4 runs done" and re.match(r"n1 +resnet +1m05s", seen[5]) and len(seen) == 7
    screen.close()
    print("PLAY RECAP")
    assert stream.seen() == ["TASK [Poll]", "ok: [n0]", "ok: [n1]", "ok: [n2]", "PLAY RECAP", ""]
    assert sys.stdout is stream


def test_a_prompt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    screen = Screen(stream, lambda: ("title", ROWS))
    screen.open()
    screen.draw()
    sys.stdout.write("Password: ")
    screen.draw()
    assert stream.seen() == ["Password:"]
    sys.stderr.write("\n")
    assert stream.seen()[:2] == ["Password:", "title"]
    screen.close()


def test_a_fork_writes_straight_through(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    screen = Screen(stream, lambda: ("title", ROWS))
    screen.open()
    screen.draw()
    before = len(stream.getvalue())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    sys.stdout.write("child\n")
    assert stream.getvalue()[before:] == "child\n"
    monkeypatch.undo()


def test_narrow_terminals_and_many_rows() -> None:
    rows = [("host-with-a-long-name-%d" % number, "model" * 20, "1h02m") for number in range(30)]
    for width in (20, 40, 200):
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in render("title " * 30, rows, width)]
        assert len(lines) == 10 and all(len(line) < width for line in lines)
        assert lines[-1].startswith("... and 22 more"[: width - 2].rstrip("."))


def test_markup_in_names_is_text() -> None:
    lines = render("[bold]t[/bold]", [("[red]n1", "a[/red]", ":smile:")], 80)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    assert "[bold]t[/bold]" in text and "[red]n1" in text and "a[/red]" in text and ":smile:" in text


def test_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable(Terminal(), {"TERM": "xterm"})
    assert not usable(Terminal(), {"TERM": "dumb"}) and not usable(Terminal(), {}) and not usable(io.StringIO(), {"TERM": "xterm"})
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert not usable(Terminal(), {"TERM": "xterm"})
