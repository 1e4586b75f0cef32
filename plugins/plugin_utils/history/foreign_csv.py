# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a perf.csv of anybody, line by line: changed headers, further columns, lines that broke off. What is not understood is named.

A file grows under madengine's hands: its header changes when configurations differ, `2` becomes `2.0`, a run that is writing leaves half a
line. Nothing of that makes a row of somebody else wrong, and nothing of it is passed over in silence.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.rows import COLUMNS, restore

REQUIRED = ("model", "performance")
_PERFORMANCE = frozenset(("performance", "Performance", "PERFORMANCE", "perf"))  # a line without one of these is no second header
_NOTHING = frozenset(("", "nan", "NaN"))
_SHOWN = 20  # problems of one file that are named one by one
_ALIASES = {
    **{"model_name": "model", "perf": "performance", "metric_name": "metric", "gpu_arch": "gpu_architecture"},
    **{"hostname": "machine_name", "host_name": "machine_name"},
}


class Line(NamedTuple):
    """A row of the file: where it stands, and its cells by column, the empty ones left out."""

    number: int
    cells: dict[str, str]


class NotPerf(InvalidInput):
    """A file that is no perf.csv at all."""


class Reader:
    """Iterate over the rows of a file; `problems` and `notes` are complete when that is done."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rejected = 0  # lines that are no row
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._columns: list[str] = []
        self._odd: dict[str, tuple[int, int, str]] = {}

    def __iter__(self) -> Iterator[Line]:
        try:
            with open(self.path, encoding=_encoding(self.path), errors="replace", newline="") as stream:
                yield from self._lines(csv.reader(stream))
        except OSError as error:
            raise InvalidInput("%s cannot be read: %s" % (self.path, error.strerror)) from error
        for what, (times, number, example) in self._odd.items():
            self.problems.append("%s: %d times, first in line %d: %r" % (what, times, number, example[:60]))

    def reject(self, number: int, why: str) -> None:
        """A line that is no row; before there is a header, the file is none."""
        if not self._columns:
            raise NotPerf("%s is not a perf.csv: line %d: %s" % (self.path, number, why))
        self.rejected += 1
        if self.rejected <= _SHOWN:
            self.problems.append("line %d: %s" % (number, why))
        elif self.rejected == _SHOWN + 1:
            self.problems.append("and further lines that are no rows")

    def odd(self, number: int, what: str, example: str) -> None:
        """Something about a row that was not understood, and the row is taken all the same; told once, with how often."""
        times, first, shown = self._odd.get(what, (0, number, example))
        self._odd[what] = (times + 1, first, shown)

    def _lines(self, reader: Iterator[list[str]]) -> Iterator[Line]:
        for number, cells, is_last in _with_last(reader, self):
            if not any(cells):
                continue
            if not self._columns or (not _PERFORMANCE.isdisjoint(map(str.strip, cells)) and _is_header(cells)):
                self._take_header(cells)
                continue
            row = self._row(number, cells, is_last)
            if row:
                yield Line(number, row)

    def _take_header(self, cells: list[str]) -> None:
        columns = _names(cells)
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            shown = ", ".join(repr(cell[:40]) for cell in cells[:8])
            raise NotPerf(
                "%s is not a perf.csv: its first line has no column %s (it begins %s)" % (self.path, " and no ".join(missing), shown)
            )
        for given, name in zip(cells, columns, strict=True):
            if given.strip() != name:
                self.note("column %r is read as %s" % (given.strip()[:60], name))
        further = [name for name in columns if name not in COLUMNS]
        if further:
            self.note("further columns, kept as they are: %s" % ", ".join(name[:60] for name in further[:_SHOWN]))
        self._columns = columns

    def note(self, text: str) -> None:
        """Something a person may want to know."""
        if text not in self.notes and len(self.notes) < _SHOWN:
            self.notes.append(text)

    def _row(self, number: int, cells: list[str], is_last: bool) -> dict[str, str] | None:
        width = len(self._columns)
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        if len(cells) != width:
            broken = is_last and len(cells) < width and not _ends_with_line(self.path)
            why = "half a last line (%d of %d cells); read the file again when it is whole" if broken else "%d cells for %d columns"
            self.reject(number, why % (len(cells), width))
            return None
        row = {
            name: restore(text) if text[0] == "'" else text
            for name, text in zip(self._columns, cells, strict=True)
            if text not in _NOTHING
        }
        if not row.get("model"):
            self.reject(number, "it names no model")
            return None
        return row


def _with_last(reader: Iterator[list[str]], report: Reader) -> Iterator[tuple[int, list[str], bool]]:
    """(line number, cells, whether it is the last line); what the CSV format does not allow is rejected."""
    waiting: tuple[int, list[str]] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            report.reject(reader.line_num, "not CSV: %s (a quote that is never closed?)" % error)  # type: ignore[attr-defined]
            continue
        if waiting:
            yield (*waiting, False)
        waiting = (reader.line_num, cells)  # type: ignore[attr-defined]
    if waiting:
        yield (*waiting, True)


def _canonical(name: str) -> str:
    plain = re.sub(r"[\s-]+", "_", restore(name).strip().lower())
    return _ALIASES.get(plain, plain)


def _is_header(cells: list[str]) -> bool:
    return {_canonical(cell) for cell in cells} >= set(REQUIRED)


def _names(cells: list[str]) -> list[str]:
    """Column names: known ones in their own form whatever their case, others as they stand; a name that comes again gets a number."""
    names: list[str] = []
    for place, cell in enumerate(cells, 1):
        known = _canonical(cell)
        name = known if known in COLUMNS else restore(cell).strip() or "column_%d" % place
        if name in names:
            name = next("%s.%d" % (name, number) for number in range(1, len(cells) + 1) if "%s.%d" % (name, number) not in names)
        names.append(name)
    return names


def _encoding(path: str) -> str:
    with open(path, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise NotPerf("%s is not a regular file" % path)
        return "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _ends_with_line(path: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 2))
        return b"\n" in stream.read()
