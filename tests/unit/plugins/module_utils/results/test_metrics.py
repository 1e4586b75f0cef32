# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directions of units, and what is a number."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.mad.engine.plugins.module_utils.results.metrics import better, is_nothing, number

HIGHER = (
    "samples_per_second fsyncs_per_second samples_per_sec tok/s tokens/sec tokens_per_second images_per_second requests_per_second qps bandwidth GB/s MiB/s "
    "throughput TFLOPS tflops/s it/s fps Gbps samples/sec/gpu tokens_per_second_per_gpu tok/s/GPU accuracy hashes/s iops MB/s"
)
LOWER = "ms s seconds latency ttft tpot time duration ms/step s/it seconds_per_iteration ms_per_token loss Latency milliseconds us"
UNKNOWN = "x widgets/s errors/s memory_gb gb context cpu samples tokens/joule per_second /s tok// performance 14 _per_ "


@pytest.mark.parametrize("unit", HIGHER.split())
def test_higher(unit: str) -> None:
    assert better(unit) == "higher"


@pytest.mark.parametrize("unit", LOWER.split())
def test_lower(unit: str) -> None:
    assert better(unit) == "lower"


@pytest.mark.parametrize("unit", [*UNKNOWN.split(), "", " ", "tok ens"])
def test_never_guessed(unit: str) -> None:
    assert better(unit) == ""


def test_spelling_does_not_matter() -> None:
    assert better(" Samples-Per Second ") == "higher"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("-1.5e3", -1500.0), (".5", 0.5), ("5.", 5.0), (" 7 ", 7.0), ("1e999", None), ("nan", None), ("1_0", None), ("", None)],
)
def test_numbers(text: str, value: Optional[float]) -> None:
    assert number(text) == value


def test_words_for_nothing() -> None:
    assert all(map(is_nothing, ["", " ", "NaN", "None", "n/a", "inf", "1e999"]))
    assert not any(map(is_nothing, ["0", "-1", "14-18", "none of them"]))
