# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading anybody's perf.csv for a comparison: ours, madengine's, one that went through a spreadsheet, one that is still being written.

A row that cannot be understood is left out and named; it never becomes a number that nobody measured.
"""

from __future__ import annotations

import csv
import os
import re
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import is_nothing, number
from ansible_collections.mad.engine.plugins.module_utils.results.rows import restore

NEEDED = ("model", "performance")
_WITH_UNIT = re.compile(r"\s*([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z%µ][a-zA-Z%µ/_]*)\s*\Z")
_SECONDS = frozenset(("s", "sec", "secs", "second", "seconds"))
_SHOWN = 5  # rows that a warning names

Cells = dict[str, str]


def read(path: str) -> tuple[list[Cells], list[str]]:
    """(rows by column name, warnings). InvalidInput when it is no perf.csv at all."""
    try:
        size = os.path.getsize(path)
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
            found, faults = _read(path, stream)
        with open(path, "rb") as raw:
            raw.seek(max(0, size - 1))
            ended = raw.read(1) in (b"\n", b"\r", b"")
    except OSError as error:
        raise InvalidInput("%s cannot be read: %s" % (path, error.strerror)) from error
    except csv.Error as error:
        raise InvalidInput("%s is not a CSV file: %s" % (path, error)) from error
    kept = []
    for line, cells, columns in found:
        if cells is found[-1][1] and not ended and len(cells) < len(columns):
            faults.append((line, "is cut off in its middle"))
            continue
        row = _row(line, dict(zip(columns, map(restore, cells), strict=False)), faults)
        if row:
            kept.append(row)
    return kept, _warnings(path, faults)


def _read(path: str, stream: t.Iterable[str]) -> tuple[list[tuple[int, list[str], list[str]]], list[tuple[int, str]]]:
    """The lines that have the shape of a row, and what is wrong with the others."""
    reader = csv.reader(line.replace("\0", "\ufffd") for line in stream)
    columns = _columns(path, next(reader, []))
    places = [columns.index(name) for name in NEEDED]
    found: list[tuple[int, list[str], list[str]]] = []
    faults: list[tuple[int, str]] = []
    for cells in reader:
        while len(cells) > len(columns) and not cells[-1].strip():
            cells.pop()
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            faults.append((reader.line_num, "has %d cells for %d columns" % (len(cells), len(columns))))
        elif len(cells) <= max(places):
            faults.append((reader.line_num, "ends before its performance"))
        else:
            found.append((reader.line_num, cells, columns))
    return found, faults


def _columns(path: str, header: t.Sequence[str]) -> list[str]:
    """Names as we write them, whatever their case and blanks; a name that comes twice counts where it stands first."""
    names: list[str] = []
    for cell in header:
        name = re.sub(r"[\s-]+", "_", restore(cell).strip().lower())
        names.append("%s.%d" % (name, len(names)) if name in names else name)
    missing = [name for name in NEEDED if name not in names]
    if missing:
        shown = ", ".join(repr(cell[:40]) for cell in header[:12]) or "none"
        raise InvalidInput(
            "%s is not a perf.csv: it lacks the column%s %s; its columns: %s" % (path, "s"[: len(missing) > 1], ", ".join(missing), shown)
        )
    return names


def _row(line: int, row: Cells, faults: list[tuple[int, str]]) -> Cells | None:
    """The row with a plain number, or with the text of a result that is none; None for one that is not understood."""
    text = row["performance"].strip()
    row["status"] = _status(row, text)
    if row["status"] != "SUCCESS" or number(text) is not None:
        return row
    if is_nothing(text):
        row["status"] = "FAILURE"
        return row
    measured = _WITH_UNIT.match(text)
    if not measured or number(measured.group(1)) is None:
        faults.append((line, "has a performance that is no number: %.40r" % text))
        return None
    row["performance"] = measured.group(1)
    row["metric"] = _metric(row.get("metric", "").strip(), measured.group(2))
    return row


def _status(row: Cells, text: str) -> str:
    """The status a row names; where there is no such column, a row with a performance succeeded."""
    named = row.get("status", "").strip().upper()
    return named or ("FAILURE" if is_nothing(text) else "SUCCESS")


def _metric(metric: str, unit: str) -> str:
    """Numbers with a unit are compared with numbers of that unit only: `3.5s` of `seconds` is one, `12ms` of `latency` is `latency [ms]`."""
    if not metric or metric.lower() == unit.lower():
        return metric or unit
    if unit.lower() in _SECONDS and metric.lower() in _SECONDS:
        return metric
    return "%s [%s]" % (metric, unit)


def _warnings(path: str, faults: list[tuple[int, str]]) -> list[str]:
    if not faults:
        return []
    told = "; ".join("line %d %s" % fault for fault in sorted(faults)[:_SHOWN])
    more = "; and %d more" % (len(faults) - _SHOWN) if len(faults) > _SHOWN else ""
    return ["%s: %d row%s left out: %s%s" % (path, len(faults), "s"[: len(faults) > 1], told, more)]
