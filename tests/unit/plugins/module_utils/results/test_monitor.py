# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When which host is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import monitor


def answer(done, total, failure=0):
    return {"counts": {"done": done, "total": total, "failure": failure}}


def test_the_schedule_is_fast_first_and_polite_later():
    assert [monitor.interval(number, 3) for number in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert monitor.interval(9, 1000) == 200


def test_a_day_of_rounds_fits_into_few_levels():
    before = 0
    for _level in range(19):
        before += monitor.level_size(before)
    assert before * 30 > 24 * 3600
    assert monitor.level_size(0) == 2  # a short campaign does not pay for rounds that it does not need


def test_a_state_says_how_many_rounds_the_next_level_has():
    state = monitor.begin(["a"], {}, 0.0)
    assert (state["rounds_before"], state["rounds"]) == (0, monitor.level_size(0))
    for number in range(1, 30):
        state = monitor.advance(state, {"a": answer(0, 1)}, number * 40.0, 600, None)
        assert (state["rounds_before"], state["rounds"]) == (number, monitor.level_size(number))


@pytest.mark.parametrize("text, planned, limit", [("", 10, None), ("5", 10, 5), ("0", 10, 0), ("10%", 200, 20), ("0.5%", 1000, 5)])
def test_failure_limit(text, planned, limit):
    assert monitor.failure_limit(text, planned) == limit


@pytest.mark.parametrize("text", ["many", "-1", "5.5", "nan%", "%", "inf%"])
def test_a_bad_failure_limit_is_refused(text):
    with pytest.raises(InvalidInput, match="mad_max_failures"):
        monitor.failure_limit(text, 10)


def test_a_campaign_that_was_over_at_the_start_is_finished():
    state = monitor.begin(["a"], {"a": answer(2, 2)}, 100.0)
    assert state["finished"]
    assert monitor.ask(state, 200.0)["asked"] == []


def test_a_host_with_more_results_is_asked_at_once_and_the_others_as_ever():
    """250 ended runs do not come home at the pace of a campaign that runs."""
    names = ["a", "b"]
    state = monitor.begin(names, dict.fromkeys(names, answer(0, 250)), 0.0)
    now, asked, slept = 0.0, [], 0.0
    for done in range(0, 275, 25):
        state = monitor.advance(state, {"a": dict(answer(done, 250), more=0 < done < 225), "b": answer(0, 250)}, now, 600, None)
        slept += state["delay"]
        state = monitor.ask(state, now + state["delay"])
        asked.append(state["asked"])
        now += state["delay"] + 0.01
    assert asked == [names, *[["a"]] * 8, names, ["b"]], asked
    assert state["hosts"]["a"]["done"] and slept < 20, slept
    assert state["round"] < 6


def test_a_host_with_more_that_falls_silent_is_not_hurried():
    state = monitor.begin(["a"], {"a": dict(answer(1, 9), more=True)}, 0.0)
    state = monitor.ask(monitor.advance(state, {}, 0.0, 600, None), 0.0)
    assert state["delay"] == 0 and state["asked"] == ["a"]
    state = monitor.advance(state, {"a": {"unreachable": True}}, 0.1, 600, None)
    assert state["delay"] > 0


def test_a_clock_that_is_set_back_makes_no_round_longer():
    state = monitor.advance(monitor.begin(["a"], {"a": answer(0, 9)}, 5000.0), {}, 5000.0, 600, None)
    state = monitor.advance(dict(state, asked=["a"]), {"a": answer(0, 9)}, 10.0, 600, None)
    assert state["delay"] <= 2


def test_a_run_that_its_host_never_took_is_not_waited_for():
    state = monitor.begin(["a"], {"a": {"failed": True, "msg": "disk full"}}, 0.0)
    assert not state["finished"]
    state = monitor.ask(state, 10.0)
    state = monitor.advance(state, {"a": dict(answer(1, 2), never_started=["0" * 16])}, 11.0, contact_timeout=600, limit=None)
    assert state["finished"] and not state["hosts"]["a"]["lost"]


def test_a_silent_host_is_asked_more_and_more_rarely_and_then_given_up():
    state = monitor.begin(["a", "b"], {"a": answer(0, 1), "b": answer(0, 1)}, 0.0)
    silent = {"a": answer(0, 1), "b": {"unreachable": True, "msg": "no route"}}
    asked, now = [], 0.0
    while now < 700:
        state = monitor.ask(state, now)
        if "b" in state["asked"]:
            asked.append(now)
        state = monitor.advance(state, silent, now, contact_timeout=600, limit=None)
        now += 10
    pauses = [later - earlier for earlier, later in zip(asked, asked[1:])]
    assert pauses[:-1] == sorted(pauses[:-1]) and pauses[-2] > 10 * pauses[0]  # the last one ends at the time limit
    assert state["hosts"]["b"]["lost"] and "no route" in state["hosts"]["b"]["reason"]
    assert not state["hosts"]["a"]["lost"] and not state["finished"]


def test_an_old_answer_of_a_host_that_was_not_asked_does_not_count():
    state = monitor.begin(["a"], {"a": answer(0, 1)}, 0.0)
    state = dict(state, asked=[])
    later = monitor.advance(state, {"a": answer(0, 1)}, 500.0, 600, None)
    assert later["hosts"]["a"]["contact"] == 0.0


def test_a_host_that_is_about_to_finish_is_asked_early():
    state = monitor.begin(["a"], {"a": answer(0, 10)}, 0.0)
    state = dict(state, round=9, asked=["a"])
    state = monitor.advance(state, {"a": answer(9, 10)}, 18.0, 600, None)
    assert state["delay"] == pytest.approx(2.0)


def test_too_many_failures_stop_the_campaign_once():
    state = monitor.begin(["a"], {"a": answer(0, 10)}, 0.0)
    state = monitor.advance(monitor.ask(state, 1.0), {"a": answer(3, 10, failure=3)}, 1.0, 600, limit=2)
    assert "3 runs failed" in state["stop"]
    again = monitor.advance(monitor.ask(state, 9.0), {"a": answer(6, 10, failure=6)}, 9.0, 600, limit=2)
    assert again["stop"] == state["stop"]


def test_it_is_never_finished_while_a_host_has_runs_and_answers():
    state = monitor.begin(["a", "b"], {"a": answer(1, 1)}, 0.0)
    for now in range(1, 20):
        state = monitor.advance(monitor.ask(state, now * 400.0), {"b": answer(0, 1)}, now * 400.0, 600, None)
        assert not state["finished"]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["ok", "gone", "broken"]), min_size=1, max_size=40))
