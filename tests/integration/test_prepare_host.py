# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook prepare_host: leaves a host with an engine alone, refuses what it does not know, installs Docker in a bare Debian."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support import base_image, components

BIN = Path(sys.executable).parent
# What a container needs so that a dockerd can live in it; its own network would need NAT on the machine of the tests.
RIGHTS = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
RIGHTS += ["--network=host"]


def play(playbook: str, *words: str, inventory: str = "localhost,", code: int = 0, **environ: str) -> str:
    command = [str(BIN / "ansible-playbook"), "-i", inventory, playbook, *words]
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", **environ}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, env=env, check=False)
    assert done.returncode == code, done.stdout
    return done.stdout


def recap(output: str, host: str) -> dict[str, int]:
    line = next(line for line in output.splitlines() if line.startswith(host) and "ok=" in line)
    return {key: int(value) for key, value in (pair.split("=") for pair in line.split(":", 1)[1].split())}


def local(**variables: Any) -> dict[str, Any]:
    return {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False, **variables}


def inventory(path: Path, hosts: dict[str, dict[str, Any]]) -> str:
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    return str(path)


def test_a_host_whose_engine_answers_is_not_touched(tmp_path: Path) -> None:
    components.require("docker")
    hosts = inventory(tmp_path / "hosts.yml", {"n1": local()})
    for words in (["--check", "--diff"], []):
        output = play("mad.engine.prepare_host", *words, inventory=hosts)
        assert "answers, nothing was done" in output and recap(output, "n1")["changed"] == 0 and "Install by" not in output


SYSTEMS = {
    "ubuntu": (["debian"], "docker.io, iptables"),
    "linuxmint": (["ubuntu", "debian"], "docker.io, iptables"),
    "rocky": (["rhel", "centos", "fedora"], "docker-ce, docker-ce-cli, containerd.io"),
    "ol": (["fedora"], "docker-ce, docker-ce-cli, containerd.io"),
    "fedora": ([], "moby-engine"),
    "sles": (["suse"], "docker"),
    "plan9": ([], ""),
}


def before(system: str, like: list[str], **other: Any) -> dict[str, Any]:
    engine = {"available": False, "version": "", "problem": "there is no docker command", "notes": []}
    facts = {"os": {"id": system, "like": like, "name": ""}, "uid": 0, "user": "root", "init": "systemd", "engines": {"docker": engine}}
    return {"prepare_host_before": {"facts": {**facts, **other}}}


def engine_play(path: Path) -> str:
    task = {"ansible.builtin.include_role": {"name": "mad.engine.prepare_host", "tasks_from": "engine.yml"}}
    path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Engine", **task}]}]))
    return str(path)


def test_the_packages_of_each_system(tmp_path: Path) -> None:
    """In check mode, on a Debian whose apt does not know the packages of the others: the message names what would be installed."""
    hosts = {name: local(**before(name, like)) for name, (like, _packages) in SYSTEMS.items()}
    output = play(engine_play(tmp_path / "play.yml"), "--check", inventory=inventory(tmp_path / "hosts.yml", hosts), code=2)
    for name, (_like, packages) in SYSTEMS.items():
        if packages and packages not in ("docker.io, iptables", "docker"):  # those exist on Debian: apt says what it would do
            assert "%s: would install %s (" % (name, packages) in output, output
    assert "plan9: no packages of docker are known for plan9 (known systems: debian, ubuntu" in output
    assert recap(output, "plan9")["failed"] == 1 and all(recap(output, name)["failed"] == 0 for name in SYSTEMS if name != "plan9")


def test_no_root_and_a_hung_engine_are_refused_before_anything_changes(tmp_path: Path) -> None:
    hung = before("debian", [])
    hung["prepare_host_before"]["facts"]["engines"]["docker"]["problem"] = "docker hangs (docker did not end within 10 s): restart it"
    hosts = {"user": local(**before("debian", [], uid=1000, user="bench")), "hung": local(**hung)}
    output = play(engine_play(tmp_path / "play.yml"), inventory=inventory(tmp_path / "hosts.yml", hosts), code=2)
    assert "user: installing docker needs root, but the tasks run as bench: use become" in output
    assert "hung: docker hangs" in output
    assert recap(output, "user")["changed"] == recap(output, "hung")["changed"] == 0


# --- for real ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[str]:
    """Inventory with one host: a bare Debian in a container, reached through a stand-in for ssh."""
    if not components.may_install():
        pytest.skip("ABSENT a machine to install on; CI=true or MAD_TEST_INSTALL=1 as root makes one")
    components.require("docker", "root", "debootstrap")
    name = "mad-test-prepare-%s" % uuid.uuid4().hex[:12]
    image = base_image.make("debian")
    run = ["docker", "run", "-d", "--name", name, "--label", "mad.test=prepare_host", *RIGHTS, "--tmpfs=/run", "-v", "/var/lib/docker"]
    run += ["-v", "/sys/fs/cgroup:/sys/fs/cgroup", image, "sleep", "1800"]
    try:
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path("/etc/apt/apt.conf.d").glob("99*")):
            subprocess.run(["docker", "cp", str(path), "%s:%s" % (name, path)], check=True, stdout=subprocess.DEVNULL)
        ssh = tmp_path / "ssh"
        ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec docker exec -i %s sh -c "$last"\n' % name)
        ssh.chmod(0o755)
        host = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh), "ansible_pipelining": True, "ansible_become": False}
        yield inventory(tmp_path / "bare.yml", {"bare": {**host, "ansible_python_interpreter": "/usr/bin/python3"}})
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", name], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_docker_is_installed_and_started_without_systemd(bare: str) -> None:
    options = {"prepare_host_start_without_systemd": True, "prepare_host_dockerd_args": ["--iptables=false", "--bridge=none", "--ip-forward=false"]}
    words = ["--diff", "-e", json.dumps(options)]
    output = play("mad.engine.prepare_host", "--check", *words, inventory=bare)
    assert "would install docker.io, iptables" in output and "docker would be installed and started" in output
    refused = play("mad.engine.prepare_host", inventory=bare, code=2)
    assert "has no systemd that could start Docker. Set prepare_host_start_without_systemd=true" in refused
    broken = ["-e", json.dumps(options), "-e", "prepare_host_dockerd_args=--no-such-option prepare_host_wait=4"]  # texts, as a command line has them
    dead = play("mad.engine.prepare_host", *broken, inventory=bare, code=2)
    assert "bare: docker was installed but does not answer after 4 s: the docker command is there but no server answers" in dead
    assert "see /var/log/dockerd.log" in dead and recap(dead, "bare")["failed"] == 1
    output = play("mad.engine.prepare_host", *words, inventory=bare)
    assert "answers now" in output and recap(output, "bare")["changed"] >= 1
    again = play("mad.engine.prepare_host", *words, inventory=bare)
    assert "answers, nothing was done" in again and recap(again, "bare")["changed"] == 0
    users = [*words, "-e", "prepare_host_docker_users=games"]
    assert recap(play("mad.engine.prepare_host", *users, inventory=bare), "bare")["changed"] == 1
    assert recap(play("mad.engine.prepare_host", *users, inventory=bare), "bare")["changed"] == 0
