# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Importing perf.csv files: of madengine in all its forms, of ours, broken ones, whole folders, twice."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import check_name
from ansible_collections.mad.engine.plugins.plugin_utils.history import entries, imports, query
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.tests.support.records import CAMPAIGN, crash, success

HEADER = ",".join(rows.MADENGINE_COLUMNS)


def line(model: str = "dummy", performance: str = "14164", status: str = "SUCCESS", **cells: str) -> str:
    """A line as madengine writes it."""
    cells = {"performance": performance, "status": status, "metric": "samples_per_second", "n_gpus": "2", "machine_name": "node1", **cells}
    return ",".join({**cells, "model": model, "gpu_architecture": "gfx942"}.get(name, "") for name in rows.MADENGINE_COLUMNS)


@pytest.fixture
def url(tmp_path: Any) -> str:
    return database_url(str(tmp_path / "results"))


def written(folder: pathlib.Path, *lines: str, name: str = "perf.csv", end: str = "\n") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(("\n".join(lines) + end).encode("utf-8"))
    return str(folder / name)


def bring(url: str, *paths: str, **options: Any) -> imports.Report:
    return imports.import_files(url, paths, **options)


def test_a_file_of_madengine(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "nightly", HEADER, line(test_duration="3.5s"), line("other", "2.0", n_gpus="2.0"), line("bad", "", "FAILURE"))
    report = bring(url, path)
    assert (report.new, report.files[0].campaign, report.files[0].problems, report.files[0].notes) == (3, "nightly", [], [])
    found = {row["model"]: row for row in query.rows(url)}
    assert (found["dummy"]["value"], found["dummy"]["run_duration"], found["dummy"]["hardware"]) == (14164.0, 3.5, "gfx942")
    assert (found["dummy"]["host"], found["dummy"]["better"], found["dummy"]["source"]) == ("node1", "higher", "import")
    assert (found["other"]["value"], found["bad"]["value"], found["bad"]["status"]) == (2.0, None, "FAILURE")
    (campaign,) = query.campaigns(url)
    assert campaign["results"] == 3 and campaign["started"] > 1.7e9  # no time in the file: the file's own


def test_a_second_time_nothing_is_new(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line(), line(), line("other"))
    assert bring(url, path).new == 3  # two equal rows are two runs
    assert [file.known for file in bring(url, path).files] == [3]
    written(tmp_path / "a", HEADER, line(), line(), line("other"), line("new"))
    assert bring(url, path).new == 1


def test_a_file_that_was_written_again_in_another_form_brings_nothing_twice(url: str, tmp_path: Any) -> None:
    bring(url, written(tmp_path / "a", HEADER, line(n_gpus="2", performance="14164")))
    changed = ",".join(reversed(rows.MADENGINE_COLUMNS)) + ",configs"
    cells = ",".join(reversed(line(n_gpus="2.0", performance="14164.0").split(","))) + ",nan"
    assert bring(url, written(tmp_path / "a", changed, cells)).new == 0


def test_what_is_not_understood_is_named(url: str, tmp_path: Any) -> None:
    path = written(
        tmp_path / "a", HEADER, line(), "a,b,c", line("", "5"), line("x", "14-18|32"), line("y", status="fine"), line("z", ""),
        line("w", test_duration="soon"), line("half").rpartition(",")[0].rpartition(",")[0], end="",
    )  # fmt: skip
    (file,) = bring(url, path).files
    assert file.rows == 5
    text = "\n".join(file.problems)
    for part in (
        "line 3: 3 cells for 29 columns", "line 4: it names no model", "line 9: half a last line (27 of 29 cells)",
        "performance is no number, kept as text without a value: 1 times, first in line 5: '14-18|32'",
        "status is none of SUCCESS, FAILURE, SKIPPED, the row counts as FAILURE: 1 times, first in line 6: 'fine'",
        "status SUCCESS without a performance", "test_duration is no number",
    ):  # fmt: skip
        assert part in text, text
    found = {row["model"]: row for row in query.rows(url)}
    assert (found["x"]["performance"], found["x"]["value"], found["x"]["status"]) == ("14-18|32", None, "SUCCESS")
    assert (found["y"]["status"], found["y"]["failure_class"]) == ("FAILURE", "parse")
    assert (found["z"]["status"], found["z"]["failure_class"]) == ("FAILURE", "no_metric")


