# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command to cancel: the same inventory, hosts and variables, another playbook."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils.progress_command import cancel_command, job_hint


@pytest.mark.parametrize(
    ("resume", "playbooks", "cancel"),
    [
        (
            "ansible-playbook -i 'my hosts.yml' mad.engine.run -l n1 -e mad_campaign=c1",
            ["mad.engine.run"],
            ["ansible-playbook", "-i", "my hosts.yml", "mad.engine.cancel", "-l", "n1", "-e", "mad_campaign=c1"],
        ),
        ("ansible-playbook a.yml b.yml -e x=1", ("a.yml", "b.yml"), ["ansible-playbook", "mad.engine.cancel", "-e", "x=1"]),
        ("ansible-playbook mad.engine.run -e x=1", ("resumed-from-elsewhere.yml",), ["ansible-playbook", "mad.engine.cancel", "-e", "x=1"]),
        ("ansible-playbook other.yml", (), ["ansible-playbook", "mad.engine.cancel", "other.yml"]),
        ("ansible-playbook mad.engine.run -e 'a=$(id); b'", (), ["ansible-playbook", "mad.engine.cancel", "-e", "a=$(id); b"]),
    ],
)
def test_cancel(resume: str, playbooks: list[str], cancel: list[str]) -> None:
    assert shlex.split(cancel_command(resume, playbooks)) == cancel


def test_under_awx_there_is_no_command() -> None:
    assert "mad_campaign=c1" in job_hint({"AWX_PRIVATE_DATA_DIR": "/tmp/x"}, "c1") and job_hint({}, "c1") == ""


def test_secrets_are_not_needed_to_cancel() -> None:
    resume = "ansible-playbook mad.engine.run -e mad_tags=x -e '@give again: HF_TOKEN, mad_build_secrets' -e mad_campaign=c1"
    assert cancel_command(resume, ["mad.engine.run"]) == "ansible-playbook mad.engine.cancel -e mad_tags=x -e mad_campaign=c1"
