# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that is written down: no secret in it, and a person can type it."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils import command_line
from ansible_collections.mad.engine.plugins.plugin_utils.command_line import GIVE_AGAIN

PLAY = ["ansible-playbook", "mad.engine.run"]


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
    "text,left,missing",
    [
        ("ansible_password=geheim123", "", "ansible_password"),
        ("ansible_become_pass=geheim123", "", "ansible_become_pass"),
        ("ansible_ssh_pass=geheim123", "", "ansible_ssh_pass"),
        ("PGPASSWORD=geheim123", "", "PGPASSWORD"),
        ("a=1 X_TOKEN=geheim123 b=2", "a=1 b=2", "X_TOKEN"),
        ("X_TOKEN='geheim123 more' a='b c'", '{"a": "b c"}', "X_TOKEN"),
        ('X_TOKEN="geheim123"', "", "X_TOKEN"),
        ("{HF_TOKEN: geheim123, a: b}", "a=b", "HF_TOKEN"),
        (
            '{"mad_context": {"env_vars": {"HF_TOKEN": "geheim123", "A": "1"}}}',
            '{"mad_context": {"env_vars": {"A": "1"}}}',
            "mad_context.env_vars.HF_TOKEN",
        ),
        ("{'mad_context': {'env_vars': {'HF_TOKEN': 'geheim123'}}}", "", "mad_context.env_vars.HF_TOKEN"),
        ('{"API_KEY":"geheim\\"123"}', "", "API_KEY"),
        ('{"mad_context": {"MAD_SECRETS_X": geheim123}}', "", "mad_context.MAD_SECRETS_X"),
        ('{"a":[{"X_TOKEN":"geheim123"}], "b": 1}', '{"b": 1}', "a"),
        ('{"mad_build_secrets": {"NPM": "geheim123"}}', "", "mad_build_secrets"),
        ("mad_build_secrets={NPM: geheim123}", "", "mad_build_secrets"),
        ('{"mad_context": "{\\"env_vars\\": {\\"HF_TOKEN\\": \\"geheim123\\"}}"}', "", "mad_context"),
        ("""mad_context='{"docker_env_vars": {"HF_TOKEN": "geheim123"}}' mad_tags=a""", "mad_tags=a", "mad_context"),
        ("mad_context=\"{'env_vars': {'HF_TOKEN': 'geheim123'}}\"", "", "mad_context"),
        ("mad_database_url=postgresql://bench:geheim123@db/perf", "", "mad_database_url"),
        ("mad_database_url=postgresql://db/perf?sslmode=require&password=geheim123", "", "mad_database_url"),
        ("{not: [closed geheim123", "", "variables that cannot be read"),
        ("- geheim123", "- geheim123", ""),
    ],
)
@pytest.mark.parametrize("form", ["-e {}", "--extra-vars {}", "--extra-vars={}", "-e{}", "-vve {}", "--extra {}"])
def test_secrets_are_left_out_and_asked_for(form: str, text: str, left: str, missing: str) -> None:
    head, sep, dummy = form.partition(" ")
    words = [*PLAY, head, text] if sep else [*PLAY, form.format(text)]
    found = command_line.for_resuming(words)
    flags = ["-vv"] if form.startswith("-vv") else []
    assert found == PLAY + flags + (["-e", left] if left else []) + (["-e", GIVE_AGAIN + missing] if missing else [])
    assert not missing or "geheim" not in " ".join(found)


def test_the_rest_stays() -> None:
    words = [*PLAY, "-e", "mad_tags=dummy:x=1", "-e", '{"tokens_per_second": "1", "A": "b"}', "-e", "--limit", "n1", "-vv"]
    assert command_line.for_resuming(words) == words
    assert command_line.for_resuming(["-i", "https://me:geheim@host/inventory"]) == ["-i", "https://me:********@host/inventory"]


def test_a_file_of_variables_cannot_start_anew_what_is_done() -> None:
    """It may say mad_rerun=all or mad_wait=false; what stands behind it on the command line counts."""
    found = command_line.for_resuming([*PLAY, "-e", "@vars.yml", "-e", "HF_TOKEN=geheim123"])
    assert found == [*PLAY, "-e", "@vars.yml", "-e", GIVE_AGAIN + "HF_TOKEN", "-e", command_line.AS_EVER]
    assert command_line.for_resuming(found) == found


@given(st.lists(st.text(max_size=40) | st.sampled_from(["-e", "--extra-vars", "-ve", "@vars.yml", GIVE_AGAIN + "X"]), max_size=6))
def test_any_words_can_be_typed_and_are_the_same_the_second_time(words: list) -> None:
    found = command_line.for_resuming(words)
    assert shlex.split(shlex.join(found)) == found
    assert command_line.for_resuming(found) == found


SECRET = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=12).map(lambda text: "geheim" + text)
TREE = st.recursive(
    st.dictionaries(st.sampled_from(["A", "B", "X_TOKEN", "env_vars"]), SECRET | st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "password"]), inner | st.lists(inner, max_size=2), max_size=2),
    max_leaves=6,
)


@given(TREE)
def test_no_value_below_a_secret_name_is_left(tree: dict) -> None:
    def secrets(value: object, below: bool = False) -> list:
        if isinstance(value, dict):
            return [one for key, inner in value.items() for one in secrets(inner, below or key in ("X_TOKEN", "password"))]
        if isinstance(value, list):
            return [one for inner in value for one in secrets(inner, below)]
        return [value] if below and isinstance(value, str) else []

    def plain(value: object) -> list:
        if isinstance(value, dict):
            return [one for key, inner in value.items() if key not in ("X_TOKEN", "password") for one in plain(inner)]
        return [one for inner in value for one in plain(inner)] if isinstance(value, list) else [str(value)]

    text = " ".join(command_line.for_resuming(["-e", json.dumps(tree)]))
    assert not [value for value in secrets(tree) if value in text and not any(value in other for other in plain(tree))]


@pytest.mark.parametrize(
    "words",
    [
        ["p", "x.yml", "-e", "mad_campaign=last", "-v"],
        ["p", "x.yml", "--extra-vars", "mad_campaign=a", "-v"],
        ["p", "x.yml", "--extra-vars=mad_campaign=a", "-v"],
        ["p", "x.yml", "-e", "mad_campaign=a mad_rerun=all mad_wait=false", "-v"],
        ["p", "x.yml", "-e", "mad_rerun=all", "-e", '{"mad_campaign": "a"}', "-v"],
        ["p", "x.yml", "-C", "-v"],
        ["p", "--check", "x.yml", "-v"],
    ],
)
def test_for_resuming(words: list) -> None:
    assert command_line.for_resuming(words) == ["p", "x.yml", "-v"]


def test_a_campaign_beside_other_variables() -> None:
    assert command_line.for_resuming(["p", "-e", "mad_campaign=a mad_tags=b"]) == ["p", "-e", "mad_tags=b"]
