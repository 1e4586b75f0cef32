# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test support itself: a fleet that can be lost and found again, daemons that end, components that are named when absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.daemons import Daemon, descendants
from ansible_collections.mad.engine.tests.support.play import play
from ansible_collections.mad.engine.tests.support.sshd import Fleet

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: printf '%s|%s\\n' "$NOTE" "$SSH_CONNECTION"
      register: said
      changed_when: false
    - ansible.builtin.debug:
        msg: "{{ inventory_hostname }} said {{ said.stdout }}"
"""
ORPHAN = """
import sys, time
from pathlib import Path
from ansible_collections.mad.engine.tests.support.daemons import Daemon
print(Daemon(["sleep", "600"], Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


def gone(pid: int, seconds: float = 120) -> bool:
    """Wait for a process to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.real
def test_a_fleet_of_two_one_lost_and_back(fleet: Fleet, tmp_path: Path) -> None:
    """Each host has its own environment; a killed one is unreachable and the other is not; it comes back at the same place."""
    fleet.add("n1", {"NOTE": "it's \"one\" $HOME;"})
    fleet.add("n2")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    inventory = fleet.write_inventory(tmp_path / "inventory.json")
    both = play("play.yml", tmp_path, inventory=inventory)
    assert both.status == 0, both.output
    assert "127.0.0.10 " in both.output and "127.0.0.11 " in both.output
    assert "one" in both.output and "$HOME;|" in both.output
    fleet.hosts["n2"].kill()
    recap = play("play.yml", tmp_path, inventory=inventory).recap()
    assert (recap["n1"]["unreachable"], recap["n2"]["unreachable"]) == (0, 1)
    fleet.hosts["n2"].start()
    assert play("play.yml", tmp_path, inventory=inventory).status == 0


def test_a_daemon_ends_with_what_it_started(tmp_path: Path) -> None:
    """stop() ends the whole tree, also a child that ignores SIGTERM."""
    daemon = Daemon(["bash", "-c", "trap '' TERM; (trap '' TERM; sleep 600) & sleep 600; sleep 600"], tmp_path / "log")
    deadline = time.monotonic() + 120
    while len(descendants(daemon.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    below = descendants(daemon.pid)
    assert len(below) >= 2
    daemon.stop(0.5)
    assert all(gone(pid) for pid in [daemon.pid, *below])


def test_a_daemon_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the tests leaves nothing behind."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(pid)


def test_a_daemon_that_dies_shows_its_last_words(tmp_path: Path) -> None:
    """The error carries the log."""
    with pytest.raises(RuntimeError, match="no such option"):
        Daemon(["bash", "-c", "echo no such option; exit 1"], tmp_path / "log").wait_until(lambda: False, 10)


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_an_absent_component_is_named(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    """CI=true: a failure; otherwise a skip; both say what is absent and how it comes."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setitem(components.COMPONENTS, "warp-drive", (lambda: "no program warp", ("warp-drive-utils",)))
    with pytest.raises(outcome, match="ABSENT warp-drive: no program warp.*warp-drive-utils"):
        components.require("warp-drive")