def test_delays_are_bounded_and_input_is_not_changed(answers):
    polls = {"ok": answer(1, 5), "gone": {"unreachable": True}, "broken": {"failed": True, "msg": "x"}}
    state = monitor.begin(["a"], {}, 0.0)
    now = 0.0
    for word in answers:
        before = repr(state)
        after = monitor.advance(monitor.ask(state, now), {"a": polls[word]}, now, 600, None)
        assert repr(state) == before
        assert 0 <= after["delay"] <= monitor.SLOWEST
        state, now = after, now + max(after["delay"], 1.0)


def patient(done, total, **more):
    return dict(answer(done, total), patient=True, **more)


def begun(polls, forks, now=1.0):
    """The state of the first round after a start that these hosts answered."""
    return monitor.advance(monitor.begin(sorted(polls), polls, 0.0), polls, now, 600, None, forks)


def test_hosts_wait_for_their_runs_where_each_has_a_fork():
    state = begun({"a": patient(0, 1), "b": patient(0, 1)}, forks=2)
    assert (state["delay"], state["patience"]) == (0.0, 8.0)
    assert monitor.ask(state, 1.0)["asked"] == ["a", "b"]


@pytest.mark.parametrize(
    "polls, forks",
    [
        ({"a": patient(0, 1), "b": patient(0, 1)}, 1),
        ({"a": patient(0, 1), "b": patient(0, 1)}, 0),
        ({"a": patient(0, 1), "b": answer(0, 1)}, 5),
        ({"a": patient(0, 1), "b": {"unreachable": True}}, 5),
    ],
)
def test_otherwise_the_play_sleeps_once_for_all(polls, forks):
    state = begun(polls, forks)
    assert (state["delay"], state["patience"]) == (1.0, 0.0)


def test_a_failure_that_is_one_too_many_is_seen_soon():
    polls = {"a": patient(0, 1)}
    state = monitor.advance(monitor.begin(["a"], polls, 0.0), polls, 1.0, 600, 0, 5)
    assert (state["delay"], state["patience"]) == (1.0, 0.0)


def test_a_long_pause_holds_no_fork():
    state = begun({"a": patient(0, 1)}, forks=5)
    waits = []
    for _round in range(7):
        state = monitor.advance(monitor.ask(state, state["due"]), {"a": patient(0, 1)}, state["due"], 600, None, 5)
        waits.append((state["delay"], state["patience"]))
    assert waits == [(0.0, 8.0), (0.0, 8.0), (0.0, 8.0), (0.0, 16.0), (30.0, 0.0), (30.0, 0.0), (30.0, 0.0)]


def test_hosts_that_have_more_results_are_not_told_to_wait():
    state = begun({"a": patient(1, 50, more=True)}, forks=5)
    assert (state["delay"], state["patience"]) == (0.0, 0.0)


@settings(max_examples=60)
@given(st.integers(1, 4), st.floats(0.0, 1.2))
def test_answers_that_come_too_early_make_no_hot_loop(hosts, share):
    """A host that does not wait as it was asked to (its supervisor died, say) costs two polls a pause, not hundreds."""
    polls = {str(number): patient(0, 1) for number in range(hosts)}
    state, now, rounds = begun(polls, forks=5), 1.0, 0
    while now < 60.0:
        state = monitor.ask(state, now + state["delay"])
        now += state["delay"] + state["patience"] * share + 0.01
        state = monitor.advance(state, polls, now, 600, None, 5)
        rounds += 1
    assert rounds <= 16
