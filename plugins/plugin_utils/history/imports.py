# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing perf.csv files into the history: madengine's, ours of another machine, or a whole folder of them. A second time changes nothing.

A row that names its campaign, run, attempt and result has its key. A row of madengine has none: it gets one from its content (numbers in
one form, empty cells left out, so that a rewritten file brings nothing twice); equal rows of one file are counted. What stands in the
history already stays as it is.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection
except ImportError:
    pass  # Database says what is missing

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import check_name, check_run_id
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number

from . import foreign_rows, schema
from .database import Database
from .foreign_csv import NotPerf, Reader
from .query import COLUMNS

_BATCH = 1000
_LONGEST_NAME = 40
_FORMS, _LONGEST_FORM = 16384, 256  # texts, and characters of one

Key = tuple[str, int, int]  # run id, attempt, result


class File(NamedTuple):
    """What became of one file."""

    path: str
    campaign: str  # "": its rows name their own
    rows: int
    new: int
    problems: list[str]
    notes: list[str]

    @property
    def known(self) -> int:
        """Rows that were in the history already."""
        return self.rows - self.new


class Report(NamedTuple):
    """What became of all of them."""

    files: list[File]
    skipped: list[str]  # why a file of a folder is no perf.csv

    @property
    def new(self) -> int:
        """Rows that were brought in."""
        return sum(file.new for file in self.files)

    def lines(self) -> list[str]:
        """For a person."""
        found = []
        for file in self.files:
            found.append("%s: %d rows, %d new, %d known%s" % (file.path, file.rows, file.new, file.known, _into(file)))
            found.extend("  not understood: " + text for text in file.problems)
            found.extend("  " + text for text in file.notes)
        return found + ["skipped: " + text for text in self.skipped]


def _into(file: File) -> str:
    return ", campaign %s" % file.campaign if file.campaign else ""


def import_files(url: str, paths: Sequence[str], campaign: str = "", write: bool = True) -> Report:
    """Bring files, or all perf.csv files below folders, into the history. `write` false only says what would come.

    A path that is named and is no perf.csv is an error; in a folder it is skipped and named. `campaign` is for rows that name none
    themselves; without it the name comes from the file's folder.
    """
    if campaign:
        check_name(campaign)
    report = Report([], [])
    with _Target(url) as database:
        for path, root, asked in _files(paths):
            try:
                report.files.append(_import(database, path, campaign or campaign_name(path, root), write))
            except NotPerf as error:
                if asked:
                    raise
                report.skipped.append(error.message)
    return report


class _Target(Database):
    """The history that files are brought into. A file comes wholly or not at all."""

    AGAIN = "import the file again then"
    KEPT = " Nothing of the file is in it, files before it stay."


def rows_of_file(path: str) -> list[dict[str, Any]]:
    """The rows of one perf.csv in the form of query.rows, without a history."""
    return [{name: entry[name] for name in COLUMNS} for entry in entries_of([path])]


def entries_of(paths: Sequence[str], campaign: str = "") -> Iterator[dict[str, Any]]:
    """The rows of files and folders as the history's table would hold them; a file of a folder that is none is passed over."""
    for path, root, asked in _files(paths):
        try:
            for entry, _own in _entries(Reader(path), campaign or campaign_name(path, root)):
                yield entry
        except NotPerf:
            if asked:
                raise


