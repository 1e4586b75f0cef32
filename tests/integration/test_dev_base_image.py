# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dev/base_image.py: images without a registry run, have one name for one content, and hide nothing."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support import base_image, components

MODULES = "import csv, ctypes, hashlib, json, multiprocessing, socket, sqlite3, ssl, subprocess, zlib"
SCRIPT = "set -e; cd /tmp; echo x >a; cp a b; sort b | awk '{print $1}'; mkdir -p c; tar -cf d.tar a; test -s d.tar"


def inside(image: str, *argv: str, user: str = "0") -> subprocess.CompletedProcess[str]:
    """Run a command in a container of the image."""
    command = ["docker", "run", "--rm", "--network=none", "--user", user, image, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.real
@pytest.mark.parametrize("user", ["0", "12345"])
def test_the_host_image_has_python_and_tools(python_image: str, user: str) -> None:
    """This interpreter with its standard library, for every user."""
    done = inside(python_image, "python3", "-c", MODULES + "; import platform; print(platform.python_version())", user=user)
    assert done.stdout.strip() == platform.python_version(), done.stderr
    done = inside(python_image, "bash", "-c", SCRIPT, user=user)
    assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr


@pytest.mark.real
def test_the_tiny_image_has_busybox_and_bash(tiny_image: str) -> None:
    """Two programs; the applets are there."""
    done = inside(tiny_image, "bash", "-c", "set -e; echo ${BASH_VERSION%%.*}; ls / | grep -x tmp; busybox true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "tmp"


@pytest.mark.real
def test_the_same_content_is_imported_once(python_image: str, docker_host: str) -> None:
    """The name is the content: making it again finds it."""
    before = subprocess.run(["docker", "image", "inspect", python_image, "--format", "{{.Id}}"], capture_output=True, text=True, check=True)
    assert base_image.make("host", host=docker_host) == python_image
    after = subprocess.run(["docker", "image", "inspect", python_image, "--format", "{{.Id}}"], capture_output=True, text=True, check=True)
    assert before.stdout == after.stdout


def test_without_an_engine_the_reasons_are_named() -> None:
    """One sentence with the reason of every kind, no traceback."""
    with pytest.raises(RuntimeError, match="^base image: (tiny: .*|.*busybox.*)"):
        base_image.make("tiny", host="unix:///nowhere/docker.sock")


def test_an_engine_that_starts_nothing_is_asked_once(tmp_path: Path) -> None:
    """Where no container can start, no larger image is made after the first one."""
    engine = tmp_path / "engine"
    engine.write_text(
        '#!/bin/sh\necho "$1" >> "$0.log"\ncase $1 in image) exit 1;; run) echo "OCI permission denied" >&2; exit 126;; esac\n', "ascii"
    )
    engine.chmod(0o755)
    program = [sys.executable, str(base_image.ROOT / "dev" / "base_image.py"), "--engine", str(engine), "--kind", "host", "--kind", "debian"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stderr == "base image: it cannot start containers on this machine: OCI permission denied\n"
    assert (tmp_path / "engine.log").read_text("ascii").split() == ["image", "import", "run", "rmi"]


@pytest.mark.real
def test_our_own_engine_comes_and_goes(tiny_image: str) -> None:
    """Own socket and data; nothing of it is left, and the machine's engine does not notice."""
    components.require("root", "docker")
    if not components.which("dockerd"):
        pytest.skip("ABSENT an engine on this machine: the one that answers is elsewhere")
    from ansible_collections.mad.engine.tests.support.engine import OwnEngine

    own = OwnEngine()
    try:
        own.start()
        image = base_image.make("tiny", host=own.host)
        docker = ["docker", "--host", own.host]
        run = [*docker, "run", "--network=host"]
        done = subprocess.run([*run, "--rm", image, "bash", "-c", "echo in"], capture_output=True, text=True, check=False)
        assert done.stdout == "in\n", done.stderr
        subprocess.run([*run, "-d", image, "sleep", "600"], capture_output=True, check=True)
    finally:
        own.stop()
    assert not own.folder.exists()
    mounts = open("/proc/self/mounts", encoding="utf-8").read()
    assert str(own.folder) not in mounts
