# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory file of bad hosts, and SuperBench's rules."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.judge import diagnosed, fleet, fleet_table, quarantine, superbench
from ansible_collections.mad.engine.plugins.plugin_utils.judge.observations import Key, Observation, Source


def test_hosts_go_in_and_come_out(tmp_path: Path) -> None:
    path = str(tmp_path / "quarantine.yml")
    first = diagnosed.quarantined(path, {"n7": "slow: -8%", "n9": "evil: {{ lookup('pipe', 'x') }}\n- hosts: all"}, write=True)
    assert (first["changed"], first["added"]) == (True, ["n7", "n9"])
    group = yaml.safe_load(Path(path).read_text())["mad_quarantined"]
    assert group["vars"] == {"mad_skip": True}
    assert group["hosts"]["n7"]["mad_quarantine_reason"] == "slow: -8%"
    again = diagnosed.quarantined(path, {"n7": "another reason"}, write=True)
    assert (again["changed"], again["quarantined"]) == (False, ["n7", "n9"])
    out = diagnosed.released(path, ["n7"], write=True)
    assert (out["released"], out["quarantined"]) == (["n7"], ["n9"])
    assert diagnosed.released(path, ["all"], write=True)["quarantined"] == []
    with pytest.raises(InvalidInput, match="n7: not in quarantine"):
        diagnosed.released(path, ["n7"], write=True)


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.yml"
    found = diagnosed.quarantined(str(path), {"n7": "slow"}, write=False)
    assert found["changed"] and "n7" in found["diff"]["after"] and not path.exists()


@pytest.mark.parametrize(
    "text", ["all: {hosts: {}}\n", "[1, 2]\n", "mad_quarantined: {hosts: [a]}\n", "a: [\n", "mad_quarantined: {hosts: {n1: 5}}\n"]
)
def test_a_file_that_is_something_else_is_not_touched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="it was not touched"):
        diagnosed.quarantined(str(path), {"n7": "slow"}, write=True)
    assert path.read_text() == text
    with pytest.raises(InvalidInput, match="make it first"):
        diagnosed.quarantined(str(tmp_path / "gone" / "q.yml"), {"n7": "slow"}, write=True)


def test_a_reason_is_never_a_template(tmp_path: Path) -> None:
    """What is written comes from names of models, which come from repositories."""
    text = quarantine.text(quarantine.added({}, {"n1": "mad.engine: {{{ 7 * 7 }}} {% raw %} {# #}"}), "q.yml")
    assert not any(mark in text for mark in ("{{", "{%", "{#"))
    for name in ("n[1:500]", "a b", "", "{{ x }}", "n1,n2"):
        with pytest.raises(InvalidInput, match="not the name of one host"):
            quarantine.added({}, {name: "slow"})


# -- SuperBench ------------------------------------------------------------------------------------------------------------------------

RULES = """
version: v0.11
superbench:
  rules:
    slow-start: {function: variance, criteria: "lambda x:x<-0.05", categories: Slow, metrics: ['.*/img/s$'], store: true}
    any: {function: multi_rules, criteria: 'lambda label:True if label["slow-start"]>=1 else False', categories: KernelLaunch}
    zero: {function: value, criteria: "lambda x:not (x > 0)", categories: Broken, metrics: ['^m/']}
    gone: {function: failure_check, categories: Failed, metrics: ['n/img/s']}
    other: {function: value, criteria: "lambda x:x<0", categories: Other, metrics: ['nccl.*']}
"""


def source() -> Source:
    rows = []
    for place in range(8):
        for model in ("m", "n"):
            if place == 5 and model == "n":
                continue
            key = Key(model, "", "img/s", "class", "8", "1", 0)
            value = 90.0 if (place, model) == (3, "m") else 100.0 + place / 100
            rows.append(Observation(key, model, "class", "higher", value, "SUCCESS", "", "c", "", "h%d" % place, 1, 0.0))
    return Source("s", rows, [])


def test_rules_of_superbench(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    known = source()
    entries, warnings = superbench.applied(
        superbench.load(str(tmp_path / "rules.yaml")), known, fleet.diagnose(known, fleet.Limits(least=0.4))[0]
    )
    found = {entry["host"]: [(one["rule"], one["category"]) for one in entry["evidence"]] for entry in entries if entry["bad"]}
    assert found == {"h3": [("any", "KernelLaunch")], "h5": [("gone", "Failed")]}
    assert warnings == ["rule other: none of its metrics is here (ours are called <model>/<metric>)"]
    lines = fleet_table.render(entries, "s")
    assert lines[-1] == "8 hosts: 2 rule, 6 healthy" and [line.split()[:4] for line in lines if "rule" in line][:1] == [["h3", "rule", "any", "KernelLaunch"]]
    assert fleet_table.reason(next(entry for entry in entries if entry["host"] == "h5")) == "mad.engine: rule: rule gone (Failed) is violated"


@pytest.mark.parametrize(
    "criterion",
    [
        "lambda x: __import__('os').system('touch /tmp/owned')",
        "lambda x: x.__class__",
        "lambda x: [y for y in x]",
        "lambda x: (lambda y: y)(x)",
        "lambda x: open",
        "lambda x: x ** 99999999",
        "lambda x: x << 9999",
        "lambda x: f'{x}'",
        "lambda x, y: x",
        "x > 0",
        "lambda x:",
        "lambda x: " + "+".join(["x"] * 500),
        "lambda x: (x := 5)",
        "",
    ],
)
def test_criteria_are_never_run(criterion: str) -> None:
    with pytest.raises(InvalidInput, match="rules.yaml: the criterion .* is refused"):
        superbench.Criterion(criterion, "rules.yaml")


@pytest.mark.parametrize(
    ("criterion", "value", "expected"),
    [
        ("lambda x:x>0.05", 0.06, True),
        ("lambda x:x<-0.05 or x>=0.05", -0.05, False),
        ("lambda x: 0 < x < 1 and not x == 0.5", 0.25, True),
        ("lambda x: -x/2 + 1 > 0", 1.0, True),
        ('lambda label:True if label["a"]+label["b"]>=2 else False', {"a": 1, "b": 1}, True),
    ],
)
def test_criteria_mean_what_python_means(criterion: str, value: object, expected: bool) -> None:
    assert superbench.Criterion(criterion, "here").violated(value) is expected


def test_a_criterion_that_cannot_be_computed_is_named() -> None:
    with pytest.raises(InvalidInput, match="cannot be computed"):
        superbench.Criterion("lambda x: 1 / x > 0", "here").violated(0)
    with pytest.raises(InvalidInput, match="cannot be computed"):
        superbench.Criterion('lambda x: x["nobody"] > 0', "here").violated({})


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "superbench: {rules: 5}",
        "superbench: {rules: {a: {function: pow}}}",
        "superbench: {rules: {a: {function: value, criteria: 'lambda x:x', metrics: ['(']}}}",
        "a: [",
    ],
)
def test_a_file_that_is_no_rule_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=r"rules\.yaml"):
        superbench.load(str(tmp_path / "rules.yaml"))
