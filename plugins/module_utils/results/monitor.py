# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask which host again: the pure half of waiting for a campaign.

One state dict goes from round to round. It holds for each host what was last heard of it, so that a host that does not answer is asked
more and more rarely and costs the others nothing, and is given up after `contact_timeout` seconds without an answer.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional

from ..base.errors import InvalidInput

State = Dict[str, Any]

SCHEDULE = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before the first polls: short campaigns answer fast
SHORTEST_PATIENCE = 8.0  # seconds that hosts are asked to wait at least: they answer as soon as their runs have ended, a poll costs about one
LONGEST_PATIENCE = SCHEDULE[-1]  # seconds that hosts wait in our stead; a longer pause is slept here, where it holds no fork and no connection
SLOWEST = 30.0  # seconds between the polls of a long campaign, below 150 hosts
HOSTS_PER_SECOND = 5.0  # polls a second that a controller is asked for at most
LARGEST_BACKOFF = 300.0  # seconds between two tries at a silent host
FIRST_ROUNDS, SHARE = 2, 0.5  # rounds of the first include levels; of a later one, as a share of the rounds before it


def interval(round_number: int, hosts: int) -> float:
    """Seconds before poll `round_number` (0 is the first) of a campaign with so many unfinished hosts."""
    if round_number < len(SCHEDULE):
        return SCHEDULE[round_number]
    return max(SLOWEST, hosts / HOSTS_PER_SECOND)


def level_size(rounds_before: int) -> int:
    """Rounds in the include level after so many rounds: they grow, so that a day of polls nests 19 levels deep, not 2,880."""
    return max(FIRST_ROUNDS, int(SHARE * rounds_before))


def failure_limit(text: str, planned: int) -> Optional[int]:
    """How many failed runs are still accepted: `mad_max_failures` as a count ('5') or as a share of the planned runs ('10%')."""
    text = str(text).strip()
    if not text:
        return None
    try:
        value = float(text[:-1]) * planned / 100 if text.endswith("%") else float(int(text))
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise InvalidInput("mad_max_failures is %r: a count such as 5 or a share such as 10%% was expected" % text)
    return int(value)


def _heard(known: State, poll: Mapping[str, Any], now: float) -> State:
    """What is known of a host after an answer."""
    counts = dict(poll["counts"])
    progressed = counts.get("done") != known.get("counts", {}).get("done")
    return dict(
        known,
        counts=counts,
        contact=now,
        misses=0,
        reason="",
        next=now,
        more=bool(poll.get("more")),
        patient=bool(poll.get("patient")),
        done=counts["done"] + len(poll.get("never_started") or []) >= counts["total"],
        progress=now if progressed else known["progress"],
    )


def _missed(known: State, poll: Mapping[str, Any], now: float, contact_timeout: float) -> State:
    """What is known of a host that did not answer: asked again after a growing pause, given up after contact_timeout."""
    misses = known["misses"] + 1
    silent = now - known["contact"]
    message = str(poll.get("msg") or "no answer").strip()
    return dict(
        known,
        misses=misses,
        more=False,
        next=min(now + min(2.0**misses, LARGEST_BACKOFF), max(now, known["contact"] + contact_timeout)),
        lost=silent >= contact_timeout,
        reason="no answer for %d s; last error: %s" % (silent, message[:500]),
    )


def _update(known: State, poll: Mapping[str, Any], now: float, contact_timeout: float) -> State:
    if known["done"] or known["lost"] or not poll or poll.get("skipped"):
        return known
    if poll.get("unreachable") or poll.get("failed") or "counts" not in poll:
        return _missed(known, poll, now, contact_timeout)
    return _heard(known, poll, now)


def _first(now: float) -> State:
    flags = dict.fromkeys(("more", "patient", "done", "lost"), False)
    return dict(flags, counts={}, contact=now, misses=0, next=now, reason="", progress=now)


def _remaining(known: State, started: float, now: float) -> Optional[float]:
    """Seconds until a host has probably finished, from the pace of its runs so far; None where nothing can be said."""
    counts = known["counts"]
    done, left = counts.get("done", 0), counts.get("total", 0) - counts.get("done", 0)
    if not done or not left:
        return None
    expected = (known["progress"] - started) / done * left - (now - known["progress"])
    return expected if expected > 0 else None


