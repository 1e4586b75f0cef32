# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records and cells of perf.csv to rows of the history's tables."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.results.hardware import of_cells
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows

from . import schema

RECORD, IMPORT = "record", "import"
_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def of_record(record: Mapping[str, Any], created: float) -> list[dict[str, Any]]:
    """The rows of one attempt."""
    times = record.get("timings") or {}
    own = {
        "campaign": record["campaign"],
        "created": created,
        "run_id": record["run_id"],
        "attempt": record["attempt"],
        "repeat": int(record.get("repeat") or 1),
        "source": RECORD,
        "run_duration": finite(times.get("run")),
        "queue_duration": finite(times.get("queue")),
        **{name: finite(times.get(name)) for name in ("started", "finished")},
    }
    return [{**of_row(row), **own, "result": int(row["result"]), "value": number(row["performance"])} for row in rows(record)]


def of_row(row: Mapping[str, str]) -> dict[str, Any]:
    """The columns that hold cells as they stand."""
    told = {name: text for name, text in row.items() if text}
    entry: dict[str, Any] = {name: told.get(name, "") for name in schema.TEXTS}
    entry["hardware"] = of_cells(row)
    text = _encoded(told)
    if "\\u" in text:
        entry = {name: storable(cell) for name, cell in entry.items()}
    entry["model"] = entry["model"][: schema.LONGEST_MODEL]
    entry["row_json"] = text
    return entry


def _encoded(told: Mapping[str, str]) -> str:
    """JSON of texts, sorted. Where nothing has to be escaped the columns' common form is filled in: files of 100,000 rows are imported."""
    names, form = _form(tuple(told))
    texts = tuple(map(told.__getitem__, names))
    joined = " ".join(texts)
    plain = joined.isascii() and joined.isprintable() and '"' not in joined and "\\" not in joined
    return form % texts if plain else _json(told)


@functools.lru_cache(maxsize=256)
def _form(names: tuple[str, ...]) -> tuple[list[str], str]:
    found = sorted(names)
    return found, "{%s}" % ",".join(_json(name).replace("%", "%%") + ':"%s"' for name in found)


def storable(text: str) -> str:
    """Text that every database holds: PostgreSQL knows no NUL and no lone surrogate."""
    return text if text.isascii() and "\0" not in text else text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def finite(value: Any) -> float | None:
    """The number a value is, else None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None
