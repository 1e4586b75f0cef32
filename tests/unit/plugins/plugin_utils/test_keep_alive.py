# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""keep_alive, with Ansible's own connection plugins."""

from __future__ import annotations

import typing as t

import pytest
from ansible.playbook.play_context import PlayContext
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader

from ansible_collections.mad.engine.plugins.plugin_utils.keep_alive import keep_alive


def connection(name: str, **variables: str) -> ConnectionBase:
    found: ConnectionBase = connection_loader.get(name, PlayContext())
    found.set_options(var_options=variables)
    return found


def words(found: t.Any, program: str) -> list[str]:
    """The command line that Ansible would start."""
    return [word.decode() for word in found._build_command(program, program, "n1")]


@pytest.mark.parametrize("program", ["ssh", "sftp", "scp"])
def test_ssh_asks_for_signs_of_life(program: str) -> None:
    found = connection("ssh")
    keep_alive(found)
    assert {"ServerAliveInterval=30", "ServerAliveCountMax=4"} <= set(words(found, program))


@pytest.mark.parametrize("variable", ["ansible_ssh_args", "ansible_ssh_common_args"])
def test_what_a_person_said_comes_first(variable: str) -> None:
    """Of an option that is given twice, ssh takes the first."""
    found = connection("ssh", **{variable: "-o ServerAliveInterval=5 -o ProxyJump=gate"})
    keep_alive(found)
    told = words(found, "ssh")
    assert told.index("ServerAliveInterval=5") < told.index("ServerAliveInterval=30")
    assert "ProxyJump=gate" in told


def test_other_connections_are_left_alone() -> None:
    keep_alive(connection("local"))