def _active(state: State) -> List[State]:
    """What is known of the hosts that are neither finished nor given up."""
    return [known for known in state["hosts"].values() if not known["done"] and not known["lost"]]


def _delay(state: State, now: float) -> float:
    """Seconds to sleep: the schedule, or less when a host is about to finish or a silent one is due."""
    active = _active(state)
    delay = interval(state["round"], len(active))
    guesses = [guess for guess in (_remaining(known, state["started"], now) for known in active) if guess is not None]
    return min([delay] + [max(1.0, guess) for guess in guesses])


def _failures(state: State) -> int:
    return sum(known["counts"].get("failure", 0) for known in state["hosts"].values())


def begin(hosts: List[str], polls: Mapping[str, Mapping[str, Any]], now: float) -> State:
    """The state before the first round; `polls` are the answers to the start, which count as a first poll."""
    state: State = {"round": 0, "rounds_before": 0, "rounds": level_size(0), "started": now, "stop": "", "asked": hosts}
    state["hosts"] = {name: _first(now) for name in hosts}
    return _settle(state, polls, now, math.inf)


def _settle(state: State, polls: Mapping[str, Mapping[str, Any]], now: float, contact_timeout: float) -> State:
    hosts = dict(state["hosts"])
    for name in state["asked"]:  # the others' registered results are those of an earlier round
        hosts[name] = _update(hosts[name], polls.get(name) or {}, now, contact_timeout)
    return dict(state, asked=[], hosts=hosts, finished=all(known["done"] or known["lost"] for known in hosts.values()))


def advance(
    previous: State,
    polls: Mapping[str, Mapping[str, Any]],
    now: float,
    contact_timeout: float,
    limit: Optional[int],
    forks: int = 0,
) -> State:
    """The state after the answers of a round. `delay` says how long to sleep before the next one (0 when finished).

    polls: host name to the registered result of its last poll. limit: failed runs that are accepted (None: any number); beyond it
    `stop` holds the reason, which the next polls hand to the hosts. forks: hosts that are asked at the same time; where all fit,
    they do the waiting: `patience` says for how long, and a host whose runs have ended answers at once. Not with a limit: a failure that
    is one too many is to be seen soon.
    """
    state = _settle(previous, polls, now, contact_timeout)
    state["rounds_before"] += 1
    state["rounds"] = level_size(state["rounds_before"])
    failures = _failures(state)
    if limit is not None and failures > limit and not state["stop"]:
        state["stop"] = "stopped: %d runs failed, mad_max_failures accepts %d" % (failures, limit)
    pause = state.get("pause", 0.0)
    if not 0 < state.get("due", now) - now <= pause:  # else a round between two, for the hosts that have more
        pause = _delay(state, now)
        state.update(due=now + pause, pause=pause, round=state["round"] + 1)
    rest = 0.0 if state["finished"] or _with_more(state) else state["due"] - now
    waits_there = rest > 0 and limit is None and state.get("patient_until") != state["due"] and _are_patient(state, now, forks)
    state.update(patience=0.0, delay=rest)
    if waits_there:  # once in a pause: should the hosts answer early all the same, the rest of it is slept here
        rest = max(rest, SHORTEST_PATIENCE)
        state.update(patience=rest, delay=0.0, pause=rest, due=now + rest, patient_until=now + rest)
    return state


def _are_patient(state: State, now: float, forks: int) -> bool:
    """Whether the hosts can wait in our stead: the pause is short, each can be asked now and said that it can, and none takes another's turn."""
    active = _active(state)
    if state["due"] - now > LONGEST_PATIENCE or not 0 < len(active) <= forks:
        return False
    return all(known["patient"] and not known["misses"] and known["next"] <= now for known in active)


def _with_more(state: State) -> List[str]:
    """Hosts with more finished runs than fitted into their answer: nothing is gained by letting them wait."""
    return [name for name, known in state["hosts"].items() if known["more"] and not known["done"] and not known["lost"]]


def ask(state: State, now: float) -> State:
    """The state with the hosts to ask now under `asked`: neither finished nor given up, and past their pause; before a round is due those with more."""
    more = _with_more(state)
    if more and now < state.get("due", now):
        return dict(state, asked=more)
    open_hosts = {name: known for name, known in state["hosts"].items() if not known["done"] and not known["lost"]}
    return dict(state, asked=[name for name, known in open_hosts.items() if known["next"] <= now])
