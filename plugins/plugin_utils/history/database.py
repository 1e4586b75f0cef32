# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening the history: SQLite or PostgreSQL by URL, one writer at a time, and errors that say what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection, Engine, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    MISSING = ""
except ImportError as _error:
    MISSING = str(_error)

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.base.secret_names import is_secret_name

from . import schema

BUSY_SECONDS = 60.0
# One writer at a time, from the first statement on: two that make the tables at once would fail (seen on PostgreSQL), and so would two
# that read before they write (on SQLite). The number is any that nobody else uses; the lock ends with the transaction.
_LOCK = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7308895154733245541)"}


class IndexProblem(MadError):
    """The index could not be read or written. The files of the campaign are complete all the same."""


def shown_url(url: str) -> str:
    """The URL without its password, also one in its query."""
    try:
        made = make_url(url)
        hidden = {name: "***" for name in made.query if is_secret_name(name)}
        return made.update_query_dict(hidden).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "the given mad_database_url"


class Database:
    """An open history. Use as a context manager."""

    AGAIN = "the next play brings these rows in"  # what is to do after a failure to write
    KEPT = " The files of the campaign are complete."

    def __init__(self, url: str) -> None:
        if MISSING:
            raise IndexProblem(
                "the index needs the Python package SQLAlchemy on the controller (%s). The files of the campaign are complete." % MISSING
            )
        self.url = url
        self.shown = shown_url(url)
        self._engine = _engine(url)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        self._engine.dispose()

    @property
    def path(self) -> str:
        """The file of an SQLite database, "" for a server."""
        return (self._engine.url.database or "") if self._engine.dialect.name == "sqlite" else ""

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that holds the write lock, with tables of this release's version."""
        with self._named_errors(writes=True), self._engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(_LOCK[connection.dialect.name])
            schema.prepare(connection)
            yield connection

    @contextlib.contextmanager
    def reading(self, to_write: bool = False) -> Iterator[Connection | None]:
        """A connection to read with; None when there is no history yet. Tables of an older release are migrated first.

        `to_write` says that somebody looks before writing: an error is one of the writing.
        """
        with self._named_errors(to_write):
            found = 0
            if not self.path or os.path.exists(self.path):
                with self._engine.connect() as connection:
                    found = schema.version(connection)
            if 0 < found < schema.VERSION:
                with self.writing():
                    pass
            if not found:
                yield None
                return
            with self._engine.connect() as connection:
                yield connection

    @contextlib.contextmanager
    def _named_errors(self, writes: bool) -> Iterator[None]:
        try:
            yield
        except schema.OtherVersion as error:
            raise IndexProblem(
                "the index %s was made by a newer release of mad.engine (schema %s, this one knows %d): use that release, or move the "
                "index away and make it again with mad.engine.database" % (self.shown, error, schema.VERSION)
            ) from error
        except DBAPIError as error:
            raise IndexProblem(_explain(self.shown, str(error.orig), writes, self.AGAIN, self.KEPT)) from error
        except (SQLAlchemyError, OSError) as error:
            raise IndexProblem(_explain(self.shown, str(error).splitlines()[0], writes, self.AGAIN, self.KEPT)) from error


# word in what the database said -> what to do
_HINTS = (
    ("password authentication", "mend user or password in mad_database_url"),
    ("does not exist", "make the database or the role on the server (createdb, createuser), or mend mad_database_url"),
    ("permission denied", "grant the role of mad_database_url CREATE on the schema, once, or give it the tables"),
    ("terminating connection", "its server went away; %s"),
    ("closed the connection", "its server went away; %s"),
    ("no space left", "its disk is full; make room, %s"),
    ("read-only", "it cannot be written; give the primary server, %s"),
    ("connect", "its server did not take us; %s"),
    ("locked", "another process holds it; %s"),
    ("lock timeout", "another process holds it; %s"),
    ("malformed", "it is damaged; mad.engine.database makes it again from the files"),
    ("not a database", "it is damaged; mad.engine.database makes it again from the files"),
    ("readonly", "it cannot be written; mend its owner or mode, %s"),
    ("full", "its disk is full; make room, %s"),
    ("disk i/o", "its disk fails or is full; %s"),
    ("unable to open", "its folder is missing or cannot be written; give another mad_database_url"),
)


def _explain(shown: str, reason: str, writes: bool, again: str, kept: str) -> str:
    hint = next((hint for word, hint in _HINTS if word in reason.lower()), "mad.engine.database makes it again from the files")
    said, hint = " ".join(reason.split()), hint.replace("%s", again)
    if not writes:
        return "the index %s cannot be read: %s (%s)" % (shown, said, hint)
    return "the index %s was not brought up to date: %s (%s).%s" % (shown, said, hint, kept)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise InvalidInput("mad_database_url %s: only SQLite and PostgreSQL are supported" % shown_url(url))
        if parsed.get_backend_name() == "postgresql":
            return _server(url)
        if not parsed.database or parsed.database == ":memory:":
            raise InvalidInput("mad_database_url %s names no file" % shown_url(url))
        os.makedirs(os.path.dirname(os.path.abspath(parsed.database)), exist_ok=True)
        return sa.create_engine(parsed, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None})
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise InvalidInput("mad_database_url %s cannot be used: %s" % (shown_url(url), error)) from error
    except OSError as error:
        raise IndexProblem("the folder of the index %s cannot be made: %s" % (shown_url(url), error.strerror)) from error


def _server(url: str) -> Engine:
    """PostgreSQL through psycopg unless the URL names another driver; a server that does not answer is given up after a while."""
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_driver_name() == "psycopg" and "connect_timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"connect_timeout": "15"})
    try:
        if parsed.get_driver_name() == "psycopg":
            import psycopg  # noqa: F401  # pylint: disable=unused-import  # SQLAlchemy finds it by name
        return sa.create_engine(parsed, poolclass=NullPool)
    except ImportError as error:
        raise InvalidInput(
            "mad_database_url %s needs a Python package on the controller that is not there (%s): pip install 'mad-engine[postgresql]' or "
            "pip install 'psycopg[binary]'" % (shown_url(url), error)
        ) from error
