# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture repository of awkward models is found whole, and its scripts do what their cards expect of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES
from ansible_collections.mad.engine.plugins.module_utils.models import discovery

AWKWARD = Path(__file__).resolve().parents[4] / "fixtures" / "awkward"
FOUND = discovery.discover(str(AWKWARD), "all")
CARDS = {card["name"]: card for card in FOUND["models"]}
LASTING = ("hang", "hang_deaf", "hang_setsid", "setsid_child", "open_log")  # they leave processes behind


def test_it_is_found_whole() -> None:
    """Root models, a static directory, two custom ones; nothing to warn about; nothing written."""
    assert len(CARDS) == len(FOUND["models"]) == len(FOUND["names"])
    assert FOUND["names"][-6:] == ["custom/size1", "custom/size2", "lazy/plain", "lazy/computed", "static/model1", "static/deep/Model.V2"]
    assert FOUND["warnings"] == []
    assert not list(AWKWARD.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("comma_tags", "tags", ["awkward", "commas"]),
        ("number_gpus", "n_gpus", "0"),
        ("number_gpus", "training_precision", "16"),
        ("unknown_keys", "colour", {"red": [1, None]}),
        ("retired", "deprecated", True),
        ("retired_long_ago", "deprecated", True),
        ("wrong_architecture", "skip_gpu_arch", ["gfx908", "gfx90a", "gfx942", "H100"]),
        ("again", "resumable", True),
        ("hostile_env", "env_vars", {"AWKWARD": "line1\nline2 '\" $(touch pwned)", "AWKWARD_NUMBER": "7"}),
        ("lazy/computed", "args", "--steps 5"),
        ("lazy/computed", "env_vars", {"COMPUTED_FOR": "lazy/computed"}),
        ("static/deep/Model.V2", "dockerfile", "docker/awkward"),
        ("custom/size2", "scripts", "scripts/custom/run.sh"),
    ],
)
def test_normal_forms(name: str, key: str, value: Any) -> None:
    """What is awkward about the cards."""
    assert CARDS[name][key] == value


@pytest.mark.parametrize("name", list(CARDS))
def test_cards_expect_what_exists(name: str) -> None:
    """Their scripts are there, and their failure classes are ours."""
    card = CARDS[name]
    assert (AWKWARD / card["scripts"]).exists()
    expected = card.get("expected", {"status": "SUCCESS", "class": ""})
    assert expected["status"] in ("SUCCESS", "FAILURE", "SKIPPED")
    assert (expected["class"] in FAILURE_CLASSES) == (expected["status"] == "FAILURE")


@pytest.mark.parametrize("name", [name for name in CARDS if name not in LASTING])
def test_scripts(name: str, tmp_path: Path) -> None:
    """Run as a host would, each ends the way its card says and prints the values in order."""
    card = CARDS[name]
    script = AWKWARD / card["scripts"]
    folder = script if script.is_dir() else script.parent
    shutil.copytree(folder, tmp_path / "work")
    program = "run.sh" if script.is_dir() else script.name
    argv = [sys.executable if program.endswith(".py") else "bash", program, *shlex.split(card["args"])]
    env = {"PATH": os.environ["PATH"], **card["env_vars"]}
    done = subprocess.run(argv, cwd=tmp_path / "work", env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    expected = card.get("expected", {"class": "", "values": []})
    assert (done.returncode != 0) == (expected["class"] == "crash"), (done.stdout[-2000:], done.stderr[-2000:])
    assert not list(tmp_path.rglob("pwned"))
    results = tmp_path / "work" / "results.csv"
    text = results.read_text() if results.exists() else (done.stdout + done.stderr).decode("utf-8", "replace")
    if card["name"] != "several_dockerfiles" and expected["class"] != "image":
        positions = [text.index(value) for value in expected["values"]]
        assert positions == sorted(positions)
