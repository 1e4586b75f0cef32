# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index: upserts, campaigns at once, locked, damaged, read-only and full databases, and making it again from the files."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import subprocess
from typing import Any, Dict, List

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.plugin_utils.history import database, schema
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, IndexProblem, database_url
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.records import (
    FACTS,
    crash,
    make_campaign,
    make_metric,
    make_outcome,
    make_parsed,
    make_run,
    run_id,
    success,
)


@pytest.fixture
def index(tmp_path: Any) -> Any:
    with Index(database_url(str(tmp_path))) as opened:
        yield opened


def several(number: int = 1) -> Dict[str, Any]:
    metrics = [make_metric(row=name) for name in "abc"]
    return records.make_record(make_run(number), make_outcome(), make_parsed(metrics=metrics), FACTS)


def test_add_and_select(index: Index) -> None:
    assert index.select() == []
    assert index.add([success(1), several(2), crash(3)]) == 3
    found = index.select()
    assert [(entry["run_id"][-1], entry["result"], entry["status"]) for entry in found] == [
        ("1", 1, "SUCCESS"),
        *(("2", number, "SUCCESS") for number in (1, 2, 3)),
        ("3", 1, "FAILURE"),
    ]
    first = found[0]
    assert (first["value"], first["run_duration"], first["started"], first["model"]) == (14164.0, 60.25, 1010.0, "dummy")
    assert json.loads(first["row_json"])["n_gpus"] == "2"
    assert index.select("nobody") == []


def test_a_second_time_nothing_is_written(index: Index, tmp_path: Any) -> None:
    index.add([success(1)])
    before = (tmp_path / "history.db").stat().st_mtime_ns
    assert index.add([success(1)]) == 0
    assert (tmp_path / "history.db").stat().st_mtime_ns == before


def test_rows_of_an_attempt_are_replaced_together(index: Index) -> None:
    index.add([several(1), success(2)])
    assert index.add([success(1), success(2)]) == 1
    assert [(entry["run_id"][-1], entry["result"]) for entry in index.select()] == [("1", 1), ("2", 1)]
    index.add([success(1, attempt=2)])
    assert sorted(entry["attempt"] for entry in index.select()) == [1, 1, 2]


def test_hostile_text_is_data(index: Index) -> None:
    model = "'); DROP TABLE mad_results; --\0\u202e" + "x" * 100000
    index.add([success(1, model=model, args="$(x)")])
    found = index.select()[0]
    assert json.loads(found["row_json"])["model"] == model
    assert found["model"] == model.replace("\0", "\ufffd")[: schema.LONGEST_MODEL]


def _one_campaign(url: str, number: int) -> None:
    with Index(url) as opened:
        for run in range(25):
            opened.add([success(run, campaign="campaign-%d" % number)])


