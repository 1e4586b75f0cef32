# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SuperBench's diagnosis rules, applied to our rows. Their criteria are Python in a text file: they are read as syntax, never run.

A rule names metrics by regular expressions, here `<model>/<metric>`. `variance` looks at (value - baseline) / baseline, the baseline being
the core of the hardware class instead of a baseline file; `value` at the host's median itself; `failure_check` at metrics a host has no number
of; `multi_rules` at how many metrics violated the rules that say `store`.
"""

from __future__ import annotations

import ast
import math
import operator
import os
import re
import typing as t

import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

from . import compare, robust
from .libraries import np
from .observations import Source

KIND = "rule"
FUNCTIONS = ("variance", "value", "multi_rules", "failure_check")
_NODES = 200  # of one criterion
_COMPARE: dict[type, t.Callable[[t.Any, t.Any], t.Any]] = {
    **{ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Eq: operator.eq, ast.NotEq: operator.ne}
}
_ARITHMETIC: dict[type, t.Callable[[t.Any, t.Any], t.Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
}


class Rule(t.NamedTuple):
    """One rule."""

    name: str
    function: str
    category: str
    metrics: tuple[re.Pattern[str], ...]
    store: bool
    criterion: Criterion | None


class Criterion:
    """`lambda x: x > 0.05`, as syntax: comparisons, arithmetic, and, or, not, `a if b else c`, numbers, and the argument."""

    def __init__(self, text: str, where: str) -> None:
        self.where, self.text = where, text
        try:
            parsed = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._refused("it is not Python") from error
        if not isinstance(parsed, ast.Lambda) or len(parsed.args.args) != 1 or sum(1 for dummy in ast.walk(parsed)) > _NODES:
            raise self._refused("one lambda of one argument was expected")
        self.argument, self.body = parsed.args.args[0].arg, parsed.body
        self._check(self.body)

    def violated(self, value: t.Any) -> bool:
        """Whether it holds for this value, which means that something is wrong."""
        try:
            return bool(self._value(self.body, value))
        except (ArithmeticError, KeyError, TypeError) as error:
            raise self._refused("it cannot be computed for %.100r" % (value,)) from error

    def _refused(self, why: str) -> InvalidInput:
        return InvalidInput("%s: the criterion %.120r is refused: %s" % (self.where, self.text, why))

    def _check(self, node: ast.expr) -> None:
        """Refuse at once what could only be refused later, when a value comes."""
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and one.id != self.argument:
                raise self._refused("the name %s is not its argument" % one.id)
            if isinstance(one, ast.expr) and not isinstance(
                one, (ast.Name, ast.Constant, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.IfExp, ast.Subscript)
            ):
                raise self._refused("%s is not allowed" % type(one).__name__)
            if isinstance(one, ast.Constant) and not isinstance(one.value, (int, float, str)):
                raise self._refused("%r is not allowed" % (one.value,))
            operators = [*getattr(one, "ops", []), *([one.op] if isinstance(one, ast.BinOp) else [])]
            if any(type(each) not in _COMPARE and type(each) not in _ARITHMETIC for each in operators):
                raise self._refused("an operator is not allowed")

    def _value(self, node: ast.expr, given: t.Any) -> t.Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return given
        if isinstance(node, ast.Subscript):
            return self._value(node.value, given)[self._value(node.slice, given)]
        if isinstance(node, ast.IfExp):
            return self._value(node.body if self._value(node.test, given) else node.orelse, given)
        if isinstance(node, ast.BoolOp):
            values = (self._value(part, given) for part in node.values)
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, given)
            return not value if isinstance(node.op, ast.Not) else -value
        if isinstance(node, ast.BinOp):
            return _ARITHMETIC[type(node.op)](self._value(node.left, given), self._value(node.right, given))
        if not isinstance(node, ast.Compare):
            raise self._refused("%s is not allowed" % type(node).__name__)
        sides = [self._value(part, given) for part in (node.left, *node.comparators)]
        return all(_COMPARE[type(one)](left, right) for one, left, right in zip(node.ops, sides, sides[1:], strict=False))


def load(path: str) -> list[Rule]:
    """The rules of a file, in its order."""
    full, what = os.path.expanduser(path), "mad_rules %s" % path
    try:
        with open(full, encoding="utf-8") as stream:
            document = yaml.safe_load(stream)
    except OSError as error:
        raise InvalidInput("%s cannot be read: %s" % (what, error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("%s is not YAML: %s" % (what, " ".join(str(error).split())[:300])) from error
    section = document.get("superbench") if isinstance(document, dict) else None
    found = section.get("rules") if isinstance(section, dict) else None
    if not isinstance(found, dict):
        raise InvalidInput("%s: a dict superbench.rules was expected, as SuperBench's rule files have it" % what)
    return [_rule(str(name), entry, "%s: superbench.rules.%s" % (what, name)) for name, entry in found.items()]


def _rule(name: str, entry: t.Any, where: str) -> Rule:
    if not isinstance(entry, dict):
        raise scalars.wrong(where, "a dict", entry)
    function = str(entry.get("function") or "")
    if function not in FUNCTIONS:
        raise scalars.wrong(where + ".function", "one of %s" % ", ".join(FUNCTIONS), entry.get("function"))
    patterns = entry.get("metrics") or []
    if isinstance(patterns, str) or not isinstance(patterns, (list, tuple)):
        raise scalars.wrong(where + ".metrics", "a list of regular expressions", patterns)
    try:
        metrics = tuple(re.compile(str(pattern)) for pattern in patterns)
    except re.error as error:
        raise InvalidInput("%s.metrics: %r is no regular expression" % (where, error.pattern)) from error
    criterion = None if function == "failure_check" else Criterion(str(entry.get("criteria") or ""), where + ".criteria")
    return Rule(name, function, str(entry.get("categories") or name), metrics, bool(entry.get("store")), criterion)


# -- applying ----------------------------------------------------------------------------------------------------------------------


class _Measured(t.NamedTuple):
    """What one host has of one metric, and what is usual in its class."""

    group: compare.Group
    value: float
    usual: float
    runs: int
    hosts: int


def applied(rules: t.Sequence[Rule], source: Source, entries: list[dict[str, t.Any]]) -> tuple[list[dict[str, t.Any]], list[str]]:
    """(the entries with what the rules found, warnings about rules that concern nothing here)."""
    table, names = _table(source)
    asked = [(rule, [name for name in names if any(pattern.search(name) for pattern in rule.metrics)]) for rule in rules]
    warnings = [
        "rule %s: none of its metrics is here (ours are called <model>/<metric>)" % rule.name
        for rule, wanted in asked
        if rule.metrics and not wanted
    ]
    for entry in entries:
        entry["evidence"] = [*entry["evidence"], *_violations(asked, table.get(entry["host"], {}))]
        if any(one["kind"] == KIND for one in entry["evidence"]) and not entry["bad"]:
            entry.update(bad=True, verdict=KIND, reason="")
    return sorted(entries, key=lambda entry: not entry["bad"]), warnings


def _table(source: Source) -> tuple[dict[str, dict[str, _Measured]], list[str]]:
    """{host: {`<model>/<metric>`: what it measured}} and all these names."""
    table: dict[str, dict[str, _Measured]] = {}
    names: dict[str, None] = {}
    for group in compare.groups([], source.rows):
        by_host: dict[str, list[float]] = {}
        for row in compare.numbers(group.candidate):
            by_host.setdefault(row.host, []).append(t.cast(float, row.value))
        if not by_host:
            continue
        name = "%s/%s" % (group.key.model, group.key.metric)
        names[name] = None
        medians = np.array([np.median(values) for values in by_host.values()])
        usual = robust.core(medians).centre
        for (host, values), median in zip(by_host.items(), medians, strict=True):
            table.setdefault(host, {})[name] = _Measured(group, float(median), usual, len(values), len(by_host))
    return table, list(names)


def _violations(asked: t.Iterable[tuple[Rule, list[str]]], own: t.Mapping[str, _Measured]) -> list[dict[str, t.Any]]:
    """Evidence against one host, one entry for each rule; `asked` has the names that each is about."""
    stored: dict[str, int] = {}
    found = []
    for rule, wanted in asked:
        count, worst = _violated(rule, wanted, own, stored)
        if rule.store:
            stored[rule.name] = count
        elif count:
            found.append(_evidence(rule, count, worst))
    return found


def _violated(
    rule: Rule, wanted: t.Sequence[str], own: t.Mapping[str, _Measured], stored: t.Mapping[str, int]
) -> tuple[int, _Measured | None]:
    """(how many metrics violate it, the one farthest from what is usual)."""
    if rule.function == "multi_rules":
        return int(rule.criterion is not None and rule.criterion.violated(dict(stored))), None
    if rule.function == "failure_check" or rule.criterion is None:
        return sum(name not in own for name in wanted), None
    seen = [own[name] for name in wanted if name in own]
    hit = [one for one in seen if rule.criterion.violated(_deviation(one) if rule.function == "variance" else one.value)]
    return len(hit), max(hit, key=lambda one: abs(_deviation(one)), default=None)


def _deviation(one: _Measured) -> float:
    return (one.value - one.usual) / one.usual if one.usual else math.inf


def _evidence(rule: Rule, count: int, worst: _Measured | None) -> dict[str, t.Any]:
    key = worst.group.key if worst else None
    return {
        "kind": KIND,
        "rule": rule.name,
        "category": rule.category,
        "violations": count,
        "model": key.model if key else rule.name,
        "args": key.args if key else "",
        "metric": key.metric if key else rule.category,
        "deviation": _deviation(worst) if worst else None,
        "p": None,
        "runs": worst.runs if worst else 0,
        "hosts": worst.hosts if worst else 0,
        "value": worst.value if worst else None,
        "usual": worst.usual if worst else None,
    }
