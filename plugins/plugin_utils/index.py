# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index over all campaigns: a database that is filled from the files and can be made again from them.

SQLite by default (one file beside the campaigns), any PostgreSQL by URL. A row is one row of perf.csv, keyed by campaign (its name and
when it was planned), run id, attempt and number of the result. SQLite takes its lock at the beginning of the transaction (BEGIN
IMMEDIATE) and keeps a rollback journal, which network file systems can bear. history/query.py asks it, history/imports.py brings in files
of others.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection
except ImportError:
    pass  # Database says what is missing

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, campaigns
from ansible_collections.mad.engine.plugins.module_utils.results.record_shape import problem_of

from .history import database, schema
from .history.database import Database, IndexProblem, shown_url
from .history.entries import IMPORT, finite, of_record
from .history.place import database_url

__all__ = ["Index", "IndexProblem", "database_url", "planned_at", "shown_url"]
_BATCH = 500

AttemptKey = Tuple[str, int]  # run id, attempt; within one campaign
Rows = Dict[AttemptKey, List[Dict[str, Any]]]
CampaignKey = Tuple[str, float]  # its name, and when it was planned


def planned_at(plan: Mapping[str, Any]) -> float:
    """The part of a campaign's key that its name is not: the moment of its first plan."""
    return finite(plan.get("created")) or schema.CREATED_UNKNOWN


