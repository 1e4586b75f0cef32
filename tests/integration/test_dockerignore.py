# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real engine sees the same build context as module_utils/building/dockerignore.py."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest

CASES = json.loads((Path(__file__).parents[1] / "fixtures" / "dockerignore_cases.json").read_text())
NOTHING_KEPT = "nothing-was-kept"  # an engine may refuse to COPY from an empty context


def seen_by_engine(context: Path) -> list:
    """Names of the files that `COPY .` brings into an image."""
    tag = "mad-test-dockerignore:" + uuid.uuid4().hex
    recipe = "FROM scratch\nLABEL mad.test=dockerignore\nCOPY . /context/\n"
    subprocess.run(["docker", "build", "-q", "-t", tag, "-f", "-", str(context)], input=recipe.encode(), check=True, capture_output=True)
    container = ""
    try:
        container = subprocess.run(["docker", "create", tag, "x"], check=True, capture_output=True, text=True).stdout.strip()
        data = subprocess.run(["docker", "cp", container + ":/context/.", "-"], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return sorted(member.name[2:] if member.name.startswith("./") else member.name for member in archive if member.isfile())
    finally:
        if container:
            subprocess.run(["docker", "rm", container], check=True, capture_output=True)
        subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)


@pytest.mark.real
@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["ignore"]))
def test_docker_agrees(case: dict, docker_host: str, tmp_path: Path) -> None:
    for name in [*case["files"], NOTHING_KEPT]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    ignore = [*case["ignore"], ".dockerignore", "!" + NOTHING_KEPT]
    (tmp_path / ".dockerignore").write_text("\n".join(ignore) + "\n")
    assert [name for name in seen_by_engine(tmp_path) if name != NOTHING_KEPT] == sorted(case["kept"])
