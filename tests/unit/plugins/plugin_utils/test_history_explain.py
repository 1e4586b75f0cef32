# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two rows: found by the beginning of their ids, in the folders or in the history, and explained."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.plugin_utils.history import explain, past
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.tests.support.records import (
    FACTS,
    crash,
    make_campaign,
    make_metric,
    make_outcome,
    make_parsed,
    make_run,
    run_id,
)


def slower(number: int, **changes: Any) -> dict[str, Any]:
    """The same run on another day: another kernel, another image, less of it."""
    facts = {**FACTS, "kernel": "6.5.0", "free_bytes": 7, "cpu": {"governor": "powersave"}}
    parsed = make_parsed(metrics=[make_metric(value=13000.0, text="13000")])
    run = make_run(number, **changes)
    run["image"] = {**run["image"], "digest": "sha256:" + "f" * 64}
    return records.make_record(run, make_outcome(), parsed, facts)


def fast(number: int, **changes: Any) -> dict[str, Any]:
    return records.make_record(make_run(number, **changes), make_outcome(), make_parsed(), FACTS)


@pytest.fixture
def results(tmp_path: Any) -> str:
    hosts = {"n1": {"context": {"docker_env_vars": {"A": "1"}}}}
    monday = make_campaign(tmp_path, [make_run(1), make_run(2)], "monday", hosts=hosts)
    monday.save_result({**fast(1), "campaign": "monday"})
    monday.save_result({**crash(2), "campaign": "monday"})
    hosts = {"n1": {"context": {"docker_env_vars": {"A": "2"}}}}
    tuesday = make_campaign(tmp_path, [make_run(1, env={"A": "2"})], "tuesday", hosts=hosts)
    tuesday.save_result({**slower(1), "campaign": "tuesday"})
    return str(tmp_path)


def find(results: str, wanted: str, campaign: str = "") -> past.Past:
    return past.find(results, database_url(results), wanted, campaign, "mad_baseline")


def test_exactly_what_differs(results: str) -> None:
    sides = find(results, "monday/" + run_id(1)), find(results, "tuesday/" + run_id(1))
    found = explain.explain(*sides)
    assert {entry.what: (entry.section, entry.baseline, entry.candidate) for entry in found} == {
        "context.docker_env_vars.A": ("asked for", "1", "2"),
        "run.env.A": ("asked for", None, "2"),
        "host.kernel": ("where", "6.1.0", "6.5.0"),
        "host.cpu.governor": ("where", None, "powersave"),
        "image.digest": ("with what", "sha256:" + "a" * 64, "sha256:" + "f" * 64),
        "metrics.samples_per_second.text": ("how it ended", "14164", "13000"),
    }
    assert explain.explain(sides[0], sides[0]) == []
    assert "do not differ" in explain.lines(sides[0], sides[0], [])[0]


def test_the_table(results: str) -> None:
    sides = find(results, "monday/" + run_id(1)), find(results, "tuesday/" + run_id(1))
    lines = explain.lines(*sides, explain.explain(*sides))
    assert [line for line in lines if not line.startswith(" ")] == ["asked for", "where", "with what", "how it ended"]
    assert lines[0].split() == ["baseline", "monday/" + run_id(1), "candidate", "tuesday/" + run_id(1)]
    assert lines[-1].split() == ["metrics.samples_per_second.text", "14164", "13000", "(-8.2", "%)"]
    assert explain.plain(explain.explain(*sides))[0]["what"] == "context.docker_env_vars.A"


def test_how_a_run_is_named(results: str) -> None:
    assert find(results, "monday/" + "0" * 15 + "2").name == "monday/" + run_id(2)
    assert find(results, run_id(2)).campaign == "monday"
    assert find(results, run_id(1), "tuesday").campaign == "tuesday"
    with pytest.raises(InvalidInput, match=r"mad_baseline 0+1 could be (monday|tuesday)/.*name the campaign"):
        find(results, run_id(1))
    with pytest.raises(InvalidInput, match="could be monday/.*more digits"):
        find(results, "monday/0000")
    with pytest.raises(InvalidInput, match="no such run in campaign monday, neither in the results folder nor in the history"):
        find(results, "monday/ff")
    for wrong in ("xyz", "", "monday/", "../monday/1;"):
        with pytest.raises(InvalidInput, match="expected a run id"):
            find(results, wrong)


def test_a_run_whose_folder_is_gone_is_explained_by_its_row(results: str) -> None:
    with Index(database_url(results)) as index:
        index.add([slower(9, campaign="sunday")], 500.0)
    gone = find(results, "sunday/" + run_id(9)[:15])
    assert (gone.name, gone.record) == ("sunday/" + run_id(9), {})
    found = {entry.what: (entry.baseline, entry.candidate) for entry in explain.explain(find(results, "monday/" + run_id(1)), gone)}
    assert found["row.kernel"] == ("6.1.0", "6.5.0") and found["row.performance"] == ("14164", "13000")
    assert not any(name.startswith("host.") for name in found)
