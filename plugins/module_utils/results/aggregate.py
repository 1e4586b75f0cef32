# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One result out of several nodes' results, by a rule that somebody declared. An unknown name is not summed in silence."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..base.errors import InvalidInput

SUM, MEAN, MAX, MIN, FIRST = "sum", "mean", "max", "min", "first"
RULES = (SUM, MEAN, MAX, MIN, FIRST)
ALL = "*"  # in a declaration: every name that is not named
# Where nobody declared a rule: parts of names, as madengine has them; the first line that matches counts.
_DEFAULTS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    (SUM, ("throughput", "samples_per_second", "tokens_per_second", "images_per_second", "requests_per_second", "qps", "bandwidth")),
    (SUM, ("ops_per_second", "samples/sec", "tokens/sec")),
    (MEAN, ("latency", "time", "duration", "milliseconds", "seconds", "ttft", "tpot", "accuracy", "precision", "recall", "f1", "loss")),
    (MAX, ("memory", "bytes", "vram", "_gb", "_mb")),
)

Metric = Mapping[str, Any]


def check(declared: Mapping[str, Any], key: str) -> Dict[str, str]:
    """A declaration {metric: rule}; InvalidInput names what is none."""
    for name, rule in declared.items():
        if rule not in RULES:
            raise InvalidInput("%s.%s: expected one of %s, not %r" % (key, name, ", ".join(RULES), rule))
    return {str(name): str(rule) for name, rule in declared.items()}


def rule_of(name: str, declared: Mapping[str, str]) -> str:
    """The rule for a metric, "" where neither the declaration nor the table has one."""
    found = declared.get(name) or declared.get(ALL) or ""
    if found:
        return found
    lowered = name.lower()
    return next((rule for rule, parts in _DEFAULTS if any(part in lowered for part in parts)), "")


def combine(nodes: Sequence[Sequence[Metric]], declared: Mapping[str, str]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """(metrics of the run, notes) out of the metrics of each node, rank 0 first. What one node alone printed stands as it is."""
    found: Dict[Tuple[str, str], List[Metric]] = {}
    for metrics in nodes:
        own = {(str(metric["name"]), str(metric.get("row") or "")): metric for metric in metrics}  # a node counts once
        for key, metric in own.items():
            found.setdefault(key, []).append(metric)
    notes: Dict[str, None] = {}
    combined = []
    for (name, dummy_row), metrics in found.items():
        metric, note = _one(name, metrics, declared)
        combined.append(metric)
        notes.update({note: None} if note else {})
    return combined, list(notes)


def _one(name: str, metrics: List[Metric], declared: Mapping[str, str]) -> Tuple[Dict[str, Any], str]:
    first = dict(metrics[0])
    if len(metrics) == 1:
        return first, ""
    rule = rule_of(name, declared)
    values = [metric["value"] for metric in metrics if metric.get("value") is not None]
    if not rule:
        words = "%d nodes printed %s, and no rule says what they make together: the first node's counts; declare one in distributed.aggregation"
        return first, words % (len(metrics), name)
    if rule == FIRST or len(values) < len(metrics):
        return first, "" if rule == FIRST else "%s of some nodes is no number: the first node's counts" % name
    total = {SUM: sum(values), MEAN: sum(values) / len(values), MAX: max(values), MIN: min(values)}[rule]
    return dict(first, value=total, text="%.12g" % total), "%s is the %s of %d nodes" % (name, rule, len(values))
