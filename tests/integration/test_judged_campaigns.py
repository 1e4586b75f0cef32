# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two campaigns that really ran, one of them slowed on purpose: compare, report, explain and replay as a person calls them.

The models compute their numbers (one percent of scatter, a factor out of their environment), so that no busy machine changes an answer.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support.play import Played, play

RUN = """n=$(find "$COUNT" -name "$MAD_MODEL_NAME-*" | wc -l)
touch "$COUNT/$MAD_MODEL_NAME-$n"
set -- 1000 1004 996 1002 998 1001
shift $((n %% 6))
echo "performance: $(($1 * ${SPEED_%s:-100} / 10)) items_per_second"
"""


def running(folder: Path, name: str, speed: str, **more: Any) -> Played:
    """A campaign of six repeats, unless more is said, in which the model `slowed` has this percentage of its speed."""
    context = {"env_vars": {"COUNT": str(folder / "count"), "SPEED_slowed": speed}}
    words: dict[str, Any] = {"mad_repo": "MAD", "mad_tags": "speed", "mad_runtime": "host", "mad_repeats": 6, "mad_report": False}
    words["mad_host_lock"] = str(folder / "lock")  # whoever else benchmarks this machine is not waited for
    return play("mad.engine.run", folder, variables={**words, "mad_campaign": name, "mad_context": context, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the campaigns before and after are."""
    made = tmp_path_factory.mktemp("judged")
    (made / "count").mkdir()
    names = ("steady", "slowed")
    cards = [{"name": name, "dockerfile": "", "scripts": "scripts/" + name, "n_gpus": "0", "tags": ["speed"], "args": ""} for name in names]
    for card in cards:
        script = made / "MAD" / str(card["scripts"]) / "run.sh"
        script.parent.mkdir(parents=True)
        script.write_text(RUN % card["name"], encoding="utf-8")
    (made / "MAD" / "models.json").write_text(json.dumps(cards), encoding="utf-8")
    for name, speed in (("before", "100"), ("after", "85")):
        played = running(made, name, speed)
        assert played.status == 0, played.output
    return made


def ids(folder: Path, campaign: str) -> dict[tuple[str, str], str]:
    """{(model, repeat): run id} of a campaign."""
    with open(folder / "results" / campaign / "perf.csv", encoding="utf-8", newline="") as stream:
        return {(row["model"], row["repeat"]): row["run_id"] for row in csv.DictReader(stream)}


def test_compare_says_which_one_regressed_and_the_report_shows_it(folder: Path) -> None:
    words = {"mad_baseline": "before", "mad_candidate": "after", "mad_fail_on": "regressed", "mad_output": "verdicts.json"}
    played = play("mad.engine.compare", folder, variables=words)
    assert played.status == 2 and "mad_fail_on=regressed: 1 of 2 comparisons: slowed -15.0%" in played.output
    found = {entry["model"]: entry for entry in json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))}
    assert {name: entry["verdict"] for name, entry in found.items()} == {"slowed": "regressed", "steady": "same"}
    assert 0.84 < found["slowed"]["low"] < 0.85 < found["slowed"]["high"] < 0.86
    shown = play("mad.engine.report", folder, variables={"mad_campaign": "after", "mad_report_format": "html,markdown"})
    assert shown.status == 0, shown.output
    comment = (folder / "results" / "after" / "report.md").read_text(encoding="utf-8")
    assert "1 regressed, 1 same" in comment and "| regressed | slowed | items&#95;per&#95;second |" in comment and "| -15.0% |" in comment
    page = (folder / "results" / "after" / "report.html").read_text(encoding="utf-8")
    assert '"comparisons":[{"baseline":"before","candidate":"after"' in page


def test_explain_lists_what_differs_and_nothing_else(folder: Path) -> None:
    names = ["%s/%s" % (campaign, ids(folder, campaign)["slowed", "2"]) for campaign in ("before", "after")]
    words = {"mad_baseline": names[0], "mad_candidate": names[1][: len("after/") + 8], "mad_output": "differences.json"}
    played = play("mad.engine.explain", folder, variables=words)
    assert played.status == 0, played.output
    found = {entry["what"]: entry for entry in json.loads((folder / "differences.json").read_text(encoding="utf-8"))}
    assert (found["run.env.SPEED_slowed"]["baseline"], found["run.env.SPEED_slowed"]["candidate"]) == ("100", "85")
    assert found["metrics.items_per_second.text"]["change"] == pytest.approx(-0.15)
    assert not [what for what in found if not what.startswith(("content.context", "context.", "run.env.", "metrics.", "timings."))]
    wrong = play("mad.engine.explain", folder, variables={"mad_baseline": names[0], "mad_candidate": "after/0000000000000000"})
    assert wrong.status == 2 and "no such run in campaign after" in wrong.output


def test_replay_runs_exactly_that_run_again(folder: Path) -> None:
    wanted = ids(folder, "after")["slowed", "2"]
    words = {"mad_replay": "after/" + wanted[:8], "mad_campaign": "again", "mad_report": False, "mad_host_lock": str(folder / "lock")}
    played = play("mad.engine.replay", folder, variables=words)
    assert played.status == 0, played.output
    assert ids(folder, "again") == {("slowed", "2"): wanted}
    record = json.loads((folder / "results" / "again" / "runs" / wanted / "result.json").read_text(encoding="utf-8"))
    assert record["metrics"][0]["value"] == 8500.0, "the speed of then, though nobody said it"
    # With another script no plan is that run, and the play says which part it is.
    script = folder / "MAD" / "scripts" / "slowed" / "run.sh"
    script.write_text(script.read_text(encoding="utf-8") + "# newer\n", encoding="utf-8")
    newer = play("mad.engine.replay", folder, variables={"mad_replay": "after/" + wanted[:8]}, arguments=["--check"])
    assert newer.status == 2 and "the files of its script's directory" in newer.output


def test_a_run_repeats_what_is_not_decided_and_nothing_else(folder: Path) -> None:
    words: dict[str, Any] = {"mad_baseline": "before", "mad_repeats": 2, "mad_repeats_max": 6, "mad_fail_on": "regressed"}
    words["mad_same_within"] = "0.1%"  # less than the noise: nothing is the same
    played = running(folder, "grown", "85", **words)
    assert played.status == 2 and "mad_fail_on=regressed: 1 of 2 comparisons: slowed" in played.output, played.output
    repeats = {name: sorted(int(repeat) for model, repeat in ids(folder, "grown") if model == name) for name in ("slowed", "steady")}
    assert repeats == {"slowed": [1, 2, 3, 4], "steady": [1, 2, 3, 4, 5, 6]}, "one was decided at the first look, one never"
    kept = json.loads((folder / "results" / "grown" / "comparison.json").read_text(encoding="utf-8"))
    assert {entry["model"]: entry["candidate"]["runs"] for entry in kept["comparisons"]} == {name: len(repeats[name]) for name in repeats}
    summary = json.loads((folder / "results" / "grown" / "summary.json").read_text(encoding="utf-8"))
    assert summary["counts"]["planned"] == summary["counts"]["success"] == sum(map(len, repeats.values()))
    # Taken up again there is nothing to do, and the answer is the same.
    again = running(folder, "grown", "85", **words)
    assert again.status == 2 and "nothing to run" in again.output and len(ids(folder, "grown")) == sum(map(len, repeats.values()))
