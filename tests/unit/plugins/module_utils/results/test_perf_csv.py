# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of multiple_results: what counts as a result, what is refused and how it is said."""

from __future__ import annotations

import os
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.results import perf_csv
from ansible_collections.mad.engine.plugins.module_utils.results.perf_csv import parse_results


@pytest.fixture
def read(tmp_path: Any) -> Any:
    def run(data: Any) -> List[Any]:
        path = tmp_path / "perf_x.csv"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return parse_results(str(path), "dummy_multi", "perf_x.csv")

    return run


def test_the_reference_case(read: Any) -> None:
    metrics = read("model,temperature,performance,metric\n1,20,0.1,samples_per_sec\n2,30,.5,samples_per_sec\n")
    assert [(entry["row"], entry["value"], entry["unit"], entry["extra"]) for entry in metrics] == [
        ("1", 0.1, "samples_per_sec", {"temperature": "20"}),
        ("2", 0.5, "samples_per_sec", {"temperature": "30"}),
    ]
    assert metrics[0]["better"] == "higher"


def test_text_is_a_result_without_a_number(read: Any) -> None:
    (entry,) = read("model,performance,metric\ncpu,14-18|32|44|62,cpu\n")
    assert (entry["value"], entry["text"]) == (None, "14-18|32|44|62")


@pytest.mark.parametrize("cell", ["", "  ", "nan", "NaN", "None", "N/A", "null", "inf", "-Infinity", "1e999"])
def test_nothing_is_no_result(read: Any, cell: str) -> None:
    (entry,) = read("model,performance,metric\na,%s,x\n" % cell)
    assert (entry["value"], entry["text"]) == (None, "")


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfmodel, performance ,metric\r\na,1,x\r\n",
        b"model,performance,metric\ra,1,x\r",
        b'"model", "performance", "metric"\n"a", "1", "x"\n\n,,\n',
        "model,performance,metric\na,1,x\n".encode("utf-16"),
        b"model,performance,metric\na,1,x,,\n",
    ],
)
def test_what_spreadsheets_make_of_it(read: Any, data: bytes) -> None:
    assert [(entry["row"], entry["text"], entry["unit"]) for entry in read(data)] == [("a", "1", "x")]


def test_names_may_repeat_and_be_absent(read: Any) -> None:
    metrics = read("model,performance,metric,t,t,t\na,1,x,p,q,r\na,2,x\n,3,\n")
    assert [(entry["row"], entry["name"]) for entry in metrics] == [("a", "x"), ("a", "x"), ("3", "performance")]
    assert metrics[0]["extra"] == {"t": "p", "t.1": "q", "t.2": "r"}


@pytest.mark.parametrize(
    ("data", "failure_class", "words"),
    [
        ("performance,metric\n1,x\n", "parse", ["lack the columns model", "columns found: 'performance', 'metric'"]),
        ("model,metric\n", "parse", ["lack the columns performance", "perf_x.csv", "dummy_multi"]),
        ("", "parse", ["columns found: none"]),
        ("model,performance,metric\n", "no_metric", ["no row"]),
        ("model,performance,performance,metric\na,1,2,x\n", "parse", ["two columns 'performance'"]),
        ("model,performance,metric\na,1,x,surplus\n", "parse", ["4 cells in line 2"]),
        ("model,performance,metric\na,1,%s\n" % ("x" * 200000), "parse", ["not a CSV file", "line 2"]),
        (b"\x7fELF\0\0\0", "parse", ["lack the columns"]),
    ],
)
def test_refusals_name_what_is_wrong(read: Any, data: Any, failure_class: str, words: List[str]) -> None:
    with pytest.raises(MadError) as caught:
        read(data)
    assert caught.value.failure_class == failure_class
    assert all(word in caught.value.message for word in words), caught.value.message


def test_no_file(tmp_path: Any) -> None:
    for path in ("", str(tmp_path / "gone.csv")):
        with pytest.raises(MadError, match="were not written") as caught:
            parse_results(path, "m", "gone.csv")
        assert caught.value.failure_class == "no_metric"


def test_what_is_not_a_file(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv"):
        with pytest.raises(MadError, match="not a regular file|cannot be read"):
            parse_results(str(tmp_path / name), "m")


def test_a_link_may_not_lead_out_of_the_run(tmp_path: Any) -> None:
    (tmp_path / "secret.csv").write_text("hunter2:x:0\n")
    work = tmp_path / "work"
    work.mkdir()
    (work / "data.csv").write_text("model,performance,metric\na,1,x\n")
    (work / "out.csv").symlink_to(tmp_path / "secret.csv")
    (work / "in.csv").symlink_to("data.csv")
    with pytest.raises(MadError, match="leads out") as caught:
        parse_results(str(work / "out.csv"), "m", inside=str(work))
    assert "hunter2" not in caught.value.message
    assert parse_results(str(work / "in.csv"), "m", inside=str(work))[0]["text"] == "1"


def test_huge_files_are_refused(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "big.csv"
    path.write_text("model,performance,metric\n" + "a,1,x\n" * 11)
    monkeypatch.setattr(perf_csv, "MAX_ROWS", 10)
    with pytest.raises(MadError, match="more than 10 rows"):
        parse_results(str(path), "m")
    monkeypatch.setattr(perf_csv, "MAX_BYTES", 20)
    with pytest.raises(MadError, match="larger than"):
        parse_results(str(path), "m")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path_factory: Any, data: bytes, headed: bool) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes((b"model,performance,metric\n" if headed else b"") + data)
    try:
        metrics = parse_results(str(path), "m")
    except MadError as error:
        assert error.failure_class in ("parse", "no_metric")
    else:
        assert metrics
