# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table: golden text, 80 columns, wide characters, hostile text, many rows."""

from __future__ import annotations

import os
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.plugin_utils import table
from ansible_collections.mad.engine.tests.support import golden

GOLDEN = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "golden", "table.txt")


def row(**changes: Any) -> Dict[str, str]:
    base = {"model": "dummy", "host": "n1", "status": "SUCCESS", "performance": "14164", "metric": "samples_per_second", "repeat": "1"}
    return {**base, "run_duration": "12.3", "failure_class": "", "reason": "", **changes}


def failed(**changes: Any) -> Dict[str, str]:
    return row(status="FAILURE", performance="", metric="", failure_class="crash", reason="exit code 3", **changes)


def golden_rows() -> List[Dict[str, str]]:
    return [
        row(),
        row(repeat="2", performance="1234567.5", metric="tok/s", run_duration="3725"),
        row(model="pyt_huggingface/gpt2_train_large_batch", host="gpu-17.rack4", performance="0.000123", metric="s", run_duration="65"),
        failed(model="\u6a21\u578b-\u6e2c\u8a66", host="n2", run_duration="0.04"),
        failed(model="bad", host="n3", run_duration=""),
        row(model="cpu", performance="14-18|32|44|62", metric="cpu"),
        row(model="old", status="SKIPPED", performance="", metric="", run_duration="", reason="deprecated"),
    ]


def test_golden() -> None:
    text = "\n".join([*table.render(golden_rows()), "", *table.failures(golden_rows())]) + "\n"
    golden.check(GOLDEN, text)


def test_aligned_and_within_80_columns() -> None:
    lines = table.render(golden_rows())
    assert max(map(table.width, lines)) <= 80
    start = lines[0].index("status")
    for line, entry in zip(lines[2:], golden_rows(), strict=True):
        before = line.partition(entry["status"])[0]
        assert table.width(before) == start


def test_names_that_would_look_the_same_are_not_cut() -> None:
    names = ["a" * 30 + tag + "b" * 30 for tag in ("1", "2")]
    assert all(name in "\n".join(table.render([row(model=name) for name in names])) for name in names)


def test_hosts_of_one_domain_go_without_it() -> None:
    text = "\n".join(table.render([row(host="n1.example.org"), row(host="n2.example.org")]))
    assert "example" not in text and "n2 " in text
    assert "10.0.0.2" in "\n".join(table.render([row(host="10.0.0.1"), row(host="10.0.0.2")]))


def test_one_host_gives_its_room_away() -> None:
    rows = [row(model="hash_table_sha3_256_65536_large", metric="megabytes_per_second_per_core", host="localhost")]
    assert table.render(rows)[0].split() == ["model", "status", "performance", "metric", "time"]
    assert "hash_table_sha3_256_65536_large" not in table.render(rows + [row(host="n2")])[2]


def test_empty_columns_are_left_out() -> None:
    assert table.render([failed(run_duration="")])[0].split() == ["model", "host", "status"]
    assert table.render([]) == ["no rows"]


def test_many_rows_show_failures_first() -> None:
    rows = [row(model="m%d" % number) for number in range(5000)] + [failed(model="broken")]
    lines = table.render(rows)
    assert len(lines) == 2 + table.MAX_ROWS + 1
    assert any(line.startswith("broken") for line in lines)
    assert lines[-1] == "... and 4801 more rows in perf.csv"


def test_one_reason_once() -> None:
    rows = [failed(host="n%d" % number) for number in range(500)]
    lines = table.failures(rows)
    assert lines[0] == "crash: exit code 3"
    assert " ".join(" ".join(lines[1:]).split()).endswith("dummy on n4, dummy on n5, and 494 more")
    many = [dict(failed(), reason="reason %d" % number) for number in range(100)]
    assert table.failures(many)[-1] == "... and 60 more reasons in perf.csv"


def test_a_log_of_each_reason_is_named() -> None:
    """The first that is there: a run without a log says nothing."""
    rows = [failed(host="n%d" % number) for number in range(3)]
    assert table.failures(rows, lambda row: "runs/x/run.log" if row["host"] == "n1" else "")[-1] == "  log: runs/x/run.log"
    assert not any("log:" in line for line in table.failures(rows))


@given(st.text(st.characters(exclude_categories=[]), max_size=100))
def test_nothing_printed_moves_a_cursor(text: str) -> None:
    shown = table.printable(text)
    assert "\n" not in shown and "\x1b" not in shown and "\u202e" not in shown
    shown.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), max_size=60), st.integers(0, 50))
def test_cutting_keeps_the_limit(text: str, limit: int) -> None:
    assert table.width(table.cut(text, limit)) <= max(limit, 0)
    assert table.cut(text, table.width(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("14164", "14,164"),
        ("14164.0", "14,164"),
        ("1234.5678", "1,234.6"),
        ("1234567.8", "1,234,568"),
        ("-1.5", "-1.5"),
        ("0.000012345678", "1.2346e-05"),
        ("3.2e4", "32,000"),
        ("1e300", "1e+300"),
        ("14-18|32", "14-18|32"),
        ("", ""),
    ],
)
def test_numbers(text: str, shown: str) -> None:
    assert table.shown_number(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *(("0.04", "0.0 s"), ("9.94", "9.9 s"), ("9.96", "10 s"), ("59.4", "59 s")),
        *(("60", "1m00s"), ("3599.6", "1h00m"), ("7620", "2h07m"), ("", "")),
    ],
)
def test_durations(text: str, shown: str) -> None:
    assert table.shown_seconds(text) == shown


def test_counts() -> None:
    counts = {"planned": 5, "success": 1, "failure": 2, "skipped": 1, "pending": 1}
    expected = "5 runs: 1 SUCCESS, 2 FAILURE (1 crash, 1 infra), 1 SKIPPED, 1 still on their way, without a row yet"
    assert table.counts_line(counts, {"crash": 1, "infra": 1}) == expected
    one = {"planned": 1, "success": 0, "failure": 0, "skipped": 1, "pending": 0}
    assert table.counts_line(one, {}) == "1 run: 0 SUCCESS, 1 SKIPPED"
