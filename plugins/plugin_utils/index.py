# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index over all campaigns: a database that is filled from the files and can be made again from them.

SQLite by default (one file beside the campaigns), any PostgreSQL by URL; nothing here is special to one of them but the opening of a
connection. A row is one row of perf.csv, keyed by campaign, run id, attempt and number of the result. One writer at a time: SQLite
takes the lock at the beginning of the transaction (BEGIN IMMEDIATE) and keeps a rollback journal, which network file systems can bear.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection, Engine, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    MISSING = ""
except ImportError as _error:
    MISSING = str(_error)

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import HISTORY, Campaign, campaigns
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number
from ansible_collections.mad.engine.plugins.module_utils.results.record_shape import problem_of
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows

VERSION = 1
BUSY_SECONDS = 60.0
_BATCH = 500
# One writer at a time, from the first statement on: two that make the tables at once would fail (seen on PostgreSQL), and so would two
# that read before they write (on SQLite). The number is any that nobody else uses; the lock ends with the transaction.
_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7308895154733245541)"}

# Text columns carry a row of perf.csv as it stands; the numbers beside them are what queries sort and compare by; row_json holds every
# cell that is not empty.
_TEXTS = (
    *("model", "host", "machine_name", "deployment_type", "launcher", "status", "failure_class", "reason", "performance", "metric"),
    *("better", "args", "tags", "gpu_vendor", "gpu_architecture", "gpu_product", "n_gpus", "nnodes", "docker_image", "digest"),
    *("git_commit", "repo_commit"),
)

