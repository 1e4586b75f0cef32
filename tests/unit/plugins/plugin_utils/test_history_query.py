# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the history: filters, the last campaigns, campaigns of one name, attempts, and tables of version 1."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results.hardware import hardware_class, of_cells
from ansible_collections.mad.engine.plugins.plugin_utils.history import imports, query, schema
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, IndexProblem, database_url
from ansible_collections.mad.engine.tests.support.records import (
    FACTS,
    TIMES,
    crash,
    make_metric,
    make_outcome,
    make_parsed,
    make_run,
    run_id,
)

# The tables as release 0.1.0 made them.
VERSION_1 = """
CREATE TABLE mad_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
INSERT INTO mad_schema VALUES (1);
CREATE TABLE mad_results (campaign VARCHAR(64) NOT NULL, run_id VARCHAR(16) NOT NULL, attempt INTEGER NOT NULL, result INTEGER NOT NULL,
  %s, repeat INTEGER NOT NULL, value FLOAT, run_duration FLOAT, queue_duration FLOAT, started FLOAT, finished FLOAT, row_json TEXT NOT NULL,
  PRIMARY KEY (campaign, run_id, attempt, result));
CREATE INDEX mad_results_by_model ON mad_results (model, started);
"""
TEXTS_1 = [name for name in schema.TEXTS if name not in ("unit", "hardware")]


@pytest.fixture
def url(tmp_path: Any) -> str:
    return database_url(str(tmp_path))


def at(started: float, number: int = 1, **changes: Any) -> Dict[str, Any]:
    """A record that began at this moment."""
    times = {name: value - TIMES["started"] + started for name, value in TIMES.items()}
    return records.make_record(make_run(number, **changes), make_outcome(times=times), make_parsed(), FACTS)


def fill(url: str) -> None:
    with Index(url) as index:
        for number in range(1, 5):
            begun = 1000.0 * number
            some = [at(begun, campaign="c%d" % number), at(begun + 1, 2, campaign="c%d" % number, model="other")]
            index.add(some[: 1 if number == 3 else 2], begun)


def test_no_history_yet(url: str, tmp_path: Any) -> None:
    assert query.rows(url) == query.campaigns(url) == []
    assert os.listdir(tmp_path) == []  # asking makes nothing


def test_a_row_has_what_the_contract_says(url: str) -> None:
    fill(url)
    row = query.rows(url, campaign="c1", model="dummy")[0]
    assert tuple(row) == query.COLUMNS
    assert row["value"] == 14164.0 and row["unit"] == row["metric"] == "samples_per_second" and row["better"] == "higher"
    assert (row["campaign"], row["created"], row["host"], row["status"], row["source"]) == ("c1", 1000.0, "n1", "SUCCESS", "record")
    assert row["hardware"] == hardware_class(FACTS) == "8x MI300X (gfx942)"
    assert query.rows(url, campaign="c1", model="dummy", cells=True)[0]["cells"]["tags"] == "dummies,quick"


def test_filters(url: str) -> None:
    fill(url)
    assert len(query.rows(url)) == 7
    assert [row["campaign"] for row in query.rows(url, model="other")] == ["c1", "c2", "c4"]
    assert len(query.rows(url, model=["other", "dummy"], campaign=["c1", "c2"])) == 4
    assert query.rows(url, metric="nobody") == query.rows(url, campaign="nobody") == []
    assert len(query.rows(url, run_id=run_id(2), status="SUCCESS", hardware="8x MI300X (gfx942)", host="n1")) == 3
    with pytest.raises(InvalidInput, match="cannot be asked by modell"):
        query.rows(url, modell="x")


def test_the_last_campaigns(url: str) -> None:
    fill(url)
    assert [entry["campaign"] for entry in query.campaigns(url)] == ["c4", "c3", "c2", "c1"]
    assert [entry["campaign"] for entry in query.campaigns(url, last=2, before="c4")] == ["c3", "c2"]
    assert [entry["campaign"] for entry in query.campaigns(url, last=2, before="c4", model="other")] == ["c2", "c1"]
    assert [row["campaign"] for row in query.rows(url, last=2, model="other")] == ["c2", "c4"]
    assert query.campaigns(url, campaign="c1")[0]["results"] == 2
    with pytest.raises(InvalidInput, match="no campaign 'c9'"):
        query.campaigns(url, before="c9")


def test_more_campaigns_than_sqlite_nests_conditions(url: str, tmp_path: Any) -> None:
    lines = ["c%04d,m,1,%016x,1,1,2026-01-01T00:00:00Z" % (number, number) for number in range(1010)]
    (tmp_path / "perf.csv").write_text("\n".join(["campaign,model,performance,run_id,attempt,result,started", *lines]))
    imports.import_files(url, [str(tmp_path / "perf.csv")])
    names = ["c%04d" % number for number in range(1005)]
    assert [row["campaign"] for row in query.rows(url, campaign=names)] == names
    assert len(query.rows(url, last=1009)) == 1009