class Index(Database):
    """An open index. Use as a context manager; every public method is one transaction."""

    def __enter__(self) -> Index:
        return self

    def add(self, records: Iterable[Mapping[str, Any]], created: float = schema.CREATED_UNKNOWN) -> int:
        """Bring the rows of these records in; returns the number of attempts that were new or had changed.

        `created` says when their campaigns were planned. The rows of an attempt are replaced together. When nothing changed, nothing is
        written (a read-only database will do).
        """
        found = _by_campaign(records, created)
        with self.reading(to_write=True) as connection:
            changed = {key: _other(_known(connection, key), entries) for key, entries in found.items()} if connection else found
        total = sum(len(entries) for entries in changed.values())
        if total:
            with self.writing() as connection:
                for key, entries in changed.items():
                    _replace(connection, key, entries)
        return total

    def rebuild(self, results_dir: str) -> Dict[str, Any]:
        """Read every campaign below a results folder again; campaigns that are not there keep their rows.

        Returns {"campaigns", "attempts", "changed" (attempts that were new, gone or other), "problems": [what could not be read]}. A damaged
        SQLite file is set aside first.
        """
        self._set_aside_if_damaged()
        answer: Dict[str, Any] = {"campaigns": 0, "attempts": 0, "changed": 0, "problems": []}
        with self.writing() as connection:
            for campaign in campaigns(results_dir):
                key = (campaign.name, _planned_at(campaign))
                entries = _entries(_all_records(campaign, answer["problems"]), key[1])
                known = _known(connection, key)
                gone = set(known) - set(entries)
                changed = _other(known, entries)
                if gone:
                    _delete(connection, key, gone)
                if gone or changed:
                    _replace(connection, key, changed)
                answer["campaigns"] += 1
                answer["attempts"] += len(entries)
                answer["changed"] += len(changed) + len(gone)
        return answer

    def select(self, campaign: str = "") -> List[Dict[str, Any]]:
        """The rows of one campaign, or all, oldest first, as dicts of the table's columns."""
        table = schema.RESULTS
        query = table.select().order_by(table.c.started, *table.primary_key.columns)
        with self.reading() as connection:
            if connection is None:
                return []
            found = connection.execute(query.where(table.c.campaign == campaign) if campaign else query)
            return [dict(row._mapping) for row in found]

    def _set_aside_if_damaged(self) -> None:
        path = self.path
        if not path or not os.path.isfile(path) or _is_sound(path):
            return
        os.replace(path, "%s.damaged-%s" % (path, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + "-journal")


def _is_sound(path: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=database.BUSY_SECONDS)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        return True  # locked, not readable: nothing says that its content is bad
    except sqlite3.DatabaseError:
        return False


def _planned_at(campaign: Campaign) -> float:
    try:
        return planned_at(campaign.plan())
    except MadError:
        return schema.CREATED_UNKNOWN  # its results still tell of themselves


def _all_records(campaign: Campaign, problems: List[str]) -> Iterator[Mapping[str, Any]]:
    """Every attempt a campaign's files tell of: the results, and the older attempts beside them."""
    results, unreadable = campaign.results()
    problems.extend(unreadable.values())
    for run_id, record in results.items():
        yield record
        for attempt in campaign.attempts(run_id):
            with contextlib.suppress(MadError):
                document = campaign.attempt(run_id, attempt) or {}
                older = document.get("result")
                if isinstance(older, dict) and attempt != record["attempt"] and not problem_of(older):
                    yield older


def _by_campaign(records: Iterable[Mapping[str, Any]], created: float) -> Dict[CampaignKey, Rows]:
    found: Dict[CampaignKey, List[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault((record["campaign"], created), []).append(record)
    return {key: _entries(some, created) for key, some in found.items()}


def _entries(records: Iterable[Mapping[str, Any]], created: float) -> Rows:
    return {(record["run_id"], record["attempt"]): of_record(record, created) for record in records}


def _known(connection: Connection, key: CampaignKey) -> Dict[AttemptKey, Set[str]]:
    """What the database holds of a campaign: the cells of every attempt's rows."""
    table, known = schema.RESULTS, dict[AttemptKey, Set[str]]()
    query = sa.select(table.c.run_id, table.c.attempt, table.c.row_json).where(schema.of_campaign(table, key))
    for run_id, attempt, text in connection.execute(query):
        known.setdefault((run_id, attempt), set()).add(text)
    return known


def _texts(found: Iterable[Mapping[str, Any]]) -> Set[str]:
    return {entry["row_json"] for entry in found}


def _other(known: Mapping[AttemptKey, Set[str]], entries: Rows) -> Rows:
    """Those whose rows in the database are not these."""
    return {name: found for name, found in entries.items() if known.get(name) != _texts(found)}


def _delete(connection: Connection, key: CampaignKey, attempts: Iterable[AttemptKey]) -> None:
    """Remove the rows of attempts."""
    table = schema.RESULTS
    condition = sa.and_(table.c.run_id == sa.bindparam("of_run"), table.c.attempt == sa.bindparam("of_attempt"))
    wanted = [{"of_run": run_id, "of_attempt": number} for run_id, number in attempts]
    connection.execute(table.delete().where(schema.of_campaign(table, key), condition), wanted)


def _replace(connection: Connection, key: CampaignKey, entries: Rows) -> None:
    """Put these in place of the rows of their attempts, also of those that were brought in before the campaign's time was known."""
    others = _others(connection, key)
    if entries:
        _forget(connection, key, others, entries)
        values = [entry for found in entries.values() for entry in found]
        for start in range(0, len(values), _BATCH):
            schema.insert(connection, values[start : start + _BATCH])
    schema.refresh(connection, {key, *others})


def _others(connection: Connection, key: CampaignKey) -> List[CampaignKey]:
    """Campaigns of the same name whose rows may be of this one: its time was not known when they came."""
    table = schema.RESULTS
    unsure = sa.and_(table.c.campaign == key[0], table.c.created != key[1], _unsure())
    found = connection.execute(sa.select(table.c.created).where(unsure).distinct()).scalars()
    return [(key[0], created) for created in found]


def _unsure() -> sa.ColumnElement[bool]:
    return sa.or_(schema.RESULTS.c.created == schema.CREATED_UNKNOWN, schema.RESULTS.c.source == IMPORT)


def _forget(
    connection: Connection, key: CampaignKey, others: List[CampaignKey], entries: Mapping[AttemptKey, Sequence[Mapping[str, Any]]]
) -> None:
    table = schema.RESULTS
    attempt = sa.and_(table.c.run_id == sa.bindparam("of_run"), table.c.attempt == sa.bindparam("of_attempt"))
    begun = [
        {"of_run": run_id, "of_attempt": number, "begun": found[0]["started"]} for (run_id, number), found in entries.items() if found
    ]
    _delete(connection, key, entries)
    started = sa.bindparam("begun", type_=sa.Float)
    same = sa.or_(table.c.started.is_(None), started.is_(None), sa.func.abs(table.c.started - started) < 1)
    for other in others:
        connection.execute(table.delete().where(schema.of_campaign(table, other), attempt, _unsure(), same), begun)
