# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""quote_env: what a shell makes of the text is the value itself."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.filter.quote_env import FilterModule, quote_env

HOSTILE = [
    "a b",
    "it's",
    '"',
    "$HOME",
    "$(touch x)",
    "`id`",
    "; rm -rf /",
    "a\nb",
    "../..",
    "ünïcode ☃",
    "\\",
    "",
    "=cmd|' /C calc'!A0",
    "-n",
    "*",
    "~",
    "!x",
]


def through_a_shell(text: str, name: str, shell: str) -> str:
    script = text + 'printf %s "$' + name + '"'
    return subprocess.run([shell, "-c", script], check=True, capture_output=True, env={"PATH": os.environ["PATH"]}).stdout.decode()


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_come_through(value: str, shell: str) -> None:
    assert through_a_shell(quote_env({"A": value}), "A", shell) == value


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=40))
def test_any_value_comes_through(value: str) -> None:
    assert through_a_shell(quote_env({"A": value}), "A", "sh") == value


def test_sorted_and_typed() -> None:
    assert quote_env({"B": 2, "A": True, "C": 1.5}) == "export A=True\nexport B=2\nexport C=1.5\n"
    assert quote_env({}) == ""


@pytest.mark.parametrize(
    "variables", [{"A B": "1"}, {"A;x": "1"}, {"1A": "1"}, {"": "1"}, {"A": []}, {"A": {}}, {"A": None}, {"A": "x\0y"}, ["A"], "A=1"]
)
def test_bad_input_is_refused(variables: object) -> None:
    with pytest.raises(AnsibleFilterError):
        quote_env(variables)


def test_the_filter_is_offered() -> None:
    assert FilterModule().filters() == {"quote_env": quote_env}