def test_half_a_last_line_comes_when_it_is_whole(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line(), line("late")[:10], end="")
    assert bring(url, path).new == 1
    written(tmp_path / "a", HEADER, line(), line("late"), end="")
    report = bring(url, path)
    assert (report.new, report.files[0].problems) == (1, [])


def test_changed_headers(url: str, tmp_path: Any) -> None:
    path = written(
        tmp_path / "a", "Model Name, PERFORMANCE ,metric,Status,temperature,temperature,", "m,1,x_per_second,SUCCESS,40,41,",
        "model,performance,status", "n,2,success",
    )  # fmt: skip
    (file,) = bring(url, path).files
    assert (file.rows, file.problems) == (2, [])
    assert any("'Model Name' is read as model" in note for note in file.notes)
    assert any("temperature, temperature.1" in note for note in file.notes)
    found = query.rows(url, cells=True)
    assert [(row["model"], row["value"], row["status"]) for row in sorted(found, key=lambda row: row["model"])] == [
        ("m", 1.0, "SUCCESS"), ("n", 2.0, "SUCCESS"),
    ]  # fmt: skip
    assert next(row for row in found if row["model"] == "m")["cells"]["temperature.1"] == "41"


def test_formula_cells_are_text_and_stay_harmless(url: str, tmp_path: Any) -> None:
    bring(url, written(tmp_path / "a", HEADER, line("=cmd|' /C calc'!A0"), line("'=1+1"), line("'@x")))
    assert sorted(row["model"] for row in query.rows(url)) == ["=1+1", "=cmd|' /C calc'!A0", "@x"]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"\xff\xfe\x00", b"x" * 300000, b"model\nx\n", b"\0\0\0\n", b'model,"performance\n' + b"x" * 200000]
)
def test_a_file_that_is_none_is_refused_by_name(url: str, tmp_path: Any, data: bytes) -> None:
    path = tmp_path / "perf.csv"
    path.write_bytes(data)
    if data.strip():
        with pytest.raises(InvalidInput, match=r"perf\.csv"):
            bring(url, str(path))
    else:
        assert bring(url, str(path)).new == 0
    with pytest.raises(InvalidInput, match="nobody.csv cannot be read: No such file"):
        bring(url, str(tmp_path / "nobody.csv"))


def test_a_quote_that_is_never_closed_costs_what_it_swallows(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line(), '"' + line("open"), *[line("m%d" % number) for number in range(3000)], end="")
    (file,) = bring(url, path).files
    assert file.rows > 500
    assert any("never closed" in text for text in file.problems)


def test_utf_16_and_bytes_that_are_no_text(url: str, tmp_path: Any) -> None:
    (tmp_path / "u.csv").write_bytes((HEADER + "\n" + line("\u00fc") + "\n").encode("utf-16"))
    (tmp_path / "b.csv").write_bytes(HEADER.encode() + b"\n" + line("m").encode().replace(b"m,", b"m\xff\0,", 1) + b"\n")
    assert bring(url, str(tmp_path / "u.csv"), str(tmp_path / "b.csv")).new == 2
    assert sorted(row["model"] for row in query.rows(url)) == ["m\ufffd\ufffd", "\u00fc"]


def test_whole_numbers_that_no_database_holds_are_no_key(url: str, tmp_path: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(
        "model,performance,status,repeat,campaign,run_id,attempt,result\n"
        "m,1,SUCCESS,1e300,c,0123456789abcdef,1e300,1\nm,2,SUCCESS,-7,c,0123456789abcdef,1,99999999999\n",
        encoding="utf-8",
    )
    assert imports.import_files(url, [str(path)], "given").new == 2
    assert [(row["campaign"], row["attempt"], row["result"], row["repeat"]) for row in query.rows(url)] == [("given", 1, 1, 1)] * 2


_CELL = st.text(max_size=9) | st.sampled_from(["", "%", "%s", '"', "\\", "\\u0041", "a b", "\0", "\ud800", "ä", "1.50", "=1"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["model", "args", "%d"]), _CELL))
def test_a_row_is_kept_as_json_would_have_it(cells: dict[str, str]) -> None:
    kept = entries.of_row(cells)
    told = {name: text for name, text in cells.items() if text}
    assert kept["row_json"] == json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert kept["model"] == entries.storable(cells.get("model", "")) and kept["args"] == entries.storable(cells.get("args", ""))


