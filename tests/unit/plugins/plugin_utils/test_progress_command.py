# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands to resume and to cancel: exact, without secrets, and never a second run of what is done."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.plugin_utils.progress_command import cancel_command, job_hint, resume_command

BASE = ["/nowhere/bin/ansible-playbook", "-i", "my hosts.yml", "mad.engine.run"]


def resumed(*words: str) -> list[str]:
    return shlex.split(resume_command([*BASE, *words], "c1"))


def test_the_same_command_with_the_campaign() -> None:
    assert resumed("-e", "mad_tags=dummy", "--limit", "n1") == [*BASE, "-e", "mad_tags=dummy", "--limit", "n1", "-e", "mad_campaign=c1"]


def test_a_program_on_path_is_named_shortly(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    folder = str(tmp_path)
    program = folder + "/ansible-playbook"
    with open(program, "w") as stream:
        stream.write("#!/bin/sh\n")
    import os

    os.chmod(program, 0o755)
    monkeypatch.setenv("PATH", folder)
    assert resume_command([program, "x.yml"], "c1") == "ansible-playbook x.yml -e mad_campaign=c1"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["-e", "mad_campaign=old"], []),
        (["-e", "mad_rerun=all mad_tags=a"], ["-e", "mad_tags=a"]),
        (["-emad_rerun=failed"], []),
        (["--extra-vars=mad_campaign='a b' x=1"], ["-e", "x=1"]),
        (["--extra", "mad_rerun=all"], []),
        (["-e", '{"mad_rerun": "all", "mad_tags": ["a"]}'], ["-e", '{"mad_tags": ["a"]}']),
        (["-e", "@vars.yml"], ["-e", "@vars.yml"]),
        (["-e", "mad_campaign_note=x"], ["-e", "mad_campaign_note=x"]),
        (["--check", "--diff", "-C", "-D"], []),
        (["-vC", "-De", "a=1"], ["-v", "-e", "a=1"]),
        (["-e", "a='x y' b=$(id)"], ["-e", "a='x y' b=$(id)"]),
        (["-e"], []),
    ],
)
def test_what_is_kept(words: list[str], kept: list[str]) -> None:
    assert resumed(*words) == [*BASE, *kept, "-e", "mad_campaign=c1"]


def test_a_rerun_that_cannot_be_taken_out_is_overruled() -> None:
    assert resumed("-e", "{mad_rerun: all, a: b}")[-4:] == ["-e", "mad_rerun=missing", "-e", "mad_campaign=c1"]


SECRET = "s3cr3t-of-mine"


@pytest.mark.parametrize(
    "text",
    [
        "hf_token=%s",
        "a=1 HF_TOKEN='%s' b=2",
        "ansible_become_pass=%s",
        "ansible_password=x,%s",
        "MAD_SECRETS_HF=%s",
        '{"ansible_ssh_pass": "%s"}',
        '{"mad_context": {"docker_env_vars": {"AWS_SECRET_ACCESS_KEY": "%s"}}}',
        '{"mad_context": "{\'HF_TOKEN\': \'%s\'}"}',
        '{"a": [{"api_key": ["%s"]}]}',
        'mad_context={"docker_env_vars": {"HF_TOKEN": "x\\"%s"}}',
        "mad_context=\"{'e': {'A_PASSWORD': 'p %s'}}\"",
        "{secret: {a: %s}, b: 1}",
        "{hf-token: two words %s}",
    ],
)
def test_no_secret_is_printed(text: str) -> None:
    for words in (["-e", text % SECRET], ["--extra-vars=" + text % SECRET], ["-e" + text % SECRET]):
        command = resume_command([*BASE, *words], "c1") + cancel_command([*BASE, *words], ["mad.engine.run"], "c1")
        assert SECRET not in command and "********" in command


def test_metric_names_are_no_secrets() -> None:
    assert "tokens_per_second=5" in resume_command([*BASE, "-e", "tokens_per_second=5"], "c1")


def test_cancel_keeps_inventory_and_hosts() -> None:
    argv = [*BASE, "other.yml", "-e", "mad_results=/r", "-l", "n1", "--check"]
    words = shlex.split(cancel_command(argv, ("mad.engine.run", "other.yml"), "c1"))
    assert words == [BASE[0], "-i", "my hosts.yml", "mad.engine.cancel", "-e", "mad_results=/r", "-l", "n1", "-e", "mad_campaign=c1"]
    assert shlex.split(cancel_command(["ansible-playbook"], (), "c1"))[-3:] == ["mad.engine.cancel", "-e", "mad_campaign=c1"]


def test_under_awx_there_is_no_command() -> None:
    assert "mad_campaign=c1" in job_hint({"AWX_PRIVATE_DATA_DIR": "/tmp/x"}, "c1") and job_hint({}, "c1") == ""


@given(st.lists(st.text(max_size=20), max_size=6), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_any_command_line_gives_one_that_a_shell_reads(words: list[str], extra: dict[str, str]) -> None:
    command = resume_command([*BASE, *words, "-e", json.dumps(extra)], "c1")
    assert shlex.split(command)[-1] == "mad_campaign=c1"
