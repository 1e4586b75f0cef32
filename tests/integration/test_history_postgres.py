# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history on a real PostgreSQL server: the same as on SQLite, writers at once, tables of version 1, and a server that says no."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import sqlalchemy as sa

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils.history import imports, query, schema
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, IndexProblem
from ansible_collections.mad.engine.tests.support.postgres import PASSWORD, Postgres
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success
from ansible_collections.mad.engine.tests.unit.plugins.plugin_utils.test_history_import import HEADER, line, written
from ansible_collections.mad.engine.tests.unit.plugins.plugin_utils.test_history_query import TEXTS_1, VERSION_1, fill

pytestmark = pytest.mark.real


def test_what_sqlite_does(postgres: Postgres, tmp_path: Any) -> None:
    url = postgres.url("same")
    assert query.rows(url) == []
    fill(url)
    fill(url)
    fill("sqlite:///%s/h.db" % tmp_path)
    assert query.rows(url) == query.rows("sqlite:///%s/h.db" % tmp_path)
    assert query.campaigns(url) == query.campaigns("sqlite:///%s/h.db" % tmp_path)
    assert [row["campaign"] for row in query.rows(url, last=2, before="c4", model="other")] == ["c1", "c2"]
    with Index(url) as index:
        assert index.add([success(1, model="a\0b" + "x" * 9000, args="\ud800'")]) == 1


def test_made_again_from_the_files(postgres: Postgres, tmp_path: Any) -> None:
    url = postgres.url("rebuilt")
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])
    for record in (success(1), crash(2)):
        campaign.save_result(record)
    with Index(url) as index:
        assert index.rebuild(str(tmp_path))["attempts"] == 2
    assert {row["created"] for row in query.rows(url)} == {1000.0}


def test_importing_twice(postgres: Postgres, tmp_path: Any) -> None:
    url = postgres.url("imported")
    path = written(tmp_path / "old", HEADER, *[line("m%d" % number) for number in range(2500)])
    assert imports.import_files(url, [path]).new == 2500
    assert imports.import_files(url, [path]).new == 0
    assert query.campaigns(url)[0]["results"] == 2500


def _write(url: str, number: int) -> None:
    with Index(url) as index:
        for run in range(5):
            index.add([success(run, campaign="c%d" % number)])


def test_eight_campaigns_at_once_lose_nothing(postgres: Postgres) -> None:
    url = postgres.url("shared")
    workers = [multiprocessing.get_context("fork").Process(target=_write, args=(url, number)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert len(query.rows(url)) == 40 and len(query.campaigns(url)) == 8


def test_tables_of_version_1(postgres: Postgres) -> None:
    url = postgres.url("older")
    postgres.sql(VERSION_1 % ", ".join("%s TEXT NOT NULL" % name for name in TEXTS_1), "older")
    texts = ", ".join("'gfx942'" if name == "gpu_architecture" else "'x'" if name == "model" else "''" for name in TEXTS_1)
    postgres.sql("INSERT INTO mad_results VALUES ('old', '%016x', 1, 1, %s, 1, 5.0, 1, 0, 1000, 2000, '{}')" % (1, texts), "older")
    (row,) = query.rows(url)
    assert (row["hardware"], row["created"], row["value"]) == ("gfx942", 0.0, 5.0)
    assert postgres.sql("SELECT version FROM mad_schema", "older") == str(schema.VERSION)
    with Index(url) as index:
        index.add([success(1, campaign="old")], 900.0)
    assert len(query.rows(url)) == 2


def test_a_newer_schema_is_refused(postgres: Postgres) -> None:
    url = postgres.url("newer")
    fill(url)
    postgres.sql("UPDATE mad_schema SET version = 99", "newer")
    for ask in (query.rows, query.campaigns, fill):
        with pytest.raises(IndexProblem, match="newer release of mad.engine.*schema 99"):
            ask(url)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("correct-horse", "wrong"), "mend user or password"),
        (("/refused", "/nobody"), "make the database or the role on the server"),
        (("127.0.0.1:", "127.0.0.1:1"), "server did not take us|cannot be used"),
    ],
)
def test_a_server_that_says_no(postgres: Postgres, change: tuple[str, str], words: str) -> None:
    if "refused" not in postgres.sql("SELECT datname FROM pg_database", "postgres"):
        postgres.url("refused")
    url = "postgresql://mad:%s@127.0.0.1:%d/refused" % (PASSWORD, postgres.port)
    with pytest.raises(MadError, match=words) as caught:
        query.rows(url.replace(*change))
    assert PASSWORD not in caught.value.message and "wrong-battery" not in caught.value.message


def test_a_role_that_may_not_write_and_a_read_only_server(postgres: Postgres) -> None:
    url = postgres.url("guarded")
    fill(url)
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'r'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", "guarded")
    reader = "postgresql://reader:r@127.0.0.1:%d/guarded" % postgres.port
    assert len(query.rows(reader)) == 7
    with Index(reader) as index, pytest.raises(IndexProblem, match="grant the role"):
        index.add([success(8)])
    postgres.sql("ALTER DATABASE guarded SET default_transaction_read_only = on", "guarded")
    with Index(url) as index, pytest.raises(IndexProblem, match="give the primary server"):
        index.add([success(8)])


def test_a_row_that_breaks_leaves_the_others_as_they_were(postgres: Postgres) -> None:
    url = postgres.url("broken")
    fill(url)
    with Index(url) as index, pytest.raises(IndexProblem, match="not-null"), index.writing() as connection:
        connection.execute(schema.RESULTS.delete())
        connection.execute(sa.text("INSERT INTO mad_campaigns (campaign, created) VALUES ('x', 0)"))
    assert len(query.rows(url)) == 7


def test_a_server_that_goes_away_during_an_import(postgres: Postgres, tmp_path: Any) -> None:
    url = postgres.url("dying")
    first = written(tmp_path / "first", HEADER, line("first"))
    assert imports.import_files(url, [first]).new == 1
    postgres.sql(
        "CREATE FUNCTION die() RETURNS trigger AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END' LANGUAGE plpgsql;"
        "CREATE TRIGGER die BEFORE INSERT ON mad_results FOR EACH ROW WHEN (NEW.model = 'm1500') EXECUTE FUNCTION die()",
        "dying",
    )
    path = written(tmp_path / "old", HEADER, *[line("m%d" % number) for number in range(2500)])
    with pytest.raises(IndexProblem, match="its server went away; import the file again then.* Nothing of the file is in it"):
        imports.import_files(url, [first, path])
    assert [row["model"] for row in query.rows(url)] == ["first"]
    postgres.sql("DROP TRIGGER die ON mad_results", "dying")
    assert imports.import_files(url, [first, path]).new == 2500


def _import(url: str, path: str, answers: Any) -> None:
    answers.put(imports.import_files(url, [path]).new)


def test_two_imports_of_one_file_at_once(postgres: Postgres, tmp_path: Any) -> None:
    path = written(tmp_path / "old", HEADER, *[line("m%d" % number) for number in range(1500)])
    for url in (postgres.url("twice"), "sqlite:///%s/h.db" % tmp_path):
        context = multiprocessing.get_context("spawn")
        answers: Any = context.Queue()
        workers = [context.Process(target=_import, args=(url, path, answers)) for dummy in range(2)]
        for worker in workers:
            worker.start()
        assert sorted(answers.get(timeout=120) for dummy in workers) == [0, 1500]
        for worker in workers:
            worker.join()
        assert len(query.rows(url)) == 1500
