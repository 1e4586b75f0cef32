# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploading rows to MongoDB as documents, with madengine's options and environment variables. A second time changes nothing.

madengine overwrites a document of the same model; here the key is that of a row (campaign, run, attempt, result), and rows of a foreign
perf.csv get one from their content, so that history is kept. Whoever wants madengine's behaviour names its field as unique key.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

try:
    import pymongo
    from pymongo import errors as mongo_errors

    MISSING = ""
except ImportError as _error:
    MISSING = str(_error)

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.base.scalars import to_int
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import is_nothing, number
from ansible_collections.mad.engine.plugins.module_utils.results.rows import COLUMNS, KEY

from . import imports
from .query import batches, each_row

UNIQUE = ("campaign", "created", "run_id", "attempt", "result")
# Columns of perf.csv that are numbers; every other known column is text, whatever it looks like (a commit may be all digits).
_NUMBERS = frozenset(
    ("n_gpus", "nnodes", "gpus_per_node", "performance", "relative_change", "build_duration", "test_duration", "data_download_duration")
    + ("attempt", "result", "repeat", "exit_code", "queue_duration", "stage_duration", "run_duration", "model_duration", "build_number")
)
_DUPLICATE = 11000

Document = dict[str, Any]


class Server(NamedTuple):
    """Where to, from madengine's environment variables."""

    host: str
    port: int
    user: str
    password: str
    auth_source: str
    timeout_ms: int


class Upload(NamedTuple):
    """What to do there."""

    database: str
    collection: str
    unique_key: Sequence[str] = ()
    batch_size: int = 1000
    upsert: bool = True
    make_index: bool = True


class Answer(NamedTuple):
    """What became of it."""

    documents: int
    inserted: int
    updated: int

    @property
    def known(self) -> int:
        """Documents that stood there just so."""
        return self.documents - self.inserted - self.updated


class MongoProblem(MadError):
    """The server was not reached, or refused."""


def server(environ: Mapping[str, str]) -> Server:
    """MONGO_HOST, MONGO_PORT, MONGO_USER, MONGO_PASSWORD, MONGO_AUTH_SOURCE, MONGO_TIMEOUT_MS, with madengine's defaults."""
    return Server(
        environ.get("MONGO_HOST") or "localhost",
        to_int(environ.get("MONGO_PORT") or 27017, "MONGO_PORT", 1),
        environ.get("MONGO_USER") or "",
        environ.get("MONGO_PASSWORD") or "",
        environ.get("MONGO_AUTH_SOURCE") or "admin",
        to_int(environ.get("MONGO_TIMEOUT_MS") or 5000, "MONGO_TIMEOUT_MS", 1),
    )


# -- documents -------------------------------------------------------------------------------------------------------------------


def of_history(url: str, **wanted: Any) -> Iterator[Document]:
    """Documents of the history's rows; `wanted` are the filters of query.rows."""
    for row in each_row(url, cells=True, **wanted):
        yield document(row["cells"], row)


def of_files(paths: Sequence[str], campaign: str = "") -> Iterator[Document]:
    """Documents of perf.csv files (and folders of them), as an import would key them."""
    for entry in imports.entries_of(paths, campaign):
        yield document(json.loads(entry["row_json"]), entry)


def document(cells: Mapping[str, str], key: Mapping[str, Any]) -> Document:
    """One document: numbers as numbers, JSON text parsed, `nan` null; names that MongoDB could not ask for are mended."""
    found = {_name(name): _value(name, text) for name, text in cells.items()}
    return {**found, **{name: key[name] for name in UNIQUE}, "model": cells.get("model", ""), "value": key["value"]}


def _name(name: str) -> str:
    mended = name.replace(".", "_").replace("\0", "_")
    return "_" + mended[1:] if mended.startswith("$") else mended


def _value(name: str, text: str) -> Any:
    if name in KEY or not text:
        return text
    if text[0] in "[{":
        try:
            return _storable(json.loads(text))
        except (ValueError, RecursionError):
            return text
    if name in _NUMBERS or name not in COLUMNS:
        value = number(text)
        if value is not None:
            return int(value) if value == int(value) and abs(value) < 2**53 else value
        return None if is_nothing(text) else text
    return text


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key): _storable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    if isinstance(value, int) and abs(value) >= 2**63:
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- upload ----------------------------------------------------------------------------------------------------------------------


