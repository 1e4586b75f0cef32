# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of perf.csv: madengine's columns, golden text, formulas, round trips."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import Any, Dict, List

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import NUMBER
from ansible_collections.mad.engine.tests.support import golden
from ansible_collections.mad.engine.tests.support.records import FACTS, crash, make_metric, make_outcome, make_parsed, make_run, success

GOLDEN = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, os.pardir, "golden", "rows.csv")
# Copied from the reference, section 4.12, by number.
REFERENCE = """
model n_gpus nnodes gpus_per_node training_precision pipeline args tags docker_file base_docker docker_sha docker_image
git_commit machine_name deployment_type launcher gpu_architecture performance metric relative_change status
build_duration test_duration dataname data_provider_type data_size data_download_duration build_number
additional_docker_run_options
""".split()


def several(**outcome: Any) -> Dict[str, Any]:
    metrics = [
        make_metric(row="1", extra={"temperature": "20", "status": "fine"}),
        make_metric(row="2", value=None, text="", extra={"temperature": "30"}),
        make_metric(row="cpu", value=None, text="14-18|32", unit="cpu", better=""),
    ]
    return records.make_record(make_run(2, model="dummy_multi"), make_outcome(**outcome), make_parsed(metrics=metrics), FACTS)


def all_kinds() -> List[Dict[str, Any]]:
    skipped = records.make_planned_record(make_run(4, outcome={"status": "SKIPPED", "reason": "deprecated"}))
    lost = records.make_unrun_record(make_run(5, place={"host": "n2"}), "infra", "unreachable: no route")
    hostile = success(6, args='=cmd|\' /C calc\'!A0, "x"\nsecond line', image={"given": True, "name": "IMG"})
    cpu = success(7, image=None, runtime="host", launcher={"name": "torchrun", "nnodes": 2, "nproc_per_node": 4}, gpus={"count": 8})
    return [success(1), several(), crash(3), skipped, lost, hostile, cpu]


def test_the_first_29_columns_are_madengines() -> None:
    assert len(REFERENCE) == 29
    assert list(rows.COLUMNS[:29]) == REFERENCE
    assert len(set(rows.COLUMNS)) == len(rows.COLUMNS)


def test_golden() -> None:
    entries = [row for record in all_kinds() for row in rows.rows(record)]
    text = rows.to_csv(rows.header(entries), entries)
    golden.check(GOLDEN, text)


def test_one_row_of_one_metric() -> None:
    (row,) = rows.rows(success())
    expected = {"model": "dummy", "performance": "14164", "metric": "samples_per_second", "status": "SUCCESS", "deployment_type": "local"}
    expected.update(launcher="docker", nnodes="1", n_gpus="2", gpus_per_node="2", machine_name="node-1", gpu_architecture="gfx942")
    expected.update(tags="dummies,quick", test_duration="60.25", build_duration="3.5", build_number="7", relative_change="")
    expected.update(queue_duration="7.5", stage_duration="2.5", started="1970-01-01T00:16:50Z", host="n1", gpus="0,1", exit_code="0")
    assert {key: row[key] for key in expected} == expected


def test_rows_of_multiple_results() -> None:
    first, second, third = rows.rows(several())
    assert [row["model"] for row in (first, second, third)] == ["dummy_multi_1", "dummy_multi_2", "dummy_multi_cpu"]
    assert [row["status"] for row in (first, second, third)] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert (second["failure_class"], first["failure_class"], third["performance"]) == ("no_metric", "", "14-18|32")
    assert first["temperature"] == "20"
    assert json.loads(first["extra"]) == {"status": "fine", "temperature": "20"}
    assert {row["status"] for row in rows.rows(several(exit_code=1))} == {"FAILURE"}


def test_a_printed_number_stays_on_failure() -> None:
    record = records.make_record(make_run(), make_outcome(exit_code=3), make_parsed(), FACTS)
    (row,) = rows.rows(record)
    assert (row["status"], row["performance"], row["failure_class"]) == ("FAILURE", "14164", "crash")


def test_the_header_does_not_depend_on_contents() -> None:
    plain, further = rows.header(rows.rows(success())), rows.header(rows.rows(several()))
    assert plain == list(rows.COLUMNS)
    assert further == [*rows.COLUMNS, "temperature"]
    assert rows.header(rows.rows(success()), known=["model", "old", "performance"])[:3] == ["model", "old", "performance"]


HOSTILE = st.text(st.sampled_from("=+-@\t\r\n'\"; ,a1.e\0\uff1d\u00e4"), max_size=8) | st.text(max_size=30)


@settings(max_examples=400, deadline=None)
@given(HOSTILE)
@example("-1")
@example("'-1")
@example("''=x")
@example("+1.5e3")
def test_no_cell_is_a_formula_and_every_cell_comes_back(text: str) -> None:
    cell = rows.neutral(text)
    is_number = NUMBER.match(text)
    assert not cell or cell[0] not in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20" or is_number
    assert not is_number or cell == text
    assert rows.restore(cell) == text.replace("\0", "\ufffd")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(("model", "args", "reason"), HOSTILE)), max_size=5))
def test_csv_round_trip(entries: List[Dict[str, str]]) -> None:
    text = rows.to_csv(["model", "args", "reason"], entries)
    again = rows.from_csv(text)
    assert again == [{key: value.replace("\0", "\ufffd") for key, value in entry.items()} for entry in entries]
    assert all(len(cells) == 3 for cells in csv.reader(io.StringIO(text, newline="")))


def test_a_reader_that_knows_nothing_of_us_sees_the_args() -> None:
    text = rows.to_csv(rows.COLUMNS, rows.rows(success(args=" --a 1\nx")))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["args"] == " --a 1\nx"
