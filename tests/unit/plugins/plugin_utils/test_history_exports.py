# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports, each read back by a program that was not written here."""

from __future__ import annotations

import csv
import json
import os
from typing import Any

import junitparser
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.plugin_utils.history import exports, imports, openmetrics, query
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.tests.support.records import (
    CAMPAIGN,
    FACTS,
    crash,
    make_metric,
    make_outcome,
    make_parsed,
    make_run,
    success,
)

HOSTILE = "a\"b\\c\nd<script>&'=1+1\x01\u202e"


@pytest.fixture
def url(tmp_path: Any) -> str:
    url = database_url(str(tmp_path / "results"))
    several = records.make_record(
        make_run(3, model="multi"), make_outcome(), make_parsed(metrics=[make_metric(row=name, extra={"t": "4"}) for name in "ab"]), FACTS
    )
    skipped = records.make_unrun_record(make_run(4, model="never"), "", "stopped")
    with Index(url) as index:
        index.add([success(1), crash(2, model=HOSTILE, args="=2"), several, skipped], 900.0)
    return url


def exported(url: str, path: Any, **wanted: Any) -> str:
    count, changed = exports.export(url, str(path), **wanted)
    assert changed and count == len(query.rows(url, **wanted))
    assert exports.export(url, str(path), **wanted) == (count, False)
    assert os.listdir(path.parent) == [path.name]
    return str(path)


def test_csv_is_a_perf_csv(url: str, tmp_path: Any) -> None:
    with open(exported(url, tmp_path / "o" / "all.csv"), encoding="utf-8", newline="") as stream:
        text = stream.read()
    read = list(csv.reader(text.splitlines(keepends=True)))
    assert read[0] == [*rows.COLUMNS, "t"] and len(read) == 6
    found = rows.from_csv(text)
    assert [row["model"] for row in found if row["status"] == "FAILURE"] == [HOSTILE]
    assert not any(cell.startswith("=") for line in read for cell in line)
    assert imports.import_files(url, [str(tmp_path / "o" / "all.csv")]).new == 0


def test_json_lines(url: str, tmp_path: Any) -> None:
    with open(exported(url, tmp_path / "o" / "all.jsonl", campaign=CAMPAIGN), encoding="utf-8") as stream:
        found = [json.loads(text) for text in stream.read().split("\n") if text]
    first = next(row for row in found if row["model"] == "dummy")
    assert (first["value"], first["started"], first["attempt"], first["tags"]) == (14164.0, 1010.0, 1, "dummies,quick")
    assert {row["value"] for row in found if row["status"] != "SUCCESS"} == {None}


def test_parquet(url: str, tmp_path: Any) -> None:
    table = pyarrow.parquet.read_table(exported(url, tmp_path / "o" / "all.parquet"))
    assert table.num_rows == 5
    assert {"model", "value", "started", "hardware", "created"} <= set(table.column_names)
    found = table.to_pylist()
    assert {row["model"] for row in found} == {"dummy", HOSTILE, "multi_a", "multi_b", "never"}
    assert next(row["started"].isoformat() for row in found if row["model"] == "dummy") == "1970-01-01T00:16:50+00:00"
    assert next(row["started"] for row in found if row["model"] == "never") is None


def test_junit(url: str, tmp_path: Any) -> None:
    xml = junitparser.JUnitXml.fromfile(exported(url, tmp_path / "o" / "junit.xml"))
    (suite,) = list(xml)
    assert (suite.name, suite.tests, suite.failures, suite.skipped, suite.errors) == (CAMPAIGN, 5, 1, 1, 0)
    cases = {case.name: case for case in suite}
    (failure,) = next(case.result for name, case in cases.items() if "<script>" in name)
    assert (failure.type, failure.message) == ("crash", "exit code 3")
    good = cases["dummy --a 1 samples_per_second"]
    assert (good.classname, good.time, good.result, good.system_out) == ("n1", 60.25, [], "14164 samples_per_second")


def test_openmetrics(url: str, tmp_path: Any) -> None:
    with Index(url) as index:
        index.add([success(9, attempt=2, model="dummy")], 950.0)
    with open(exported(url, tmp_path / "o" / "mad.prom"), encoding="utf-8") as stream:
        text = stream.read()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {family.name for family in openmetrics.FAMILIES}
    values = {sample.labels["model"]: sample.value for sample in families["mad_performance"].samples}
    assert values == {"dummy": 14164.0, "multi_a": 14164.0, "multi_b": 14164.0}
    states = {sample.labels["model"]: sample.value for sample in families["mad_success"].samples}
    assert states == {"dummy": 1.0, HOSTILE: 0.0, "multi_a": 1.0, "multi_b": 1.0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False, allow_infinity=False)), max_size=5))
def test_any_text_and_number_is_openmetrics(found: Any) -> None:
    import io

    stream = io.BytesIO()
    openmetrics.write(
        stream,
        (
            {**dict.fromkeys(openmetrics.LABELS, text), "value": value, "status": "SUCCESS", "run_duration": 1.0, "finished": None}
            for text, value in found
        ),
    )
    families = {family.name: family for family in text_string_to_metric_families(stream.getvalue().decode("utf-8"))}
    assert len(families["mad_performance"].samples) == len({text for text, _value in found})


def test_an_empty_history_is_an_empty_file_of_each_form(tmp_path: Any) -> None:
    empty = database_url(str(tmp_path / "none"))
    for ending in exports.WRITERS:
        assert exports.export(empty, str(tmp_path / ("x" + ending))) == (0, True)
    assert (tmp_path / "x.csv").read_text() == ",".join(rows.COLUMNS) + "\n"
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "x.xml")).tests == 0


def test_what_cannot_be_written_is_named(url: str, tmp_path: Any) -> None:
    with pytest.raises(InvalidInput, match=r"x\.pdf: the ending says the format; expected one of \.csv, \.jsonl"):
        exports.export(url, str(tmp_path / "x.pdf"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        exports.export(url, str(tmp_path / "file" / "x.csv"))


def test_only_looking_writes_nothing(url: str, tmp_path: Any) -> None:
    assert exports.export(url, str(tmp_path / "new" / "x.csv"), write=False) == (5, True)
    assert not (tmp_path / "new").exists()