def test_eight_campaigns_at_once_lose_nothing(tmp_path: Any) -> None:
    url = database_url(str(tmp_path))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_one_campaign, args=(url, number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 8
    with Index(url) as opened:
        found = opened.select()
    assert len({(entry["campaign"], entry["run_id"]) for entry in found}) == len(found) == 200


# -- made again from the files -------------------------------------------------------------------------------------------------


def fill(tmp_path: Any, names: List[str]) -> None:
    for name in names:
        campaign = make_campaign(tmp_path, [make_run(1), make_run(2)], name)
        campaign.save_result({**crash(1), "campaign": name})
        campaign.save_result({**success(1, attempt=2), "campaign": name})
        campaign.save_result({**several(2), "campaign": name})


def test_rebuild_gives_what_adding_gave(tmp_path: Any) -> None:
    fill(tmp_path, ["one", "two"])
    with Index(database_url(str(tmp_path))) as opened:
        answer = opened.rebuild(str(tmp_path))
        assert answer == {"campaigns": 2, "attempts": 6, "changed": 6, "problems": []}
        assert opened.rebuild(str(tmp_path))["changed"] == 0
        built = opened.select()
        assert len(built) == 2 * (1 + 1 + 3)
        opened.add([{**crash(1), "campaign": "archived"}])
        assert opened.rebuild(str(tmp_path))["attempts"] == 6
        assert len(opened.select()) == len(built) + 1  # a campaign whose folder is gone keeps its history
        assert opened.select("one") == [entry for entry in built if entry["campaign"] == "one"]


def test_rebuild_names_what_it_cannot_read(tmp_path: Any) -> None:
    fill(tmp_path, ["one"])
    folder = tmp_path / "one" / "runs" / run_id(3)
    folder.mkdir()
    (folder / "result.json").write_text("{")
    with Index(database_url(str(tmp_path))) as opened:
        answer = opened.rebuild(str(tmp_path))
    assert (answer["attempts"], len(answer["problems"])) == (3, 1)
    assert "result.json" in answer["problems"][0]


@pytest.mark.parametrize("damage", ["header", "middle"])
def test_a_damaged_file_is_named_and_made_again(tmp_path: Any, damage: str) -> None:
    fill(tmp_path, ["one"])
    path = tmp_path / "history.db"
    url = database_url(str(tmp_path))
    with Index(url) as opened:
        opened.add([success(number) for number in range(200)])
        with open(path, "r+b") as stream:
            stream.seek(0 if damage == "header" else 4096)
            stream.write(b"\xaa" * 30000)
        with pytest.raises(IndexProblem, match=r"mad.engine.database makes it again.*files of the campaign are complete"):
            opened.add([success(500)])
        assert opened.rebuild(str(tmp_path))["attempts"] == 3
        assert len(opened.select()) == 5
    assert len(list(tmp_path.glob("history.db.damaged-*"))) == 1


# -- what can be wrong with a database -------------------------------------------------------------------------------------------


def test_a_locked_database(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    url = database_url(str(tmp_path))
    with Index(url) as opened:
        opened.add([success(1)])
        holder = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IndexProblem, match=r"locked \(another process holds it; the next play brings these rows in\)"):
            opened.add([success(2)])
        holder.execute("ROLLBACK")
        holder.close()
        assert opened.add([success(2)]) == 1


def test_a_database_of_another_release(index: Index, tmp_path: Any) -> None:
    index.add([success(1)])
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("UPDATE mad_schema SET version = 99")
    connection.close()
    with pytest.raises(IndexProblem, match="schema 99, this one knows 2"):
        index.add([success(2)])
    with pytest.raises(IndexProblem, match="newer release of mad.engine"):
        index.select()


def test_a_place_that_cannot_be_written(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexProblem, match="cannot be made"):
        Index("sqlite:///%s/file/history.db" % tmp_path)
    (tmp_path / "history.db").mkdir()
    with Index(database_url(str(tmp_path))) as opened, pytest.raises(IndexProblem, match="unable to open"):
        opened.add([success(1)])


def test_a_full_and_a_read_only_disk(tmp_path: Any) -> None:
    components.require("root")  # who can mount a small disk
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "mad-test", str(disk)], check=False, capture_output=True)
    if mounted.returncode:
        components.absent("a tmpfs: it cannot be mounted here: %s" % mounted.stderr.decode())
    try:
        with Index(database_url(str(disk))) as opened:
            opened.add([success(1)])
            with pytest.raises(IndexProblem, match="its disk (is|fails or is) full"):
                opened.add([success(number) for number in range(1000)])
            assert len(opened.select()) == 1
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            assert opened.add([success(1)]) == 0
            with pytest.raises(IndexProblem, match="readonly|unable to open"):
                opened.add([success(2)])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:hunter2@host/db", "only SQLite and PostgreSQL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql+nodriver://user:hunter2@host/db", "cannot be used"),
        ("http://x", "cannot be used|only SQLite"),
    ],
)
def test_bad_urls_are_refused_without_their_password(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        Index(url)
    assert "hunter2" not in caught.value.message


def test_urls(tmp_path: Any) -> None:
    assert database_url("/r") == "sqlite:////r/history.db"
    assert database_url("/r", "/elsewhere/h.db") == "sqlite:////elsewhere/h.db"
    assert database_url("/r", "postgresql://h/db") == "postgresql://h/db"
    with Index(database_url("/r", str(tmp_path / "new" / "h.db"))) as opened:
        opened.add([success(1)])
    assert (tmp_path / "new" / "h.db").exists()


def test_the_tables_are_postgresql_too() -> None:
    """Only its text: a server is asked in another suite."""
    dialect = postgresql.dialect()
    table = str(CreateTable(schema.RESULTS).compile(dialect=dialect))
    assert "PRIMARY KEY (campaign, created, run_id, attempt, result)" in table
    assert "AUTOINCREMENT" not in table.upper() and "SERIAL" not in table.upper()
    for part in schema.RESULTS.indexes:
        str(CreateIndex(part).compile(dialect=dialect))
    str(sa.select(schema.RESULTS).compile(dialect=dialect))


def test_index_problems_are_errors_of_ours() -> None:
    assert issubclass(IndexProblem, MadError)
