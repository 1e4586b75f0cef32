# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of somebody's perf.csv says, as columns of the history: numbers in any writing, statuses in our words, times where it has any."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import better, is_nothing, number
from ansible_collections.mad.engine.plugins.module_utils.results.status import FAILURE, SKIPPED, SUCCESS

from . import schema
from .entries import IMPORT, of_row

_WITH_UNIT = re.compile(r"\s*([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z%µ][a-zA-Z%µ/_]*)\s*\Z")
_SECOND_WORDS = frozenset(("s", "sec", "secs", "second", "seconds"))
_NO_NUMBER = "%s is no number, kept as text without a value"
_SECONDS = re.compile(r"(.*[0-9.])\s*(?:s|sec|secs|seconds)\Z")
# Where a file may say when a row came to be; madengine's own columns hold no time.
_STARTED = ("started", "timestamp", "date", "datetime", "created_date")

_CLASSES = frozenset(("", *FAILURE_CLASSES))
# Cells of a column repeat from row to row: what each of them means is found out once.
_better = functools.lru_cache(maxsize=4096)(better)
Odd = Callable[[str, str], None]  # what, and the text that was found


def entry(cells: Mapping[str, str], odd: Odd) -> dict[str, Any]:
    """The columns of a row but its key. `odd` hears what was not understood; the cell itself is kept in row_json."""
    row = dict(cells)
    measured = _measured(row.get("performance", ""), row.get("metric", ""))
    if measured.metric is not None:
        row["metric"] = measured.metric
    if measured.value is None and not measured.empty:
        odd(_NO_NUMBER % "performance", measured.text)
    row.setdefault("unit", row.get("metric", ""))
    row.setdefault("host", row.get("machine_name", ""))
    row.setdefault("better", _better(row["unit"]))
    _judge(row, measured.empty, odd)
    found = of_row(row)
    found.update(
        source=IMPORT,
        value=measured.value,
        repeat=_repeat(row.get("repeat", "")),
        run_duration=seconds(row.get("run_duration") or row.get("test_duration") or "", "test_duration", odd),
        queue_duration=seconds(row.get("queue_duration", ""), "queue_duration", odd),
        started=next((moment(row[name], name, odd) for name in _STARTED if row.get(name)), None),
        finished=moment(row["finished"], "finished", odd) if row.get("finished") else None,
    )
    return found


class _Measured(NamedTuple):
    """What the cells of performance and metric say."""

    text: str
    value: float | None
    metric: str | None  # another one than stands there
    empty: bool


@functools.lru_cache(maxsize=16384)
def _measured(performance: str, metric: str) -> _Measured:
    text = performance.strip()
    if is_nothing(text):
        return _Measured(text, None, None, True)
    plain = number(text)
    split = with_unit(text, metric) if plain is None else None
    return _Measured(text, number(split[0]), split[1], False) if split else _Measured(text, plain, None, False)


@functools.lru_cache(maxsize=4096)
def _repeat(text: str) -> int:
    value = number(text) or 1
    return int(value) if 1 <= value <= schema.LARGEST else 1


def with_unit(text: str, metric: str) -> tuple[str, str] | None:
    """(number, metric) of `3.5s`, None where it is no such thing.

    Numbers with a unit count as numbers of that unit only: `3.5s` of `seconds` is one, `12ms` of `latency` is `latency [ms]`.
    """
    found = _WITH_UNIT.match(text)
    if not found or number(found.group(1)) is None:
        return None
    metric, unit = metric.strip(), found.group(2)
    if not metric or metric.lower() == unit.lower():
        return found.group(1), metric or unit
    if unit.lower() in _SECOND_WORDS and metric.lower() in _SECOND_WORDS:
        return found.group(1), metric
    return found.group(1), "%s [%s]" % (metric, unit)


def _judge(row: dict[str, str], empty: bool, odd: Odd) -> None:
    """Unknown means failed: a status in other words, and a success without a result, are failures that say why."""
    status = row.get("status", "").strip().upper()
    if status not in (SUCCESS, FAILURE, SKIPPED):
        odd("status is none of SUCCESS, FAILURE, SKIPPED, the row counts as FAILURE", row.get("status", ""))
        row.update(
            status=FAILURE, failure_class="parse", reason="the file it was imported from says status %r" % row.get("status", "")[:200]
        )
    elif status == SUCCESS and empty:
        odd("status SUCCESS without a performance, the row counts as FAILURE", row.get("performance", ""))
        row.update(status=FAILURE, failure_class="no_metric", reason="the file it was imported from says SUCCESS and has no performance")
    else:
        row["status"] = status
    if row.get("failure_class", "") not in _CLASSES:
        odd("failure_class is not one of ours, left empty", row["failure_class"])
        row["failure_class"] = ""


def seconds(text: str, column: str, odd: Odd) -> float | None:
    """`3.5`, `3.5s` or `3.5 sec` as seconds."""
    value, problem = _seconds(text)
    if problem:
        odd(_NO_NUMBER % column, problem)
    return value


@functools.lru_cache(maxsize=16384)
def _seconds(text: str) -> tuple[float | None, str]:
    """The number, and the text that is none."""
    text = text.strip()
    if is_nothing(text):
        return None, ""
    plain = _SECONDS.match(text.lower())
    found = plain.group(1).strip() if plain else text
    value = number(found)
    return value, found if value is None else ""


def moment(text: str, column: str, odd: Odd) -> float | None:
    """Seconds since the epoch for ISO 8601 (UTC where it names no zone) or such a number."""
    text = text.strip()
    value = number(text)
    if value is not None and 0 < value < 253402300800:
        return value
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        odd("%s is no time" % column, text)
        return None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
