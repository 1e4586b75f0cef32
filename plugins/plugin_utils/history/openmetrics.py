# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest result of each model, metric and host as OpenMetrics text, for a monitoring system to read.

Labels say what is measured where, and nothing that changes with each campaign, so that a series goes on. No line has a time stamp (the
text file collector of node_exporter takes none): the time of the result is a metric of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

LABELS = ("model", "args", "metric", "host", "hardware", "repeat")
_RUN_LABELS = tuple(name for name in LABELS if name != "metric")


class Family(NamedTuple):
    """One metric: its name, unit, help, labels, and its number in a row (None: no line)."""

    name: str
    unit: str
    text: str
    labels: tuple[str, ...]
    value: Callable[[Mapping[str, Any]], float | None]


FAMILIES = (
    Family("mad_performance", "", "What the model printed, of the newest run that succeeded.", LABELS, lambda row: row["value"]),
    Family("mad_success", "", "1 when the newest run succeeded, else 0.", _RUN_LABELS, lambda row: float(row["status"] == "SUCCESS")),
    Family("mad_run_duration_seconds", "seconds", "From start to end of the newest run.", _RUN_LABELS, lambda row: row["run_duration"]),
    Family("mad_finished_timestamp_seconds", "seconds", "When the newest run ended.", _RUN_LABELS, lambda row: row["finished"]),
)


def write(stream: BinaryIO, found: Iterable[Mapping[str, Any]]) -> None:
    """Write these rows, which come oldest first."""
    lines: list[dict[tuple[str, ...], float]] = [{} for _family in FAMILIES]
    for row in found:
        if row["status"] == "SKIPPED":
            continue
        for family, known in zip(FAMILIES, lines, strict=True):
            value = None if family.name == "mad_performance" and row["status"] != "SUCCESS" else family.value(row)
            if value is not None:
                known[tuple(str(row[name]) for name in family.labels)] = value
    for family, known in zip(FAMILIES, lines, strict=True):
        stream.write(_head(family).encode("utf-8"))
        for texts, value in sorted(known.items()):
            labels = ",".join('%s="%s"' % item for item in zip(family.labels, map(_escaped, texts), strict=True))
            stream.write(("%s{%s} %r\n" % (family.name, labels, value)).encode("utf-8", "replace"))
    stream.write(b"# EOF\n")


def _head(family: Family) -> str:
    unit = "# UNIT %s %s\n" % (family.name, family.unit) if family.unit else ""
    return "# TYPE %s gauge\n%s# HELP %s %s\n" % (family.name, unit, family.name, family.text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