def test_campaigns_of_one_name_do_not_overwrite_each_other(url: str) -> None:
    with Index(url) as index:
        index.add([at(1000.0, campaign="nightly")], 900.0)
        index.add([at(2000.0, campaign="nightly"), at(2001.0, 2, campaign="nightly")], 1900.0)
        assert index.add([at(1000.0, campaign="nightly")], 900.0) == 0
        assert len(index.select("nightly")) == 3
    assert [entry["created"] for entry in query.campaigns(url)] == [1900.0, 900.0]
    assert {row["created"] for row in query.rows(url, campaign="nightly")} == {1900.0}
    assert {row["created"] for row in query.rows(url, campaign="nightly", created=900.0)} == {900.0}
    assert len(query.rows(url)) == 3


def test_of_a_run_only_the_newest_attempt(url: str) -> None:
    several = records.make_record(
        make_run(1, attempt=2), make_outcome(), make_parsed(metrics=[make_metric(row=name) for name in "ab"]), FACTS
    )
    with Index(url) as index:
        index.add([crash(1), several])
    assert [(row["attempt"], row["result"]) for row in query.rows(url)] == [(2, 1), (2, 2)]
    assert len(query.rows(url, newest=False)) == 3


def test_a_rewritten_campaign_keeps_one_row_in_the_list(url: str) -> None:
    with Index(url) as index:
        index.add([at(1000.0)], 900.0)
        index.add([at(3000.0, attempt=2)], 900.0)
    (found,) = query.campaigns(url)
    assert (found["started"], found["results"], found["finished"]) == (1000.0, 2, 3060.25)


# -- versions of the tables ----------------------------------------------------------------------------------------------------


def version_1(path: Any, count: int = 3) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1 % ", ".join("%s TEXT NOT NULL" % name for name in TEXTS_1))
    for number in range(1, count + 1):
        cells = dict.fromkeys(TEXTS_1, "")
        cells.update(
            model="dummy", metric="tokens", gpu_architecture="gfx942" if number > 1 else "N/A", gpu_product="MI300X" if number > 2 else ""
        )
        values = ["old", run_id(number), 1, 1, *cells.values(), 1, 5.0, 1.0, 0.0, 1000.0 + number, 2000.0, json.dumps({"model": "dummy"})]
        connection.execute("INSERT INTO mad_results VALUES (%s)" % ",".join("?" * len(values)), values)
    connection.commit()
    connection.close()


def test_tables_of_version_1_are_migrated_when_they_are_read(url: str, tmp_path: Any) -> None:
    version_1(tmp_path / "history.db")
    found = query.rows(url)
    assert [(row["value"], row["unit"], row["hardware"], row["created"]) for row in found] == [
        (5.0, "tokens", "", 0.0), (5.0, "tokens", "gfx942", 0.0), (5.0, "tokens", "MI300X", 0.0),
    ]  # fmt: skip
    assert query.campaigns(url) == [
        {"campaign": "old", "created": 0.0, "started": 1001.0, "finished": 2000.0, "results": 3, "source": "record"}
    ]
    with sqlite3.connect(tmp_path / "history.db") as connection:
        assert connection.execute("SELECT version FROM mad_schema").fetchall() == [(schema.VERSION,)]
    connection.close()


def test_what_a_campaign_of_version_1_brings_again_replaces_its_rows(url: str, tmp_path: Any) -> None:
    version_1(tmp_path / "history.db")
    with Index(url) as index:
        index.add([at(1001.0, 1, campaign="old"), at(9000.0, 2, campaign="old")], 900.0)
    found = query.rows(url)
    assert len(found) == 4  # run 2 is another campaign's of that name: it began at another time
    assert {(row["run_id"], row["created"]) for row in found} == {
        (run_id(1), 900.0), (run_id(2), 900.0), (run_id(2), 0.0), (run_id(3), 0.0),
    }  # fmt: skip


def test_a_migration_that_breaks_leaves_the_old_tables(url: str, tmp_path: Any) -> None:
    version_1(tmp_path / "history.db")
    with sqlite3.connect(tmp_path / "history.db") as connection:
        connection.execute("DROP INDEX mad_results_by_model")
    connection.close()
    for _time in range(2):
        with pytest.raises(IndexProblem, match="no such index"):
            query.rows(url)
    with sqlite3.connect(tmp_path / "history.db") as connection:
        assert connection.execute("SELECT count(*) FROM mad_results").fetchone() == (3,)
    connection.close()


# -- hardware classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, ""),
        ({"cpu": {"model": "AMD  EPYC", "count": 64}, "gpu": {"vendor": "NONE", "count": 0}}, "64x AMD EPYC"),
        ({"gpu": {"vendor": "NVIDIA", "count": 4, "product": "A100", "architecture": "A100"}}, "4x A100"),
        ({"gpu": {"vendor": "AMD", "count": 0}, "cpu": {"model": "X", "count": 2}}, "0x AMD GPU, 2x X"),
        ({"gpu": {"vendor": "AMD", "count": True, "architecture": "gfx90a"}}, "gfx90a"),
    ],
)
def test_hardware_classes(facts: Dict[str, Any], text: str) -> None:
    assert hardware_class(facts) == text


def test_the_class_of_a_foreign_row_is_what_it_tells() -> None:
    assert of_cells({"gpu_architecture": "gfx942"}) == "gfx942"
    assert of_cells({"gpu_architecture": "N/A"}) == ""
    assert of_cells({"hardware": "8x A", "gpu_product": "A"}) == "8x A"