def upload(where: Server, what: Upload, documents: Iterable[Document]) -> Answer:
    """Bring documents in, batch after batch. MongoProblem says what to do."""
    if MISSING:
        raise InvalidInput(
            "uploading to MongoDB needs the Python package pymongo on the controller (%s): pip install 'mad-engine[mongodb]' or "
            "pip install pymongo" % MISSING
        )
    login: dict[str, Any] = {"username": where.user, "password": where.password, "authSource": where.auth_source} if where.user else {}
    try:
        with pymongo.MongoClient(
            where.host, where.port, serverSelectionTimeoutMS=where.timeout_ms, connectTimeoutMS=where.timeout_ms, **login
        ) as client:
            collection = client[what.database][what.collection]
            client.admin.command("ping")
            if what.make_index:
                _make_index(collection, what)
            return _bring(collection, what, documents)
    except mongo_errors.PyMongoError as error:
        raise MongoProblem(_explain(where, what, error)) from error


def _make_index(collection: Any, what: Upload) -> None:
    """An index for the lookups; of our own key a unique one, so that two uploads at once bring nothing twice."""
    keys = [(name, 1) for name in what.unique_key or UNIQUE]
    if what.unique_key:
        collection.create_index(keys)
    else:
        collection.create_index(keys, unique=True, partialFilterExpression={"run_id": {"$exists": True}}, name="mad_row")


def _bring(collection: Any, what: Upload, documents: Iterable[Document]) -> Answer:
    total = inserted = updated = 0
    for batch in batches(documents, what.batch_size):
        total += len(batch)
        new, changed = (_upsert if what.upsert else _insert)(collection, what, batch)
        inserted, updated = inserted + new, updated + changed
    return Answer(total, inserted, updated)


def _upsert(collection: Any, what: Upload, batch: list[Document]) -> tuple[int, int]:
    names = what.unique_key or UNIQUE
    operations = []
    for found in batch:
        missing = [name for name in names if name not in found]
        if missing:
            raise InvalidInput("mad_unique_key %s: a row of model %s has no such column" % (", ".join(missing), found.get("model")))
        first = {"_meta_uploaded_at": _now(), "created_date": _now()}
        operations.append(pymongo.UpdateOne({name: found[name] for name in names}, {"$set": found, "$setOnInsert": first}, upsert=True))
    done = collection.bulk_write(operations, ordered=False)
    return done.upserted_count, done.modified_count


def _insert(collection: Any, _what: Upload, batch: list[Document]) -> tuple[int, int]:
    """Insert only: what stands there already is left alone."""
    stamped = [{**found, "_meta_uploaded_at": _now(), "created_date": _now()} for found in batch]
    try:
        return len(collection.insert_many(stamped, ordered=False).inserted_ids), 0
    except mongo_errors.BulkWriteError as error:
        details = error.details or {}
        if any(problem.get("code") != _DUPLICATE for problem in details.get("writeErrors", ())) or details.get("writeConcernErrors"):
            raise
        return int(details.get("nInserted", 0)), 0


def _now() -> datetime.datetime:
    now = datetime.datetime.now(datetime.UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)  # what BSON holds


def _explain(where: Server, what: Upload, error: Exception) -> str:
    place = "MongoDB %s:%d, %s.%s" % (where.host, where.port, what.database, what.collection)
    code = getattr(error, "code", None)
    if isinstance(error, mongo_errors.ServerSelectionTimeoutError):
        hint = "no answer within %d ms; check MONGO_HOST and MONGO_PORT, or raise MONGO_TIMEOUT_MS" % where.timeout_ms
    elif code in (18, 11):
        hint = "check MONGO_USER, MONGO_PASSWORD and MONGO_AUTH_SOURCE"
    elif code == 13:
        hint = "the user of MONGO_USER needs readWrite on the database"
    else:
        hint = "nothing is lost: upload again, what stands there is not brought twice"
    said = " ".join(str(error).split())[:300].replace(where.password or "\0", "***")
    return "%s: %s (%s)" % (place, said, hint)
