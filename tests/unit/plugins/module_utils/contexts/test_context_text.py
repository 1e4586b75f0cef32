# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contexts as text and as data of any kind: read literally or refused with one clear error."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import context


def one(*layers: object) -> dict:
    return context.normalise([context.load_text(layer, "mad_context") for layer in layers])["context"]


@pytest.mark.parametrize(
    "text", ["{'gpu_vendor': 'AMD', 'a': True, 'b': None, 'c': (1, 2)}", '{"gpu_vendor": "AMD", "a": true, "b": null, "c": [1, 2]}']
)
def test_json_and_python_text(text: str) -> None:
    assert context.load_text(text, "x") == {"gpu_vendor": "AMD", "a": True, "b": None, "c": [1, 2]}


@pytest.mark.parametrize("value", [None, "", "  \n", {}, "{}"])
def test_nothing_is_an_empty_context(value: object) -> None:
    assert context.load_text(value, "x") == {}


@pytest.mark.parametrize(
    "value",
    [
        "[1]",
        "1",
        "'text'",
        "{",
        "{'a': f()}",
        "__import__('os').system('true')",
        '{"a": NaN}',
        "{'a': {1, 2}}",
        "{1: 2}",
        "{'a': b'x'}",
        [1],
        5,
        '{"a": 1, "a": 2}',
        "{'a': 1, 'a': 2}",
        "{'a': [{'b': 1, 'b': None}]}",
        "(" * 5000,
        "[" * 100000,
        "{'a': 1e999}",
        "gpu_vendor=AMD",
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_text_is_one_clear_error(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        context.load_text(value, "mad_context of host n1")
    assert "mad_context of host n1" in caught.value.message and len(caught.value.message) < 1000


def test_ten_megabytes_of_text_are_taken_literally() -> None:
    big = "x;$(rm)\n'\"" * 1_000_000
    assert one(json.dumps({"model_args": big}))["model_args"] == big


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=12), JSON, max_size=5))
def test_any_dict_gives_a_context_or_one_error(layer: dict) -> None:
    try:
        result = context.normalise([layer], ["mad_context"])
    except InvalidInput as error:
        assert "mad_context" in error.message
        return
    assert json.loads(json.dumps(result["context"])) == result["context"]
    again = context.normalise([result["context"]])["context"]
    assert again == result["context"], "the normal form is its own normal form"


@settings(max_examples=150)
@given(st.text(max_size=200))
def test_any_text_loads_or_is_refused(text: str) -> None:
    try:
        assert isinstance(context.load_text(text, "mad_context"), dict)
    except InvalidInput as error:
        assert "mad_context" in error.message


@settings(max_examples=100)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=5)),
        max_size=4,
    )
)
def test_later_layers_win_key_by_key(layers: list) -> None:
    expected: dict = {}
    for layer in layers:
        expected.update(layer)
    merged = one(*[{"env_vars": layer} for layer in layers])
    assert merged.get("env_vars", {}) == expected


def test_the_input_is_not_changed() -> None:
    layer = {"launcher": {"type": "torchrun", "nnodes": 2}, "slurm": {"nodes": 2, "time_limit": 3}, "env_vars": {"A": 1}}
    before = json.dumps(layer)
    result = context.normalise([layer])["context"]
    result["env_vars"]["A"] = "changed"
    assert json.dumps(layer) == before


def test_subclasses_become_plain() -> None:
    class Tagged(str):
        pass

    result = scalars.plain({Tagged("a"): [Tagged("b")]}, "x")
    assert next(iter(result)).__class__ is str and result["a"][0].__class__ is str


@pytest.mark.parametrize(("value", "where"), [({"a": [1, {"b": {1}}]}, "x.a[1].b"), ({"a": {"b": "nul\0"}}, "x.a.b"), ([{2: 3}], "a key of x[0]")])
def test_what_is_not_plain_is_named_by_its_place(value: object, where: str) -> None:
    with pytest.raises(InvalidInput, match="^" + re.escape(where) + ": expected"):
        scalars.plain(value, "x")
