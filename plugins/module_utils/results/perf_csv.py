# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one reader of `multiple_results`: a CSV that a model leaves behind, one result in each row.

Columns `model`, `performance` and `metric` are required, every other column is kept as an extra of its row. A performance that is no
number (`14-18|32|44|62`) is a result all the same: its text is kept and its value is null. An empty cell, a word for nothing (`nan`,
`None`, `N/A`, as pandas has it) and a number that is not finite are no result: that row failed, and with it the run.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from typing import Any, Dict, Iterator, List, Tuple

from ..base.errors import MadError
from .metrics import metric

REQUIRED = ("model", "performance", "metric")
MAX_BYTES = 16 << 20
MAX_ROWS = 10000


def _error(what: str, model: str, reason: str, failure_class: str = "parse") -> MadError:
    return MadError("the results %s of model %s %s" % (what, model, reason), failure_class)


def parse_results(path: str, model: str, name: str = "", inside: str = "") -> List[Dict[str, Any]]:
    """Metrics of a `multiple_results` file, one per row, in order.

    `name` is how the card calls the file (for messages), `inside` a folder the file must really lie in. MadError of class `no_metric`
    when there is no file or no row, of class `parse` when it cannot be understood; the message names the file and what was found.
    """
    what = name or path
    if not path or not os.path.lexists(path):
        raise _error(what, model, "were not written: no such file after the run", "no_metric")
    reader = csv.reader(io.StringIO(_read_text(path, what, model, inside), newline=""), skipinitialspace=True)
    try:
        header = _header(next(reader, []), what, model)
        metrics = [_metric(header, cells, index) for index, cells in _rows(reader, header, what, model)]
    except csv.Error as error:
        raise _error(what, model, "are not a CSV file: line %d: %s" % (reader.line_num, error)) from error
    if not metrics:
        raise _error(what, model, "hold a header and no row", "no_metric")
    return metrics


def _read_text(path: str, what: str, model: str, inside: str) -> str:
    if inside and os.path.commonpath((os.path.realpath(path), os.path.realpath(inside))) != os.path.realpath(inside):
        raise _error(what, model, "are a link that leads out of the run's folder")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not make us wait
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _error(what, model, "are not a regular file")
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _error(what, model, "cannot be read: %s" % error.strerror) from error
    if len(data) > MAX_BYTES:
        raise _error(what, model, "are larger than %d MB" % (MAX_BYTES >> 20))
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, "replace").replace("\0", "\ufffd")


def _header(cells: List[str], what: str, model: str) -> List[str]:
    """Column names, stripped; a repeated extra column gets a number, a repeated required one cannot be understood."""
    names: List[str] = []
    for cell in cells:
        name = cell.strip()
        if name in REQUIRED and name in names:
            raise _error(what, model, "have two columns %r" % name)
        copies = sum(1 for known in names if known == name or known.rpartition(".")[0] == name)
        names.append("%s.%d" % (name, copies) if name in names else name)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        found = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
        raise _error(what, model, "lack the columns %s; columns found: %s" % (", ".join(missing), found))
    return names


def _rows(reader: Any, header: List[str], what: str, model: str) -> Iterator[Tuple[int, List[str]]]:
    index = 0
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()
        if len(cells) > len(header):
            raise _error(what, model, "have %d cells in line %d and %d columns" % (len(cells), reader.line_num, len(header)))
        index += 1
        if index > MAX_ROWS:
            raise _error(what, model, "have more than %d rows" % MAX_ROWS)
        yield index, cells + [""] * (len(header) - len(cells))


def _metric(header: List[str], cells: List[str], index: int) -> Dict[str, Any]:
    values = {name: cell.strip() for name, cell in zip(header, cells)}
    extra = {name: value for name, value in values.items() if name and name not in REQUIRED}
    return metric(values["metric"], values["performance"], values["model"] or str(index), extra)