def _files(paths: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(file, folder that names begin below, whether somebody named just this file)."""
    for given in paths:
        path = os.path.abspath(os.path.expanduser(given))
        if not os.path.isdir(path):
            yield path, os.path.dirname(path), True
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                if name.lower().endswith(".csv"):
                    yield os.path.join(folder, name), path, False


def campaign_name(path: str, root: str) -> str:
    """A name for the rows of a file: the folder it lies in for a perf.csv, else its own name, as a campaign may be called."""
    stem = os.path.splitext(os.path.basename(path))[0]
    inside = os.path.relpath(os.path.dirname(path), root)
    parts = [part for part in inside.split(os.sep) if part not in (".", "..")] or [os.path.basename(os.path.abspath(root))]
    text = "-".join(parts if stem == "perf" else [*(parts if inside != "." else []), stem])
    name = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip("._-")
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 9].strip("._-") + "-" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    try:
        return check_name(name)
    except InvalidInput:
        return "import-" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


# -- one file --------------------------------------------------------------------------------------------------------------------


def _import(database: Database, path: str, campaign: str, write: bool) -> File:
    reader = Reader(path)
    if not write:
        with database.reading() as connection:
            counts = _bring(connection, reader, campaign, False)
    else:
        with database.writing() as connection:
            counts = _bring(connection, reader, campaign, True)
    return File(path, campaign if counts["foreign"] else "", counts["rows"], counts["new"], reader.problems, reader.notes)


def _bring(connection: Connection | None, reader: Reader, campaign: str, write: bool) -> collections.Counter[str]:
    counts: collections.Counter[str] = collections.Counter()
    known = _Known(connection)
    batch: list[dict[str, Any]] = []
    touched: set[tuple[str, float]] = set()
    for entry, own in _entries(reader, campaign):
        counts["rows"] += 1
        if not own:
            counts["foreign"] += 1
        if not known.take(entry):
            continue
        counts["new"] += 1
        touched.add((entry["campaign"], entry["created"]))
        batch.append(entry)
        if len(batch) == _BATCH:
            _insert(connection if write else None, batch)
    _insert(connection if write else None, batch)
    if write and connection is not None:
        schema.refresh(connection, touched, os.stat(reader.path).st_mtime)
    return counts


def _insert(connection: Connection | None, batch: list[dict[str, Any]]) -> None:
    if connection is not None and batch:
        schema.insert(connection, batch)
    batch.clear()


class _Known:
    """What the history holds of the campaigns of a file, each asked for once."""

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection
        self._keys: dict[str, dict[Key, tuple[float | None, ...]]] = {}

    def take(self, entry: dict[str, Any]) -> bool:
        """Whether this row is new; from then on it is known. The same key at another time is another campaign of that name."""
        campaign = entry["campaign"]
        if campaign not in self._keys:
            self._keys[campaign] = self._read(campaign)
        key, started = (entry["run_id"], entry["attempt"], entry["result"]), entry["started"]
        times = self._keys[campaign].get(key, ())
        if times and any(time is None or started is None or abs(time - started) < 1 for time in times):
            return False
        self._keys[campaign][key] = (*times, started)
        return True

    def _read(self, campaign: str) -> dict[Key, tuple[float | None, ...]]:
        found: dict[Key, tuple[float | None, ...]] = {}
        if self._connection is not None:
            table = schema.RESULTS
            query = sa.select(table.c.run_id, table.c.attempt, table.c.result, table.c.started).where(table.c.campaign == campaign)
            for run_id, attempt, result, started in self._connection.execute(query):
                key = (run_id, attempt, result)
                found[key] = (*found.get(key, ()), started)
        return found


def _entries(reader: Reader, campaign: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """(row of the table, whether it named its own key)."""
    equal: collections.Counter[str] = collections.Counter()
    created: dict[str, float] = {}
    for line in reader:
        entry = foreign_rows.entry(line.cells, functools.partial(reader.odd, line.number))
        own = _own_key(line.cells)
        if own:
            entry.update(own)
            begun = created.setdefault(own["campaign"], entry["started"] or schema.CREATED_UNKNOWN)
            entry["created"] = begun
        else:
            name = _content(line.cells)
            equal[name] += 1
            entry.update(campaign=campaign, created=schema.CREATED_UNKNOWN, run_id=name, attempt=1, result=equal[name])
        yield entry, bool(own)


def _own_key(cells: dict[str, str]) -> dict[str, Any] | None:
    """The key that the row names; None when it names none, or one that is none."""
    numbers = [number(cells.get(name, "")) for name in ("attempt", "result")]
    if None in numbers or any(not 1 <= value <= schema.LARGEST or value != int(value) for value in numbers if value is not None):
        return None
    try:
        key: dict[str, Any] = {"campaign": check_name(cells.get("campaign", "")), "run_id": check_run_id(cells.get("run_id", ""))}
    except MadError:
        return None
    key.update(zip(("attempt", "result"), (int(value or 0) for value in numbers), strict=True))
    return key


def _content(cells: dict[str, str]) -> str:
    """16 hex digits for what a row says, however its numbers are written and its columns are ordered."""
    names, form = _form(tuple(cells))
    text = form % tuple(map(_one_form.__getitem__, map(cells.__getitem__, names)))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@functools.lru_cache(maxsize=256)
def _form(names: tuple[str, ...]) -> tuple[list[str], str]:
    found = sorted(names)
    return found, "\x1e".join(name.replace("%", "%%") + "\x1f%s" for name in found)


class _OneForm(dict[str, str]):
    """Cells with their numbers in one form, found out once for each text; what is kept is bounded."""

    def __missing__(self, text: str) -> str:
        value = number(text)
        found = text if value is None else "%.12g" % value
        if len(text) <= _LONGEST_FORM:
            if len(self) >= _FORMS:
                self.clear()
            self[text] = found
        return found


_one_form = _OneForm()


def summary(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "files": [{**file._asdict(), "known": file.known} for file in report.files],
        "ignored": report.skipped,
        "rows": sum(file.rows for file in report.files),
        "new": report.new,
    }
