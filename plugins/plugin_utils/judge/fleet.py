# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host is bad? Hosts of one hardware class are held against each other; no baseline, no reference value is needed.

Three things make a host suspicious, each for one model, arguments and metric: it is slower than the core of its class (robust.py); its runs
scatter more than those of its class do, although their median is fine; its runs fail where nearly all others succeed. Each of the first
two is a p value, the smallest counts after Bonferroni's correction for how many were asked of this host, and over the hosts that of
Benjamini and Hochberg bounds the part of accused hosts that are healthy. A deviation nobody would repair (`least`) accuses nobody.
"""

from __future__ import annotations

import math
import typing as t

from . import compare, robust, verdict
from .libraries import need, np
from .observations import Observation, Source, coarsened

if t.TYPE_CHECKING:
    from .ranks import Floats

HEALTHY, SLOW, UNSTEADY, FAILING, UNJUDGED = "healthy", "slow", "unsteady", "failing", "unjudged"
BAD = (FAILING, SLOW, UNSTEADY)
LEAST_HOSTS = 6  # of a class: fewer have no core to be far from
LEAST_RUNS = 4  # of one host, before its scatter says anything
MOST_FAIL = 0.2  # of the other hosts, for a failure to be this host's own


class Limits(t.NamedTuple):
    """When a host is accused."""

    least: float = 0.02  # deviation that matters
    false_rate: float = 0.01  # part of the accused that may be healthy
    better: t.Mapping[str, str] = {}


class Evidence(t.NamedTuple):
    """One thing that was seen of one host."""

    host: str
    kind: str
    model: str
    args: str
    metric: str
    hardware: str
    deviation: float  # from the class, as a part; of scatter: its excess
    p: float
    runs: int
    hosts: int
    value: float | None
    usual: float | None
    counts: bool  # whether it is large enough to matter


def diagnose(source: Source, limits: Limits) -> tuple[list[dict[str, t.Any]], list[str]]:
    """(one entry for each host, the worst first; warnings)."""
    need()
    warnings = list(source.warnings)
    if not source.exact():
        source = source._replace(rows=coarsened(source.rows))
        warnings.append("not every row names its hardware: hosts are told apart by number and architecture of GPUs only")
    found: list[Evidence] = []
    silent: set[str] = set()
    for group in compare.groups([], source.rows):
        better = compare.better_of(group, limits.better)
        found += failures(group.candidate)
        if better:
            found += slow_ones(group, better, limits)
            found += unsteady_ones(group, better, limits)
        elif compare.numbers(group.candidate):
            silent.add(group.key.metric)
    if silent:
        warnings.append("nobody says which way is better for %s: set mad_better; these numbers accuse no host" % ", ".join(sorted(silent)))
    return _verdicts(source.rows, found, limits), warnings


# -- what is seen ------------------------------------------------------------------------------------------------------------------


def slow_ones(group: compare.Group, better: str, limits: Limits) -> list[Evidence]:
    """One for each host of a class that is large enough: how far its median lies on the bad side of the core."""
    by_host = _by_host(group.candidate, better)
    if len(by_host) < LEAST_HOSTS:
        return []
    medians = np.array([np.median(values) for values in by_host.values()])
    core = robust.core(medians)
    scatter, usual_runs = _scatter(by_host), float(np.median([len(values) for values in by_host.values()]))
    found = []
    for (host, values), median in zip(by_host.items(), medians, strict=True):
        own = math.sqrt(max(0.0, core.scale**2 + scatter**2 * (1.0 / len(values) - 1.0 / usual_runs)))
        lag = core.centre - float(median)
        p = robust.p_above(lag, max(own, core.scale), core.size)
        part = math.expm1(-lag) if better == "higher" else math.expm1(lag)
        sign = 1.0 if better == "higher" else -1.0
        value, usual = math.exp(sign * float(median)), math.exp(sign * core.centre)
        found.append(_evidence(group, host, SLOW, part, p, len(values), len(by_host), value, usual, lag >= math.log1p(limits.least)))
    return found


def unsteady_ones(group: compare.Group, better: str, limits: Limits) -> list[Evidence]:
    """How far each host's scatter lies from its class's: the Wasserstein distance between its runs and the usual ones, both around their median."""
    by_size: dict[int, dict[str, Floats]] = {}
    for host, values in _by_host(group.candidate, better).items():
        if len(values) >= LEAST_RUNS:
            by_size.setdefault(len(values), {})[host] = np.sort(values - np.median(values))
    found = []
    for size, hosts in by_size.items():
        if len(hosts) < LEAST_HOSTS:
            continue
        table = np.array(list(hosts.values()))
        usual = np.median(table, axis=0)
        distances = np.mean(np.abs(table - usual), axis=1)
        excess = np.mean(np.abs(table), axis=1) - float(np.mean(np.abs(usual)))
        logarithms = np.log(np.maximum(distances, 1e-12))
        core = robust.core(logarithms)
        for host, distance, more in zip(hosts, logarithms, excess, strict=True):
            p = robust.p_above(float(distance) - core.centre, core.scale, core.size) if more > 0 else 1.0
            found.append(_evidence(group, host, UNSTEADY, float(more), p, size, len(hosts), None, None, more >= limits.least / 2.0))
    return found


def failures(rows: t.Sequence[Observation]) -> list[Evidence]:
    """Hosts on which every run of this failed, though it succeeds on nearly all others of their class."""
    states: dict[str, list[bool]] = {}
    for row in rows:
        if row.status in ("SUCCESS", "FAILURE"):
            states.setdefault(row.host, []).append(row.status == "SUCCESS")
    broken = [host for host, succeeded in states.items() if not any(succeeded)]
    if len(states) < LEAST_HOSTS or len(broken) > MOST_FAIL * len(states):
        return []
    group = compare.Group(next(row.key for row in rows), [], list(rows))
    return [_evidence(group, host, FAILING, -1.0, 0.0, len(states[host]), len(states), None, None, True) for host in broken]


def _by_host(rows: t.Sequence[Observation], better: str) -> dict[str, Floats]:
    """Logarithms of each host's numbers, larger ones being better."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.value is not None and row.value > 0:
            found.setdefault(row.host, []).append(math.log(row.value) * (1.0 if better == "higher" else -1.0))
    return {host: np.array(values) for host, values in found.items()}


