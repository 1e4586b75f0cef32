# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What madengine's `report to-html` and `report to-email` make: tables of a perf.csv as HTML, and all CSV files of a folder as one mail."""

from __future__ import annotations

import csv
import html
import io
import os
from typing import List, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.rows import restore

_MOST_BYTES = 256 << 20
_STATUS = {"SUCCESS": "#17663f", "FAILURE": "#a82219", "SKIPPED": "#6a5200"}  # a mail has no style sheet
_CELL = "border:1px solid #dfe3e7;padding:3px 8px;text-align:left;vertical-align:top"
_FONT = "font:14px/1.4 -apple-system,'Segoe UI',Roboto,Arial,sans-serif;color:#16191d"


def read_csv(path: str) -> List[List[str]]:
    """Header and rows of a CSV file, cells as they were meant; rows are as wide as the header."""
    if not path.endswith(".csv"):
        raise InvalidInput("mad_report_source %s is not a .csv file" % path)
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise InvalidInput("mad_report_source %s is larger than %d MB" % (path, _MOST_BYTES >> 20))
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as stream:
            lines = [[restore(cell) for cell in line] for line in csv.reader(io.StringIO(stream.read(), newline="")) if line]
    except OSError as error:
        raise InvalidInput("mad_report_source %s cannot be read: %s" % (path, error.strerror)) from error
    except csv.Error as error:
        raise InvalidInput("mad_report_source %s is not a CSV file: %s" % (path, error)) from error
    if not lines:
        raise InvalidInput("mad_report_source %s is empty: it has not even a header" % path)
    width = len(lines[0])
    return [line[:width] + [""] * (width - len(line)) for line in lines]


def csv_page(path: str) -> str:
    """One page with one table of all columns."""
    stem = os.path.basename(path)[: -len(".csv")]
    return _page(stem, [(stem, read_csv(path))])


def mail(folder: str) -> Tuple[str, int]:
    """(a mail with every CSV file of a folder under its name, how many there were)."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".csv"))
    except OSError as error:
        raise InvalidInput("mad_report_source %s cannot be read: %s" % (folder, error.strerror)) from error
    found = [(name[: -len(".csv")], read_csv(os.path.join(folder, name))) for name in names]
    return _page("Results", found), len(found)


def _page(title: str, found: Sequence[Tuple[str, List[List[str]]]]) -> str:
    parts = ["<h2>%s</h2>\n%s" % (html.escape(name), _table(lines)) for name, lines in found]
    head = '<meta charset="utf-8"><title>%s</title>' % html.escape(title)
    return '<!DOCTYPE html>\n<html lang="en"><head>%s</head>\n<body style="%s">\n%s\n</body></html>\n' % (head, _FONT, "\n".join(parts))


def _table(lines: List[List[str]]) -> str:
    columns = lines[0]
    head = "".join('<th scope="col" style="%s;background:#f0f2f4">%s</th>' % (_CELL, html.escape(name)) for name in columns)
    status = columns.index("status") if "status" in columns else -1
    body = "\n".join("<tr>%s</tr>" % "".join(_cell(cell, place == status) for place, cell in enumerate(line)) for line in lines[1:])
    return '<table style="border-collapse:collapse;%s"><thead><tr>%s</tr></thead><tbody>\n%s\n</tbody></table>' % (_FONT, head, body)


def _cell(text: str, is_status: bool) -> str:
    colour = ";font-weight:600;color:" + _STATUS[text] if is_status and text in _STATUS else ""
    return '<td style="%s%s">%s</td>' % (_CELL, colour, html.escape(text))
