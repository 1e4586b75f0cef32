# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of anybody's perf.csv for a comparison; history/foreign_csv.py reads the file.

A row that cannot be understood is left out and named; it never becomes a number that nobody measured.
"""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.results.metrics import is_nothing, number
from ansible_collections.mad.engine.plugins.plugin_utils.history.foreign_csv import Reader
from ansible_collections.mad.engine.plugins.plugin_utils.history.foreign_rows import with_unit

_SHOWN = 5  # rows that a warning names

Cells = dict[str, str]


def read(path: str) -> tuple[list[Cells], list[str]]:
    """(rows by column name, warnings). InvalidInput when it is no perf.csv at all."""
    reader = Reader(path)
    kept: list[Cells] = []
    faults: list[str] = []
    for line in reader:
        row = understood(line.cells)
        if row:
            kept.append(row)
        else:
            faults.append("line %d has a performance that is no number: %.40r" % (line.number, line.cells["performance"].strip()))
    return kept, _warnings(path, [*reader.problems, *faults], reader.rejected + len(faults))


def understood(cells: t.Mapping[str, str]) -> Cells | None:
    """The row with a plain number, or with the text of a result that is none; None for one that is not understood.

    Where there is no status, a row with a performance succeeded.
    """
    text = cells.get("performance", "").strip()
    named = cells.get("status", "").strip().upper()
    row = {**cells, "status": named or ("FAILURE" if is_nothing(text) else "SUCCESS")}
    if row["status"] != "SUCCESS" or number(text) is not None:
        return row
    if is_nothing(text):
        return {**row, "status": "FAILURE"}
    measured = with_unit(text, row.get("metric", ""))
    return {**row, "performance": measured[0], "metric": measured[1]} if measured else None


def _warnings(path: str, faults: list[str], count: int) -> list[str]:
    if not faults:
        return []
    more = "; and more" if len(faults) > _SHOWN else ""
    return ["%s: %d row%s left out: %s%s" % (path, count, "s"[: count > 1], "; ".join(faults[:_SHOWN]), more)]