def _scatter(by_host: t.Mapping[str, Floats]) -> float:
    """Standard deviation of one run around its host, as the typical host has it."""
    own = [float(np.std(values, ddof=1)) for values in by_host.values() if len(values) > 1]
    return float(np.median(own)) if own else 0.0


def _evidence(
    group: compare.Group,
    host: str,
    kind: str,
    part: float,
    p: float,
    runs: int,
    hosts: int,
    value: float | None,
    usual: float | None,
    counts: bool,
) -> Evidence:
    key = group.key
    return Evidence(host, kind, key.model, key.args, key.metric, key.hardware, part, p, runs, hosts, value, usual, bool(counts))


# -- what follows ------------------------------------------------------------------------------------------------------------------


def _verdicts(rows: t.Sequence[Observation], found: t.Sequence[Evidence], limits: Limits) -> list[dict[str, t.Any]]:
    by_host: dict[str, list[Evidence]] = {row.host: [] for row in rows}
    for one in found:
        by_host[one.host].append(one)
    # What is too small to matter was asked all the same: it counts in the correction, not among the reasons.
    smallest = {host: min((one.p if one.counts else 1.0 for one in seen), default=1.0) * len(seen) for host, seen in by_host.items()}
    judged = [host for host, seen in by_host.items() if seen]
    corrected = dict(zip(judged, verdict.adjusted([min(1.0, smallest[host]) for host in judged]), strict=True))
    classes = {row.host: row.key.hardware for row in rows if row.key.hardware}
    entries = [_entry(host, classes.get(host, ""), seen, corrected.get(host), limits) for host, seen in by_host.items()]
    return sorted(entries, key=lambda entry: (not entry["bad"], entry["p"] if entry["p"] is not None else 2.0, entry["host"]))


def _entry(host: str, hardware: str, seen: t.Sequence[Evidence], p: float | None, limits: Limits) -> dict[str, t.Any]:
    """A host's verdict with what it rests on, the strongest first."""
    bad = p is not None and p <= limits.false_rate
    against = (
        sorted((one for one in seen if one.counts and one.p * len(seen) <= limits.false_rate), key=lambda one: (one.p, one.deviation))
        if bad
        else []
    )
    kinds = {one.kind for one in against}
    state = next((kind for kind in BAD if kind in kinds), HEALTHY if seen else UNJUDGED)
    reason = "" if seen else "fewer than %d hosts of its class ran the same" % LEAST_HOSTS
    return {
        "host": host, "hardware": hardware, "verdict": state, "bad": bad, "p": p, "reason": reason,
        "evidence": [{name: value for name, value in one._asdict().items() if name not in ("host", "hardware", "counts")} for one in against],
    }  # fmt: skip
