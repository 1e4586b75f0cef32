# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report says what compare and diagnose said, also when it is old, and shows nothing that is no verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked, diagnosed, kept
from ansible_collections.mad.engine.plugins.plugin_utils.report import entries, judgement, markdown
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.records import make_campaign

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("verdict", "hosts", "evidence", "low", "x")), inner, max_size=4),
)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights of six hosts, the first model 8 % slower in the second, which was compared and diagnosed."""
    results = tmp_path_factory.mktemp("results")
    for night, slow in enumerate((1.0, 0.92)):
        reports.fleet(results, "night-%d" % night, night=night, slow=slow, hosts=9, models=2, failing=0.0, logs=0)
    asked.compare({"results": str(results), "baseline": "night-0", "candidate": "night-1"}, write=True)
    answer = diagnosed.diagnose({"results": str(results), "candidate": "night-1"})
    assert kept.keep_diagnosis(answer.folders, kept.diagnosis(answer), True) == (True, [])
    return results


def judged(results: Path, name: str = "night-1") -> dict[str, Any]:
    return judgement.judgement([entries.read(reports.Campaign(str(results / name)))])


def test_the_page_says_what_compare_and_diagnose_said(nights: Path) -> None:
    found = judged(nights)
    told = found["comparisons"][0]
    assert (told["baseline"], told["candidate"], told["notes"]) == ("night-0", "night-1", [])
    first = told["lines"][0]
    assert (first["verdict"], first["model"]) == ("regressed", "llm/llama-3.1-8b")
    assert 0.9 < first["low"] < first["high"] < 0.94 and first["runs"] == [9, 9] and first["hardware"] == reports.hardware(8, 9)
    hosts = found["diagnoses"][0]["hosts"]
    assert [(host["host"], host["verdict"]) for host in hosts] == [("node003", "slow")]
    assert hosts[0]["evidence"][0]["deviation"] < -0.03
    assert judged(nights, "night-0") == {"comparisons": [], "diagnoses": []}


def test_a_verdict_on_other_results_says_so(nights: Path) -> None:
    runs = entries.read(reports.Campaign(str(nights / "night-1")))
    runs.entries[0].record["attempt"] = 2  # type: ignore[index]
    found = judgement.judgement([runs])
    assert "run mad.engine.compare again" in found["comparisons"][0]["notes"][0]
    assert "run mad.engine.diagnose again" in found["diagnoses"][0]["notes"][0]


def test_a_baseline_of_now_counts_more_than_what_was_kept(nights: Path) -> None:
    before = sorted(os.listdir(nights / "night-0"))
    answer = make(Options(str(nights), ["night-0"], ["markdown"], baseline="night-1"))
    text = Path(answer.files["markdown"]).read_text(encoding="utf-8")
    assert "#### Against night&#45;1" in text and "| improved | llm/llama&#45;3.1&#45;8b" in text
    assert sorted(os.listdir(nights / "night-0")) == sorted([*before, "report.md"])
    with pytest.raises(InvalidInput, match="mad_baseline nowhere: no such campaign"):
        make(Options(str(nights), ["night-0"], ["markdown"], baseline="nowhere"))


def test_a_comment_begins_with_what_changed(nights: Path) -> None:
    text = markdown.render([entries.read(reports.Campaign(str(nights / "night-1")))])
    assert text.index("| regressed | llm/llama") < text.index("<summary>The same: ") < text.index("| model | hardware | mean")
    assert "- **node003**: slow: " in text


def test_one_comparison_of_several_campaigns_is_told_once(nights: Path) -> None:
    both = [entries.read(reports.Campaign(str(nights / "night-1")), place) for place in range(2)]
    assert len(judgement.judgement(both)["comparisons"]) == 1


@given(json_values)
def test_files_may_hold_anything(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    campaign = make_campaign(tmp_path_factory.mktemp("odd"), [])
    for path, key in ((campaign.comparison_path, "comparisons"), (campaign.diagnosis_path, "hosts")):
        with open(path, "w", encoding="utf-8") as stream:
            json.dump({key: [value, {"verdict": "regressed", "bad": True, "evidence": value}], "counts": value, "warnings": value}, stream)
    found = judgement.judgement([entries.read(campaign)])
    assert len(found["diagnoses"][0]["hosts"]) >= 1 and found["comparisons"][0]["lines"][0]["verdict"] == "regressed"
    assert markdown.render([entries.read(campaign)])
