# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the history: rows and campaigns, filtered by the database, as plain dicts (docs/contracts.md, "History")."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection
except ImportError:
    pass  # Database says what is missing

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

from . import schema
from .database import Database

# What a row of an answer holds, in this order.
COLUMNS = (
    *("campaign", "created", "run_id", "attempt", "result", "source", "model", "args", "tags", "host", "machine_name", "hardware"),
    *("gpu_vendor", "gpu_architecture", "n_gpus", "nnodes", "launcher", "repeat", "metric", "unit", "value", "performance", "better"),
    *("status", "failure_class", "reason", "started", "finished", "run_duration", "queue_duration", "digest", "git_commit", "repo_commit"),
)
# What can be asked for by equality; a value may be a list, of which any will do.
FILTERS = ("model", "metric", "hardware", "host", "status", "run_id", "source", "failure_class")
_RUN_ID = 16  # digits; fewer ask for ids that begin so
_BATCH = 1000

Text = str | Sequence[str]
T = TypeVar("T")


def rows(url: str, **wanted: Any) -> list[dict[str, Any]]:
    """Rows of the history, oldest first.

    campaign: a name (the newest campaign of that name), or several; created: with a name, the one that was planned then;
    last: only the newest so many campaigns that have such rows, before: only campaigns that began before the one of this name;
    model, metric, hardware, host, status, run_id, source, failure_class: equal to, or one of (of one run_id its beginning is enough);
    newest (true): of each run only the newest attempt; cells (false): with "cells", every cell of perf.csv as text.
    """
    return list(each_row(url, **wanted))


def each_row(url: str, **wanted: Any) -> Iterator[dict[str, Any]]:
    """The same one after another, for an answer that need not stand in memory."""
    filters, cells, newest, chosen = _taken(wanted)
    table = schema.RESULTS
    columns = [table.c[name] for name in COLUMNS] + ([table.c.row_json] if cells else [])
    query = sa.select(*columns).order_by(table.c.started, *table.primary_key.columns)
    for condition in _conditions(filters):
        query = query.where(condition)
    if newest:
        query = query.where(table.c.attempt == _newest_attempt())
    with Database(url) as database, database.reading() as connection:
        if connection is None:
            return
        if any(chosen.values()):
            keys = [(entry["campaign"], entry["created"]) for entry in _campaigns(connection, filters, **chosen)]
            if not keys:
                return
            query = query.where(schema.of_campaigns(table, keys))
        for found in connection.execution_options(stream_results=True, yield_per=_BATCH).execute(query):
            yield _answer(found, cells)


def batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """Rows so many at a time."""
    rest = iter(found)
    while some := list(itertools.islice(rest, size)):
        yield some


def campaigns(url: str, **wanted: Any) -> list[dict[str, Any]]:
    """Campaigns, newest first: {"campaign", "created", "started", "finished", "results", "source"}.

    Takes campaign, created, last, before and the filters of `rows` (then: campaigns that have such a row).
    """
    filters, _cells, _newest, chosen = _taken(wanted)
    with Database(url) as database, database.reading() as connection:
        return _campaigns(connection, filters, **chosen) if connection is not None else []


def _taken(wanted: dict[str, Any]) -> tuple[dict[str, Text], bool, bool, dict[str, Any]]:
    """(filters, cells, newest, what chooses campaigns); InvalidInput for a word nobody knows, a typo would answer with too much."""
    chosen = {name: wanted.pop(name, default) for name, default in (("campaign", ""), ("created", None), ("last", 0), ("before", ""))}
    cells, newest = bool(wanted.pop("cells", False)), bool(wanted.pop("newest", True))
    unknown = set(wanted) - set(FILTERS)
    if unknown:
        raise InvalidInput("the history cannot be asked by %s; by %s" % (", ".join(sorted(unknown)), ", ".join(FILTERS)))
    return {name: value for name, value in wanted.items() if value}, cells, newest, chosen


def _conditions(filters: dict[str, Text]) -> Iterator[Any]:
    for name, value in filters.items():
        column = schema.RESULTS.c[name]
        values = [value] if isinstance(value, str) else list(value)
        if name == "model":
            values = [text[: schema.LONGEST_MODEL] for text in values]
        if name == "run_id" and len(values) == 1 and len(values[0]) < _RUN_ID:
            yield column.startswith(values[0], autoescape=True)
        else:
            yield column == values[0] if len(values) == 1 else column.in_(values)


def _newest_attempt() -> Any:
    table, other = schema.RESULTS, schema.RESULTS.alias("other")
    same = [other.c[name] == table.c[name] for name in ("campaign", "created", "run_id")]
    return sa.select(sa.func.max(other.c.attempt)).where(*same).correlate(table).scalar_subquery()


def _campaigns(
    connection: Connection, filters: dict[str, Text], campaign: Text, created: float | None, last: int, before: str
) -> list[dict[str, Any]]:
    table, results = schema.CAMPAIGNS, schema.RESULTS
    query = sa.select(table).order_by(table.c.started.desc(), table.c.campaign.desc(), table.c.created.desc())
    names = [campaign] if isinstance(campaign, str) else list(campaign)
    if names != [""]:
        query = query.where(table.c.campaign.in_(names))
    if created is not None:
        query = query.where(table.c.created == created)
    if before:
        began = connection.execute(sa.select(sa.func.max(table.c.started)).where(table.c.campaign == before)).scalar()
        if began is None:
            raise InvalidInput("the history holds no campaign %r" % before)
        query = query.where(table.c.started < began)
    if filters:
        own = sa.and_(results.c.campaign == table.c.campaign, results.c.created == table.c.created)
        query = query.where(sa.exists().where(own, *_conditions(filters)))
    found = [dict(row._mapping) for row in connection.execute(query.limit(last) if last else query)]
    return found if names == [""] else _one_of_each_name(found)


def _one_of_each_name(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A name means the newest campaign of that name."""
    seen: dict[str, dict[str, Any]] = {}
    for entry in found:
        seen.setdefault(entry["campaign"], entry)
    return list(seen.values())


def _answer(found: Any, cells: bool) -> dict[str, Any]:
    row = dict(found._mapping)
    if cells:
        row["cells"] = json.loads(row.pop("row_json"))
    return row
