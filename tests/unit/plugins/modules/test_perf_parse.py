# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module perf_parse: its answer is the decision every run gets."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.modules import perf_parse


def params(path: Any, **changes: Any) -> Dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in perf_parse.ARGUMENTS.items()}
    return {**defaults, "path": str(path), **changes}


@pytest.fixture
def log(tmp_path: Any) -> Any:
    path = tmp_path / "run.log"
    path.write_text("FutureWarning: RuntimeError: x\nperformance: 14164, tok/s\n")
    return path


def test_success(log: Any) -> None:
    answer = perf_parse.read(params(log))
    assert (answer["status"], answer["failure_class"], answer["errors"], answer["excerpt"]) == ("SUCCESS", "", [], [])
    assert [(metric["text"], metric["unit"]) for metric in answer["metrics"]] == [("14164", "tok/s")]
    assert (answer["bytes"], answer["lines"]) == (57, 2)


def test_failures(log: Any, tmp_path: Any) -> None:
    assert perf_parse.read(params(log, exit_code=3))["failure_class"] == "crash"
    answer = perf_parse.read(params(log, log_error_patterns=["14164"]))
    assert (answer["failure_class"], answer["excerpt"][-1]) == ("error_pattern", "performance: 14164, tok/s")
    assert perf_parse.read(params(log, multiple_results=str(tmp_path / "no.csv")))["failure_class"] == "no_metric"
    (tmp_path / "bad.csv").write_text("a,b\n")
    assert perf_parse.read(params(log, multiple_results=str(tmp_path / "bad.csv")))["failure_class"] == "parse"
    log.write_text("nothing\n")
    assert perf_parse.read(params(log))["failure_class"] == "no_metric"


def test_the_scan_can_be_changed(log: Any) -> None:
    log.write_text("RuntimeError: x\nperformance: 1 x\n")
    assert perf_parse.read(params(log))["status"] == "FAILURE"
    assert perf_parse.read(params(log, log_error_pattern_scan=False))["status"] == "SUCCESS"
    assert perf_parse.read(params(log, log_error_benign_patterns=["Error: x"]))["status"] == "SUCCESS"


def test_bad_input_is_an_error(log: Any, tmp_path: Any) -> None:
    with pytest.raises(MadError, match="gone.log cannot be read"):
        perf_parse.read(params(tmp_path / "gone.log"))
    with pytest.raises(InvalidInput, match="log_error_patterns"):
        perf_parse.read(params(log, log_error_patterns=[""]))
