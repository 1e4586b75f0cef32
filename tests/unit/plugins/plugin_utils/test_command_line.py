# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that is written down: no secret in it, and a person can type it."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils import command_line


@pytest.mark.parametrize(
    "argv,words",
    [
        (["/x/bin/ansible-playbook", "a.yml"], ["ansible-playbook", "a.yml"]),
        (["/x/ansible/__main__.py", "playbook", "a.yml"], ["ansible-playbook", "a.yml"]),
        ([""], ["ansible-playbook"]),
        ([], ["ansible-playbook"]),
    ],
)
def test_as_a_person_types_it(argv: list, words: list) -> None:
    assert command_line.spoken(argv) == words


def test_a_script_that_starts_the_play_says_what_a_person_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAD_COMMAND", "'/my bin/bench' nightly -e a=1")
    assert command_line.spoken(["/x/bin/ansible-playbook", "a.yml"]) == ["/my bin/bench", "nightly", "-e", "a=1"]
    monkeypatch.setenv("MAD_COMMAND", "bench 'nightly")
    with pytest.raises(MadError, match="MAD_COMMAND is no command line"):
        command_line.spoken([])


@pytest.mark.parametrize(
    "word",
    [
        "ansible_password=geheim123",
        "a=1 X_TOKEN=geheim123 b=2",
        "X_TOKEN='geheim123 more'",
        'X_TOKEN="geheim123"',
        '{"mad_context": {"env_vars": {"HF_TOKEN": "geheim123", "A": "1"}}}',
        "{'mad_context': {'env_vars': {'HF_TOKEN': 'geheim123'}}}",
        '{"API_KEY":"geheim\\"123"}',
        '{"mad_context": {"MAD_SECRETS_X": geheim123}}',
        '{"my-access-key": "geheim123"}',
        '{"a":{"X_TOKEN":"geheim123"}}',
        '{"a":[{"X_TOKEN":"geheim123"}]}',
    ],
)
def test_secrets_are_hidden(word: str) -> None:
    (shown,) = command_line.without_secrets([word])
    assert "geheim" not in shown and "********" in shown


def test_the_rest_stays() -> None:
    words = [
        "ansible-playbook",
        "mad.engine.run",
        "-e",
        "mad_tags=dummy:x=1",
        "-e",
        '{"tokens_per_second": "1", "A": "b"}',
        "--limit",
        "n1",
    ]
    assert command_line.without_secrets(words) == words
    assert command_line.without_secrets(["-e", "x=valuevalue"], ["valuevalue"]) == ["-e", "x=********"]


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_words_stay_words(words: list) -> None:
    assert len(command_line.without_secrets(words)) == len(words)
    assert shlex.split(shlex.join(command_line.for_resuming(words))) == command_line.for_resuming(words)


@pytest.mark.parametrize(
    "words",
    [
        ["p", "x.yml", "-e", "mad_campaign=last", "-v"],
        ["p", "x.yml", "--extra-vars", "mad_campaign=a", "-v"],
        ["p", "x.yml", "--extra-vars=mad_campaign=a", "-v"],
        ["p", "x.yml", "-C", "-v"],
        ["p", "--check", "x.yml", "-v"],
    ],
)
def test_for_resuming(words: list) -> None:
    assert command_line.for_resuming(words) == ["p", "x.yml", "-v"]


def test_a_campaign_beside_other_variables_stays() -> None:
    words = ["p", "-e", "mad_campaign=a mad_tags=b"]
    assert command_line.for_resuming(words) == words, "the one that is added behind wins"
