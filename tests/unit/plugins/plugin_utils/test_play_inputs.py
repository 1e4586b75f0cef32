# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play says: values, hosts, facts; the order of layers is tested under a real play in tests/integration/test_campaign_plan.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning.plan_options import COMMON
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import PlayInputs, load_context_file


class Templar:
    """Stands for Ansible's: gives what it gets."""

    @staticmethod
    def template(value: Any) -> Any:
        return value


def inputs(hostvars: dict, **task_vars: Any) -> PlayInputs:
    return PlayInputs(dict(task_vars, hostvars=hostvars, inventory_hostname=next(iter(hostvars))), Templar())


def test_options_and_hosts() -> None:
    found = inputs({"n1": {}}, mad_timeout=5, mad_tags="x", other=1, ansible_play_hosts_all=["n1", "n2"])
    assert found.options(["timeout", "repeats"]) == {"timeout": 5}
    assert found.hosts() == ["n1", "n2"] and found.value("nothing") is None


def test_each_host_has_its_own() -> None:
    hostvars = {
        "n1": {"mad_context": {"a": 1}, "mad_runtime": "podman", "mad_facts": {"facts": {"gpu": {}}}},
        "n2": {"mad_facts": {"unreachable": True, "msg": "no route"}},
        "n3": {"mad_skip": "yes"},
        "n4": {"mad_facts": {"failed": True, "msg": "no python", "facts": {"old": 1}}},
        "n5": {},
    }
    found = inputs(hostvars, mad_context={"a": 1}, mad_target="local").by_host(hostvars, "mad_facts")
    assert list(found) == ["n1", "n2", "n4", "n5"]
    assert found["n1"]["context"] == {"a": 1} and found["n1"]["play_context"] is None, "what the task sees is n1's own"
    assert found["n1"]["runtime"] == "podman" and found["n1"]["target"] == "local" and found["n1"]["facts"] == {"gpu": {}}
    assert (found["n2"]["unreachable"], found["n2"]["reason"], found["n2"]["facts"]) == (True, "no route", None)
    assert (found["n4"]["unreachable"], found["n4"]["reason"], found["n4"]["facts"]) == (False, "no python", None)
    assert found["n5"]["facts"] is None and found["n5"]["context"] is None


def test_what_one_host_says_for_itself_reaches_no_other() -> None:
    """The step runs for one host, whose own words look like the play's."""
    hostvars = {"n1": {"mad_runtime": "host", "mad_target": "local"}, "n2": {}}
    found = inputs(hostvars, mad_runtime="host", mad_target="local", mad_timeout=5)
    assert found.options(["runtime", "target", "timeout"]) == {"timeout": 5}
    entries = found.by_host(hostvars, "")
    assert [entry["runtime"] for entry in entries.values()] == ["host", None]
    assert [entry["target"] for entry in entries.values()] == ["local", None]


def test_what_a_host_says_may_be_mistyped_too() -> None:
    assert inputs({"n1": {"mad_contxt": {}, "other": 1}, "n2": {"mad_runtime": "host"}}).said(["n1", "n2"]) == ["contxt", "runtime"]


def test_a_play_s_context_lies_below_all_hosts() -> None:
    hostvars = {"n1": {"mad_context": {"a": 1}}, "n2": {}}
    found = inputs(hostvars, mad_context={"play": 1}).by_host(hostvars, "")
    assert [entry["play_context"] for entry in found.values()] == [{"play": 1}] * 2


def test_a_play_s_context_file_lies_below_a_host_s_own() -> None:
    hostvars = {"n1": {"mad_context_file": "n1.yml"}, "n2": {}}
    found = inputs(hostvars, mad_context_file="all.yml").by_host(hostvars, "")
    assert [(entry["play_context_file"], entry["context_file"]) for entry in found.values()] == [("all.yml", "n1.yml"), ("all.yml", None)]
    only = inputs(hostvars, mad_context_file="n1.yml").by_host(hostvars, "")
    assert [entry["play_context_file"] for entry in only.values()] == [None, None], "the first host's own is not the play's"


@pytest.mark.parametrize(
    "name,text,expected",
    [
        ("bom.json", "\ufeff{'a': 1}\r\n", {"a": 1}),
        ("c.json", '{"a": 1}', {"a": 1}),
        ("c.txt", "{'a': True}", {"a": True}),
        ("c.yml", "a: [1, x]\n", {"a": [1, "x"]}),
        ("c.yaml", "", {}),
        ("c.yaml", "b: &b {<<: &a {x: 1}, x: 2}\nc: {<<: *b, x: 3}\n", {"b": {"x": 2}, "c": {"x": 3}}),
        ("c.json", "", {}),
    ],
)
def test_context_files(tmp_path: Path, name: str, text: str, expected: dict) -> None:
    (tmp_path / name).write_text(text)
    assert load_context_file(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    "name,data",
    [("c.json", b"[1]"), ("c.json", b"{"), ("c.yml", b"a: [1"), ("c.yml", b"- 1"), ("c.yml", b"a: 2026-01-01"), ("c.json", b"\xff\xfe"), ("d", None),
     ("c.yml", b"a: !!python/object/apply:os.system ['true']"), ("c.yml", b"a: &x [*x]"), ("c.yml", b"a: {b: 1, b: 2}"),
     ("c.json", b"{'a': {'b': 1, 'b': 2}}")],
)  # fmt: skip
def test_bad_context_files_are_named(tmp_path: Path, name: str, data: object) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        load_context_file(str(tmp_path / name))
    assert name in caught.value.message


@pytest.mark.parametrize(
    "hostvars,said",
    [
        ({"n1": {"mad_timeout": 11}, "n2": {"mad_timeout": 77}, "n3": {}}, "the inventory has several: 11 for n1, 77 for n2, nothing for n3;"),
        ({"n1": {}, "n2": {"mad_repeats": 2}}, "mad_repeats is one value for the whole campaign"),
        ({"n%d" % number: {"mad_tags": "a" if number else "b"} for number in range(9)}, "'a' for n1, n2, n3, n4, n5 and 3 more, 'b' for n0"),
    ],
)
def test_hosts_that_differ_in_what_is_one_value_are_refused(hostvars: dict, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        inputs(hostvars).must_agree(COMMON, list(hostvars))
    assert said in caught.value.message and "-e mad_" in caught.value.message


def test_what_they_share_or_each_may_have_or_the_command_line_says_is_fine() -> None:
    hostvars = {"n1": {"mad_timeout": 11, "mad_runtime": "host", "mad_work_dir": "/a"}, "n2": {"mad_timeout": 11, "mad_context": {"a": 1}}}
    inputs(hostvars).must_agree(COMMON, list(hostvars))
    hostvars["n2"].update(mad_timeout=3, mad_skip=True)
    inputs(hostvars).must_agree(COMMON, list(hostvars))
    hostvars["n2"]["mad_skip"] = False
    found = inputs(hostvars)
    found.extra = {"mad_timeout": 5}
    found.must_agree(COMMON, list(hostvars))
