# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpu_info through ansible itself: fast, read-only, on stand-ins for the vendors' tools and on the real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.containers import probe
from ansible_collections.mad.engine.tests.fixtures.gpu_tools import machines


def gpu_info(*words: str, **environ: str) -> dict[str, Any]:
    ansible = str(Path(sys.executable).parent / "ansible")
    command = [ansible, "localhost", "-i", "localhost,", "-c", "local", "-m", "mad.engine.gpu_info", *words]
    settings = {"ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **settings, **environ}, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout[answer.stdout.index("{") : answer.stdout.rindex("}") + 1])
    return result


def test_facts_through_ansible_in_check_mode(tmp_path: Path) -> None:
    result = gpu_info("-a", json.dumps({"work_dir": str(tmp_path / "not/yet")}), "--check")
    facts = result["facts"]
    assert result["changed"] is False and facts["free_bytes"] > 0 and facts["python"].startswith("3.")
    assert not (tmp_path / "not").exists()
    print("gpu_info looked for %.2f s" % facts["seconds"])


@pytest.mark.parametrize(("tools", "vendor", "count"), [("h100", "NVIDIA", 8), ("xpu", "INTEL", 2)])
def test_stand_ins_on_path_are_found(tools: str, vendor: str, count: int) -> None:
    path = "%s:%s" % (machines.TOOLS / tools, os.environ["PATH"])
    facts = gpu_info("-a", "what=gpu gpu_vendor=%s" % vendor.lower(), PATH=path)["facts"]
    assert (facts["gpu"]["vendor"], facts["gpu"]["count"]) == (vendor, count)


def test_the_real_engine_is_seen_as_its_user_sees_it() -> None:
    docker = probe.System().find_tool("docker")
    answered = bool(docker) and subprocess.run([docker, "version"], capture_output=True, timeout=120, check=False).returncode == 0
    engine = gpu_info("-a", "what=engines")["facts"]["engines"]["docker"]
    assert engine["available"] is answered, engine
    if answered:
        command = [docker, "version", "--format", "{{.Server.Version}}"]
        assert engine["version"] == subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    stopped = gpu_info("-a", "what=engines", DOCKER_HOST="unix:///nonexistent/docker.sock")["facts"]["engines"]["docker"]
    assert not stopped["available"] and ("no server answers" in stopped["problem"] or not docker)


def test_a_hanging_engine_costs_its_time_limit_only() -> None:
    path = "%s:%s" % (machines.TOOLS / "hanging", os.environ["PATH"])
    start = time.monotonic()
    engines = gpu_info("-a", "what=engines", PATH=path)["facts"]["engines"]
    assert time.monotonic() - start < 30
    assert "docker hangs" in engines["docker"]["problem"] and "podman hangs" in engines["podman"]["problem"]