if not MISSING:
    _METADATA = sa.MetaData()
    VERSIONS = sa.Table("mad_schema", _METADATA, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    RESULTS = sa.Table(
        "mad_results",
        _METADATA,
        sa.Column("campaign", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.String(16), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("result", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in _TEXTS),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("run_duration", sa.Float(53)),
        sa.Column("queue_duration", sa.Float(53)),
        sa.Column("started", sa.Float(53)),
        sa.Column("finished", sa.Float(53)),
        sa.Column("row_json", sa.Text, nullable=False),
        sa.Index("mad_results_by_model", "model", "started"),
    )
    _ATTEMPT = (RESULTS.c.campaign, RESULTS.c.run_id, RESULTS.c.attempt)

AttemptKey = Tuple[str, str, int]


class IndexProblem(MadError):
    """The index could not be read or written. The files of the campaign are complete all the same."""


def shown_url(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "the given mad_database_url"


def database_url(results_dir: str, given: str = "") -> str:
    """The URL of the index: the given one (a URL or the path of an SQLite file), else history.db beside the campaigns."""
    if not given:
        return "sqlite:///" + os.path.join(os.path.abspath(results_dir), HISTORY)
    return given if "://" in given else "sqlite:///" + os.path.abspath(os.path.expanduser(given))


class Index:
    """An open index. Use as a context manager; every public method is one transaction."""

    def __init__(self, url: str) -> None:
        if MISSING:
            raise IndexProblem(
                "the index needs the Python package SQLAlchemy on the controller (%s). The files of the campaign are complete." % MISSING
            )
        self.url = url
        self.shown = shown_url(url)
        self._engine = _engine(url)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_error: object) -> None:
        self._engine.dispose()

    def add(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Bring the rows of these records in; returns the number of attempts that were new or had changed.

        The rows of an attempt are replaced together. When nothing changed, nothing is written (a read-only database will do).
        """
        entries = _entries(records)
        with self._named_errors():
            changed = self._changed(entries)
            if changed:
                with self._writing() as connection:
                    _replace(connection, {key: entries[key] for key in changed})
            return len(changed)

    def rebuild(self, results_dir: str) -> Dict[str, Any]:
        """Read every campaign below a results folder again; campaigns that are not there keep their rows.

        Returns {"campaigns", "attempts", "problems": [what could not be read]}. A damaged SQLite file is set aside first.
        """
        self._set_aside_if_damaged()
        answer: Dict[str, Any] = {"campaigns": 0, "attempts": 0, "problems": []}
        with self._named_errors(), self._writing() as connection:
            for campaign in campaigns(results_dir):
                entries = _entries(_all_records(campaign, answer["problems"]))
                connection.execute(RESULTS.delete().where(RESULTS.c.campaign == campaign.name))
                _insert(connection, entries)
                answer["campaigns"] += 1
                answer["attempts"] += len(entries)
        return answer

    def select(self, campaign: str = "") -> List[Dict[str, Any]]:
        """The rows of one campaign, or all, oldest first, as dicts of the table's columns."""
        query = RESULTS.select().order_by(RESULTS.c.started, *RESULTS.primary_key.columns)
        with self._named_errors(), self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(RESULTS.name):
                return []
            found = connection.execute(query.where(RESULTS.c.campaign == campaign) if campaign else query)
            return [dict(row._mapping) for row in found]

    def _changed(self, entries: Mapping[AttemptKey, List[Dict[str, Any]]]) -> List[AttemptKey]:
        """Keys whose rows in the database are not these."""
        known: Dict[AttemptKey, Set[str]] = {}
        with self._engine.connect() as connection:
            if sa.inspect(connection).has_table(RESULTS.name):
                columns = (*_ATTEMPT, RESULTS.c.row_json)
                for name in {key[0] for key in entries}:
                    for *key, text in connection.execute(sa.select(*columns).where(RESULTS.c.campaign == name)):
                        known.setdefault((key[0], key[1], key[2]), set()).add(text)
        return [key for key, found in entries.items() if known.get(key) != {entry["row_json"] for entry in found}]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(_LOCK[connection.dialect.name])
            self._check_version(connection)
            yield connection

    def _check_version(self, connection: Connection) -> None:
        """Make the tables where there are none; refuse those of a newer release."""
        _METADATA.create_all(connection)
        version = connection.execute(sa.select(VERSIONS.c.version)).scalar()
        if version is None:
            connection.execute(VERSIONS.insert().values(version=VERSION))
        elif version != VERSION:
            raise IndexProblem(
                "the index %s was made by another release of mad.engine (schema %s, this one knows %d): use that release, or move the "
                "index away and make it again with mad.engine.database" % (self.shown, version, VERSION)
            )

    def _set_aside_if_damaged(self) -> None:
        path = make_url(self.url).database or ""
        if not self.url.startswith("sqlite") or not os.path.isfile(path) or _is_sound(path):
            return
        os.replace(path, "%s.damaged-%s" % (path, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + "-journal")

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise IndexProblem(_explain(self.shown, str(error.orig))) from error
        except (SQLAlchemyError, OSError) as error:
            raise IndexProblem(_explain(self.shown, str(error).splitlines()[0])) from error


_HINTS = (
    ("connect", "its server did not take us; the next play brings these rows in"),
    ("locked", "another process holds it; the next play brings these rows in"),
    ("malformed", "it is damaged; mad.engine.database makes it again from the files"),
    ("not a database", "it is damaged; mad.engine.database makes it again from the files"),
    ("readonly", "it cannot be written; mend its owner or mode, the next play brings these rows in"),
    ("full", "its disk is full; make room, the next play brings these rows in"),
    ("disk i/o", "its disk fails or is full; the next play brings these rows in"),
    ("unable to open", "its folder is missing or cannot be written; give another mad_database_url"),
)


def _explain(shown: str, reason: str) -> str:
    hint = next((hint for word, hint in _HINTS if word in reason.lower()), "mad.engine.database makes it again from the files")
    said = " ".join(reason.split())
    return "the index %s was not brought up to date: %s (%s). The files of the campaign are complete." % (shown, said, hint)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise InvalidInput("mad_database_url %s: only SQLite and PostgreSQL are supported" % shown_url(url))
        if parsed.get_backend_name() == "postgresql":
            return sa.create_engine(parsed, poolclass=NullPool)
        if not parsed.database or parsed.database == ":memory:":
            raise InvalidInput("mad_database_url %s names no file" % shown_url(url))
        os.makedirs(os.path.dirname(os.path.abspath(parsed.database)), exist_ok=True)
        engine = sa.create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise InvalidInput("mad_database_url %s cannot be used: %s" % (shown_url(url), error)) from error
    except OSError as error:
        raise IndexProblem("the folder of the index %s cannot be made: %s" % (shown_url(url), error.strerror)) from error
    return engine


def _is_sound(path: str) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        return True  # locked, not readable: nothing says that its content is bad
    except sqlite3.DatabaseError:
        return False


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


def _entries(records: Iterable[Mapping[str, Any]]) -> Dict[AttemptKey, List[Dict[str, Any]]]:
    """{(campaign, run id, attempt): rows for the table}."""
    found: Dict[AttemptKey, List[Dict[str, Any]]] = {}
    for record in records:
        key = (record["campaign"], record["run_id"], record["attempt"])
        found[key] = [_entry(record, row) for row in rows(record)]
    return found


def _entry(record: Mapping[str, Any], row: Mapping[str, str]) -> Dict[str, Any]:
    times = record.get("timings") or {}
    entry: Dict[str, Any] = {name: _storable(row.get(name, "")) for name in _TEXTS}
    entry.update({name: _finite(times.get(name)) for name in ("started", "finished")})
    entry.update(run_duration=_finite(times.get("run")), queue_duration=_finite(times.get("queue")), value=number(row["performance"]))
    entry.update(campaign=record["campaign"], run_id=record["run_id"], attempt=record["attempt"], result=int(row["result"]))
    told = {name: text for name, text in row.items() if text}
    entry.update(repeat=int(record.get("repeat") or 1), row_json=json.dumps(told, sort_keys=True, separators=(",", ":")))
    return entry


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd")  # PostgreSQL holds no NUL


def _finite(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _replace(connection: Connection, entries: Mapping[AttemptKey, List[Dict[str, Any]]]) -> None:
    key = sa.and_(*(column == sa.bindparam("key_" + column.name) for column in _ATTEMPT))
    keys = [{"key_campaign": campaign, "key_run_id": run_id, "key_attempt": attempt} for campaign, run_id, attempt in entries]
    connection.execute(RESULTS.delete().where(key), keys)
    _insert(connection, entries)


def _insert(connection: Connection, entries: Mapping[AttemptKey, Sequence[Dict[str, Any]]]) -> None:
    values = [entry for found in entries.values() for entry in found]
    for start in range(0, len(values), _BATCH):
        connection.execute(RESULTS.insert(), values[start : start + _BATCH])
