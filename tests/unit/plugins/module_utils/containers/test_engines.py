# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that answer, refuse, hang and pretend; their answers are those of docker 20.10 to 28 and podman 4."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.containers import engines
from ansible_collections.mad.engine.plugins.module_utils.containers.probe import System

DOCKER = {
    "Driver": "overlay2", "CgroupVersion": "2", "DockerRootDir": "/var/lib/docker", "Name": "n1", "ServerVersion": "27.3.1",
    "Runtimes": {"runc": {}, "nvidia": {}}, "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"], "Warnings": None,
}  # fmt: skip
PODMAN = {
    "host": {"cgroupVersion": "v2", "hostname": "n1", "ociRuntime": {"name": "crun"}, "security": {"rootless": True}},
    "store": {"graphDriverName": "overlay", "graphRoot": "/home/u/.local/share/containers/storage"},
    "version": {"Version": "4.9.3"},
}
EMPTY = dict.fromkeys(DOCKER, "")


def engine(tmp_path: Path, name: str, script: str, timeout: float = 10.0) -> Dict[str, Any]:
    (tmp_path / name).write_text("#!/bin/sh\n" + script)
    (tmp_path / name).chmod(0o755)
    return engines.probe_engine(System(str(tmp_path), {"PATH": str(tmp_path)}), name, timeout)


def say(document: Any, error: str = "", code: int = 0) -> str:
    return "printf '%%s' '%s'\n%s\nexit %d\n" % (json.dumps(document), "printf '%%s\\n' '%s' >&2" % error if error else ":", code)


def test_docker(tmp_path: Path) -> None:
    found = engine(tmp_path, "docker", say(DOCKER))
    assert found["available"] and found["version"] == "27.3.1" and found["problem"] == ""
    assert (found["storage"], found["cgroup"], found["rootless"], found["runtimes"]) == ("overlay2", "2", False, ["nvidia", "runc"])
    assert found["command"] == str(tmp_path / "docker") and found["free_bytes"] > 0


def test_rootless_docker_on_slow_storage(tmp_path: Path) -> None:
    info = {**DOCKER, "SecurityOptions": ["name=rootless"], "Driver": "vfs", "Warnings": ["WARNING: No swap limit"]}
    found = engine(tmp_path, "docker", say(info))
    assert found["rootless"] and "vfs" in found["notes"][0] and found["notes"][1] == "WARNING: No swap limit"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (say(EMPTY, "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", 1), "no server answers"),
        (say({**EMPTY, "ServerErrors": ["Cannot connect to the Docker daemon at tcp://x"]}), "mad.engine.prepare_host"),
        (say(EMPTY, "permission denied while trying to connect to the Docker daemon socket at unix:///x", 1), "group docker, or"),
        ("echo surprise >&2; exit 125", "docker does not answer: surprise"),
        ("exit 0", "docker does not answer: no output"),
        ("echo '[1, 2'", "docker does not answer"),
        ("echo '[\"a\"]'", "docker does not answer"),
        (say(PODMAN), "docker command is podman under another name"),
    ],
)
def test_docker_that_is_no_engine(tmp_path: Path, script: str, words: str) -> None:
    found = engine(tmp_path, "docker", script)
    assert not found["available"] and words in found["problem"] and found["version"] == ""


def test_a_hung_server(tmp_path: Path) -> None:
    start = time.monotonic()
    found = engine(tmp_path, "docker", "/bin/sleep 600 & /bin/sleep 600", 0.5)
    assert time.monotonic() - start < 120
    assert not found["available"] and "restart it" in found["problem"]
    assert "docker hangs (docker did not end within 0.5 s" in found["problem"]


def test_podman(tmp_path: Path) -> None:
    found = engine(tmp_path, "podman", say(PODMAN))
    assert found["available"] and (found["version"], found["rootless"]) == ("4.9.3", True)
    assert (found["cgroup"], found["runtimes"]) == ("2", ["crun"])
    refused = engine(tmp_path, "podman", "echo 'Error: cannot re-exec process' >&2; exit 125")
    assert not refused["available"] and "podman does not answer: Error: cannot re-exec" in refused["problem"]


def test_both_are_asked_side_by_side(tmp_path: Path) -> None:
    """Each waits until the other one has been asked, too: in turn, both would hang."""
    for name, other in (("docker", "podman"), ("podman", "docker")):
        script = ': >"$0.asked"\nwhile [ ! -e %s.asked ]; do /bin/sleep 0.05; done\n' % (tmp_path / other)
        (tmp_path / name).write_text("#!/bin/sh\n" + script)
        (tmp_path / name).chmod(0o755)
    found = engines.probe_engines(System(str(tmp_path), {"PATH": str(tmp_path)}), 30.0)
    assert set(found) == {"docker", "podman"} and not any("hangs" in one["problem"] for one in found.values())


@pytest.mark.parametrize(
    ("which", "docker", "asked"),
    [
        ("all", say(DOCKER), ["docker", "podman"]),
        ("docker", say(DOCKER), ["docker"]),
        ("podman", say(DOCKER), ["podman"]),
        ("auto", say(DOCKER), ["docker"]),
        ("auto", say(EMPTY, "Cannot connect to the Docker daemon at unix:///x", 1), ["docker", "podman"]),
    ],
)
def test_which_are_asked(tmp_path: Path, which: str, docker: str, asked: List[str]) -> None:
    for name, script in (("docker", docker), ("podman", say(PODMAN))):
        (tmp_path / name).write_text('#!/bin/sh\n: >"$0.asked"\n' + script)
        (tmp_path / name).chmod(0o755)
    found = engines.probe_engines(System(str(tmp_path), {"PATH": str(tmp_path)}), which=which)
    assert sorted(found) == asked == sorted(path.stem for path in tmp_path.glob("*.asked"))
    assert any(one["available"] for one in found.values())


def test_no_engine(tmp_path: Path) -> None:
    found = engines.probe_engine(System(str(tmp_path), {"PATH": ""}), "no-such-engine")
    assert (found["available"], found["problem"], found["command"]) == (False, "there is no no-such-engine command", "")


def test_notes_that_need_other_facts(tmp_path: Path) -> None:
    system = System(str(tmp_path), {"PATH": ""})

    def notes(hostname: str, vendor: str, runtimes: list[str]) -> list[str]:
        found = {"docker": {"available": True, "host": "n1.example", "runtimes": runtimes, "notes": []}, "podman": {"available": False}}
        engines.add_notes(found, system, hostname, vendor)
        return list(found["docker"]["notes"])  # type: ignore[call-overload]

    assert notes("n1", "NVIDIA", ["nvidia"]) == [] and notes("n1", "AMD", ["runc"]) == []
    assert any("nvidia-container-toolkit" in note for note in notes("n1", "NVIDIA", ["runc"]))
    assert any("DOCKER_HOST" in note for note in notes("laptop", "NONE", []))


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    system = System(str(tmp_path), {})
    assert engines.free_bytes(system, "/a/b/c") == engines.free_bytes(system, "/") > 0
    (tmp_path / "file").write_text("")
    assert engines.free_bytes(system, "/file/below/a/file") > 0