def test_the_name_of_a_row_is_for_ever(tmp_path: Any) -> None:
    """Another one would bring every imported row in a second time."""
    (tmp_path / "perf.csv").write_text("performance,model,100%\n1.50,m,x\n", encoding="utf-8")
    assert [entry["run_id"] for entry in imports.entries_of([str(tmp_path / "perf.csv")])] == ["e8068dbda7801f5f"]


def test_a_folder(url: str, tmp_path: Any) -> None:
    for day in ("01", "02"):
        written(tmp_path / "all" / day, HEADER, line(), line("other"))
    written(tmp_path / "all", HEADER, line("top"), name="old.csv")
    written(tmp_path / "all" / "01", "a,b", "1,2", name="notes.csv")
    written(tmp_path / "all", "model: x", name="readme.txt")
    report = bring(url, str(tmp_path / "all"))
    assert report.new == 5 and bring(url, str(tmp_path / "all")).new == 0
    assert sorted(entry["campaign"] for entry in query.campaigns(url)) == ["01", "02", "old"]
    assert len(report.skipped) == 1 and "notes.csv is not a perf.csv" in report.skipped[0]
    assert bring(url, str(tmp_path / "all"), campaign="mine").new == 3  # both days say the same, and now they are one campaign


def ours(*records: Any) -> list[str]:
    entries = [row for record in records for row in rows.rows(record)]
    return rows.to_csv(rows.header(entries), entries).splitlines()


def test_a_file_of_ours_keeps_its_keys_and_what_the_history_holds_stays(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "copy", *ours(success(1), crash(2)))
    assert bring(url, path).new == 2
    assert [entry["campaign"] for entry in query.campaigns(url)] == [CAMPAIGN]
    with Index(url) as index:
        index.add([success(1), crash(2)], 900.0)
    found = query.rows(url)
    assert {(row["source"], row["created"]) for row in found} == {("record", 900.0)} and len(found) == 2
    assert bring(url, path).new == 0
    assert len(query.campaigns(url)) == 1


def test_a_campaign_of_the_same_name_elsewhere_is_another_one(url: str, tmp_path: Any) -> None:
    with Index(url) as index:
        index.add([success(1)], 900.0)
    other = [text.replace("1970-01-01T00:1", "1980-01-01T00:1") for text in ours(success(1))]
    assert bring(url, written(tmp_path / "other", *other)).new == 1
    assert len(query.campaigns(url)) == 2 and len(query.rows(url)) == 2


def test_only_looking_writes_nothing(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line())
    assert bring(url, path, write=False).new == 1
    assert query.rows(url) == []
    bring(url, path)
    assert bring(url, path, write=False).new == 0


def test_rows_of_a_file_without_a_history(tmp_path: Any) -> None:
    (row,) = imports.rows_of_file(written(tmp_path / "a", HEADER, line()))
    assert tuple(row) == query.COLUMNS
    assert (row["campaign"], row["value"], row["model"]) == ("a", 14164.0, "dummy")


def test_the_report_for_a_person(url: str, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line(), "x")
    assert bring(url, path).lines() == [
        "%s: 1 rows, 1 new, 0 known, campaign a" % path,
        "  not understood: line 3: 1 cells for 29 columns",
    ]


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_every_folder_has_a_name(name: str) -> None:
    folder = "/x/" + name.replace("\0", "").replace("/", "_")
    assert check_name(imports.campaign_name(folder + "/perf.csv", "/x"))
    assert imports.campaign_name(folder + "/perf.csv", "/x") == imports.campaign_name(folder + "/perf.csv", "/x")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_whatever_stands_in_a_file_is_rows_or_an_error_of_ours(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "perf.csv"
    path.write_bytes(b"model,performance,status\n" + data)
    for row in imports.rows_of_file(str(path)):
        assert row["model"] and row["status"] in ("SUCCESS", "FAILURE", "SKIPPED")
