# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options: empty means unset, lists come as text, slips are noticed."""

from __future__ import annotations

import pathlib
import re
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_options


def test_defaults() -> None:
    options = plan_options.parse({})
    assert (options["timeout"], options["repeats"], options["rerun"], options["runtime"], options["results"]) == (
        -1,
        1,
        "missing",
        "auto",
        "results",
    )


@pytest.mark.parametrize("empty", ["", None, [], {}, "  "])
def test_an_empty_answer_means_unset(empty: object) -> None:
    names = [*plan_options.OPTIONS, *plan_options.REFUSED]
    assert plan_options.parse(dict.fromkeys(names, empty)) == plan_options.parse({})


def test_survey_text_has_types() -> None:
    given = {"timeout": "60", "repeats": "3", "keep_alive": "true", "target_archs": "mi300x, gfx90a\ngfx942", "runtime": " Docker "}
    options = plan_options.parse(given)
    assert (options["timeout"], options["repeats"], options["keep_alive"], options["runtime"]) == (60, 3, True, "docker")
    assert options["target_archs"] == ["gfx942", "gfx90a"]


def test_parsing_twice_changes_nothing() -> None:
    options = plan_options.parse({"timeout": "60", "target_archs": "gfx90a"})
    assert plan_options.parse(options) == options


@pytest.mark.parametrize("off", [False, "false", "no", "0"])
def test_a_refused_option_that_is_off_is_fine(off: object) -> None:
    assert plan_options.parse({"sys_env_details": off})


@pytest.mark.parametrize("slip,meant", [("tag", "tags"), ("time_out", "timeout"), ("keepalive", "keep_alive"), ("contexts", "context")])
def test_slips(slip: str, meant: str) -> None:
    (warning,) = plan_options.slips([slip, "timeout"])
    assert "mad_" + slip in warning and "mad_" + meant in warning


def test_every_variable_of_a_playbook_is_known() -> None:
    folder = pathlib.Path(__file__).parents[5] / "playbooks"
    assert folder.is_dir()
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.yml"))
    asked = set(re.findall(r"\bmad_([a-z_]+) *\| *default\(", text)) - {"build_problem", "problem", "built", "plan"}  # of the plays themselves
    unknown = [name for name in sorted(asked) if plan_options.slips([name[:-1] + name[-1] * 2]) == []]
    assert not unknown


def test_variables_of_others_are_no_slips() -> None:
    assert plan_options.slips(["team", "my_own_variable", "facts", "plan"]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "mad_baseline=CAMPAIGN"),
        ({"baseline": "b", "wait": "no"}, "mad_wait=false"),
        ({"baseline": "b", "repeats": 13}, "mad_repeats 13 is more than mad_repeats_max 12"),
        ({"baseline": "b", "repeats_max": 3}, "mad_repeats_max: expected a whole number from 4"),
    ],
)
def test_repeats_until_it_is_decided_need_a_comparison(given: Dict[str, Any], message: str) -> None:
    def check(**words: Any) -> None:
        plan_options.check_rounds(words, plan_options.parse(words))

    with pytest.raises(InvalidInput, match=message):
        check(**{"repeats_max": 12, **given})
    check(repeats_max=12, baseline="b", repeats=3)
    check(repeats_max=0, wait=False)
    check(repeats_max=12, build_only=True)
    assert plan_options.parse(plan_options.parse({}))["repeats_max"] == 0, "parsed options are options"
