# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing rows of the history to files for other programs: CSV, JSON lines, Parquet, JUnit XML, OpenMetrics text. The ending says which.

A file is replaced whole or not at all, and left alone when it holds just this.
"""

from __future__ import annotations

import filecmp
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import rows as perf_rows

from . import junit, openmetrics
from .query import batches, each_row

Rows = Callable[[], Iterator[dict[str, Any]]]
# Numbers of a row that stand beside the cells of perf.csv.
NUMBERS = ("value", "started", "finished", "run_duration", "queue_duration")
_WHOLE = ("attempt", "result", "repeat")
_PARQUET_ROWS = 10000


def export(url: str, path: str, write: bool = True, **wanted: Any) -> tuple[int, bool]:
    """(rows written, whether the file changed). `wanted` are the filters of query.rows."""
    target = os.path.abspath(os.path.expanduser(path))
    writer = _writer(target)
    counted = [0]

    def asked() -> Iterator[dict[str, Any]]:
        counted[0] = 0
        for row in each_row(url, cells=True, **wanted):
            counted[0] += 1
            yield row

    try:
        changed = _replace(target, lambda stream: writer(stream, asked), write)
    except OSError as error:
        raise InvalidInput("mad_export %s cannot be written: %s" % (target, error.strerror or error)) from error
    return counted[0], changed


def _writer(path: str) -> Callable[[BinaryIO, Rows], None]:
    ending = os.path.splitext(path)[1].lower()
    if ending not in WRITERS:
        raise InvalidInput("mad_export %s: the ending says the format; expected one of %s" % (path, ", ".join(WRITERS)))
    return WRITERS[ending]


def _replace(path: str, write_to: Callable[[BinaryIO], None], write: bool) -> bool:
    folder = os.path.dirname(path)
    if write:
        os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".mad-export-", dir=folder if write else None)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write_to(stream)
            stream.flush()
            os.fsync(stream.fileno())
        if os.path.isfile(path) and filecmp.cmp(temporary, path, shallow=False):
            return False
        if write:
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        return True
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


# -- tables ----------------------------------------------------------------------------------------------------------------------


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The cells of perf.csv with the key of the row: what was imported has none of its own."""
    key = {name: str(row[name]) for name in perf_rows.KEY}
    return {**row["cells"], **key, "status": row["status"], "failure_class": row["failure_class"], "reason": row["reason"]}


def _csv(stream: BinaryIO, asked: Rows) -> None:
    further = sorted({name for row in asked() for name in row["cells"]} - set(perf_rows.COLUMNS))
    columns = [*perf_rows.COLUMNS, *further]
    stream.write(perf_rows.to_csv(columns, []).encode("utf-8"))
    for row in asked():
        cells = cells_of(row)
        line = perf_rows.raw_csv([[perf_rows.neutral(cells.get(name, "")) for name in columns]])
        stream.write(line.encode("utf-8", "replace"))


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for programs: the cells as text, numbers as numbers, absent ones null."""
    cells: dict[str, Any] = {name: text for name, text in cells_of(row).items() if name not in NUMBERS}
    return {**cells, **{name: row[name] for name in (*NUMBERS, *_WHOLE, "hardware", "source", "created")}}


def _json_lines(stream: BinaryIO, asked: Rows) -> None:
    for row in asked():
        stream.write((json.dumps(typed(row), sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def _parquet(stream: BinaryIO, asked: Rows) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInput(
            "a Parquet file needs the Python package pyarrow on the controller (%s): pip install 'mad-engine[parquet]' or pip install pyarrow"
            % error
        ) from error
    names = [*(name for name in perf_rows.COLUMNS if name not in (*NUMBERS, *_WHOLE)), "source"]
    kinds = {**dict.fromkeys(names, pyarrow.string()), **dict.fromkeys(_WHOLE, pyarrow.int64())}
    kinds.update(dict.fromkeys(("value", "run_duration", "queue_duration"), pyarrow.float64()))
    kinds.update(dict.fromkeys(("created", "started", "finished"), pyarrow.timestamp("ms", tz="UTC")))
    schema = pyarrow.schema(list(kinds.items()))
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for some in batches(asked(), _PARQUET_ROWS):
            writer.write_table(pyarrow.Table.from_pylist([_in_milliseconds(typed(row)) for row in some], schema=schema))


def _in_milliseconds(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: None if not row[name] else round(row[name] * 1000) for name in ("created", "started", "finished")}}


WRITERS: dict[str, Callable[[BinaryIO, Rows], None]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".xml": lambda stream, asked: junit.write(stream, asked()),
    ".prom": lambda stream, asked: openmetrics.write(stream, asked()),
}
