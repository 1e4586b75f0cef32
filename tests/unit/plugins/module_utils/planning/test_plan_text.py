# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flight plan: golden tables, many hosts in one line, hostile names that do nothing to a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_continue, plan_text
from ansible_collections.mad.engine.tests.support import golden, plans
from ansible_collections.mad.engine.tests.support.plans import card, host

GOLDEN = Path(__file__).parents[3] / "golden"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def same(name: str, text: str) -> None:
    path = GOLDEN / name
    golden.check(path, text)


def mixed(repo: Path) -> dict:
    cards = [
        card("dummy", args="--name 'a b'"), card("all", n_gpus="-1", timeout=0), card("old", deprecated=True), card("greedy", n_gpus="9"),
        card("lost", dockerfile="docker/none"), card("any", dockerfile="docker/any"),
    ]  # fmt: skip
    hosts = {"n%02d" % number: host(known=plans.facts(count=8)) for number in range(1, 6)}
    hosts.update(cpu=host(known=plans.CPU_HOST), bare=host(known=plans.NO_ENGINE), gone=plans.unreachable())
    return plans.make(repo, cards, hosts, repeats=2, timeout=-1)


def test_golden_first_play(repo: Path) -> None:
    same("flight_plan_first.txt", plan.flight_plan(mixed(repo), {}))


def test_golden_second_play(repo: Path) -> None:
    old = mixed(repo)
    rows = {}
    for number, run in enumerate(old["runs"]):
        status, failure_class = [("SUCCESS", ""), ("FAILURE", "crash"), ("FAILURE", "infra"), ("", "")][number % 4]
        if status:
            rows[run["id"]] = {"status": status, "failure_class": failure_class, "attempt": 1, "run_id": run["id"]}
    new = plan_continue.continue_plan(mixed(repo), old, rows, {})
    same("flight_plan_second.txt", plan.flight_plan(new, rows))
    same("flight_plan_done.txt", plan.flight_plan(new, rows, only_done=True))


def test_nothing_done_is_no_text(repo: Path) -> None:
    assert plan.flight_plan(plans.make(repo), {}, only_done=True) == ""


def test_five_hundred_hosts_share_a_line(repo: Path) -> None:
    text = plan.flight_plan(plans.make(repo, [card()], {"n%03d" % number: host() for number in range(500)}), {})
    assert "n000 ... n499 (500 hosts)" in text and len(text.splitlines()) < 12


@given(st.text())
def test_nothing_reaches_the_terminal(text: str) -> None:
    shown = plan_text.printable(text)
    assert shown.isprintable() or shown == ""
    assert "\x1b" not in shown and "\n" not in shown


def test_hostile_names(repo: Path) -> None:
    text = plan.flight_plan(plans.make(repo, [card("a\x1b[31m\nb", args="\x1b]0;x\x07")]), {})
    assert "\x1b" not in text and "\x07" not in text


@pytest.mark.parametrize("indexes,text", [([0, 1, 2, 3], "0-3"), ([0, 2, 3, 5], "0,2-3,5"), ([3, 1], "3,1"), ([], "")])
def test_ranges(indexes: list, text: str) -> None:
    assert plan_text.ranges(indexes) == text
