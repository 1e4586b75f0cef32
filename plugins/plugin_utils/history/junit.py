# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as JUnit XML: a test suite for each campaign, a test for each result, as build servers show them.

A test is named by its host (class name) and by model, args and metric, so that a server recognises it tomorrow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO
from xml.etree import ElementTree

# What XML 1.0 cannot hold.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(stream: BinaryIO, found: Iterable[Mapping[str, Any]]) -> None:
    """Write the document of these rows."""
    suites: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in found:
        suites.setdefault((row["campaign"], row["created"]), []).append(row)
    root = ElementTree.Element("testsuites", _totals("mad.engine", [row for rows in suites.values() for row in rows]))
    for (campaign, _created), rows in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", _totals(campaign, rows))
        begun = min((row["started"] for row in rows if row["started"]), default=None)
        if begun:
            suite.set("timestamp", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun)))
        for row in rows:
            suite.append(_case(row))
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)
    stream.write(b"\n")


def _totals(name: str, rows: list[Mapping[str, Any]]) -> dict[str, str]:
    seconds = sum(row["run_duration"] or 0.0 for row in rows)
    counted = {status: sum(row["status"] == status for row in rows) for status in ("FAILURE", "SKIPPED")}
    numbers = {"tests": len(rows), "failures": counted["FAILURE"], "errors": 0, "skipped": counted["SKIPPED"]}
    return {"name": _text(name), **{key: str(number) for key, number in numbers.items()}, "time": "%.3f" % seconds}


def _case(row: Mapping[str, Any]) -> ElementTree.Element:
    words = [row["model"], row["args"].strip(), row["metric"], "(repeat %d)" % row["repeat"] if row["repeat"] > 1 else ""]
    name = " ".join(word for word in words if word)
    case = ElementTree.Element("testcase", {"classname": _text(row["host"] or "unknown"), "name": _text(name)})
    case.set("time", "%.3f" % (row["run_duration"] or 0.0))
    if row["status"] == "FAILURE":
        ElementTree.SubElement(case, "failure", {"type": row["failure_class"] or "failure", "message": _text(row["reason"])})
    elif row["status"] == "SKIPPED":
        ElementTree.SubElement(case, "skipped", {"message": _text(row["reason"])})
    if row["performance"]:
        ElementTree.SubElement(case, "system-out").text = _text("%s %s" % (row["performance"], row["metric"]))
    return case


def _text(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
