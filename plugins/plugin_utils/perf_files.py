# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing perf.csv files: those of a campaign, and rows appended to somebody's own file. A file is replaced whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import stat
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign

Row = Dict[str, str]


def write_campaign(campaign: Campaign, entries: Sequence[Row], write: bool = True) -> bool:
    """Write perf.csv (all rows) and perf_entry.csv/.json (the rows that perf.csv did not hold yet); returns whether anything changed.

    When there is no new row, perf_entry.* keep the rows of the last play that brought some.
    """
    old = _old_rows(campaign.perf_path)
    fresh = [entry for entry in entries if _state(entry) not in old]
    changed = False
    if fresh or not os.path.exists(campaign.perf_entry_path):
        changed |= write_if_changed(campaign.perf_entry_path, _csv(fresh), write)
        changed |= write_if_changed(campaign.perf_entry_json_path, _json(fresh), write)
    # last: if we die in between, the next play finds these rows new again
    return write_if_changed(campaign.perf_path, _csv(entries), write) or changed


def write_if_changed(path: str, data: bytes, write: bool = True) -> bool:
    """Replace a file unless it holds just this."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(data) + 1) == data:
                return False
    except OSError:
        pass  # absent or not readable: write it, and let that fail by name
    if write:
        try:
            files.write_atomic(path, data)
        except OSError as error:
            raise InvalidInput("%s cannot be written: %s" % (path, error.strerror)) from error
    return True


def _csv(entries: Sequence[Row]) -> bytes:
    return rows.to_csv(rows.header(entries), entries).encode("utf-8")


def _json(entries: Sequence[Row]) -> bytes:
    return files.json_lines(list(entries))


def _state(entry: Mapping[str, str]) -> Tuple[str, ...]:
    """What tells whether a row is news."""
    return tuple(entry.get(name, "") for name in (*rows.KEY, "status", "failure_class", "started", "performance"))


def _old_rows(path: str) -> Any:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return {_state(entry) for entry in rows.from_csv(stream.read())}
    except (OSError, ValueError, csv.Error):
        return set()  # no such file yet, or one that is about to be replaced


class _Table(NamedTuple):
    columns: List[str]
    lines: List[List[str]]  # cells as they stand in the file
    mode: int


def append(path: str, entries: Sequence[Row], write: bool = True) -> bool:
    """Bring rows into a perf.csv of ours or of madengine; returns whether the file changed.

    Columns and cells that are there keep their places and their text; our further columns go behind them. Rows of an attempt that
    stands there already are replaced where they stand, so that a second time changes nothing. One writer at a time (flock on
    `.<name>.lock` beside it), and the file is replaced in one step. InvalidInput, and an untouched file, when it is no perf.csv.
    """
    path = os.path.realpath(os.path.expanduser(path))
    if not entries:
        return False
    try:
        if not write:
            return _append(path, entries, write)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with files.locked(os.path.join(os.path.dirname(path), ".%s.lock" % os.path.basename(path))):
            return _append(path, entries, write)
    except OSError as error:
        raise InvalidInput("mad_perf_output %s cannot be written: %s" % (path, error.strerror)) from error


def _append(path: str, entries: Sequence[Row], write: bool) -> bool:
    table = _read(path)
    columns = rows.header(entries, table.columns)
    width = len(columns)
    lines = _replaced(table, [[rows.neutral(entry.get(name, "")) for name in columns] for entry in entries], columns)
    text = rows.raw_csv([columns, *(line + [""] * (width - len(line)) for line in lines)])
    old = rows.raw_csv([table.columns, *table.lines]) if table.columns else ""
    if text == old:
        return False
    if write:
        files.write_atomic(path, text.encode("utf-8", "surrogateescape"), table.mode)
    return True


def _replaced(table: _Table, new: List[List[str]], columns: Sequence[str]) -> List[List[str]]:
    """The old lines, those of an attempt that comes again replaced at the place of the first of them, then the other new ones."""
    places = [columns.index(name) for name in rows.ATTEMPT_KEY]
    fresh: Dict[Tuple[str, ...], List[List[str]]] = {}
    for line in new:
        fresh.setdefault(tuple(line[place] for place in places), []).append(line)
    again = set(fresh)
    lines: List[List[str]] = []
    for line in table.lines:
        key = tuple(line[place] if place < len(line) else "" for place in places)
        if key in again:
            lines.extend(fresh.pop(key, []))
        else:
            lines.append(line)
    return lines + [line for found in fresh.values() for line in found]


def _read(path: str) -> _Table:
    """An existing file, cell by cell, undecodable bytes included; an absent or empty one has no columns."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidInput("mad_perf_output %s is not a regular file" % path)
            text = stream.read()
    except FileNotFoundError:
        return _Table([], [], 0o644)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error as error:
        raise InvalidInput("mad_perf_output %s is not a CSV file: %s; it was not touched" % (path, error)) from error
    if not lines:
        return _Table([], [], stat.S_IMODE(mode))
    columns = [name.strip() for name in lines[0]]
    if "model" not in columns or "performance" not in columns or len(set(columns)) != len(columns):
        shown = ", ".join(columns[:8])
        raise InvalidInput("mad_perf_output %s is not a perf.csv (its columns: %s); it was not touched" % (path, shown[:200]))
    for number, line in enumerate(lines[1:], 2):
        if len(line) > len(columns):
            raise InvalidInput("mad_perf_output %s: row %d has more cells than columns; mend it; it was not touched" % (path, number))
    return _Table(columns, lines[1:], stat.S_IMODE(mode))
