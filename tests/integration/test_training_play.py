# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference workload through mad.engine.run, as its documentation says: a real training, its table, records and results.

It needs a Python with torch, which the collection's environment does not have: the step training-integration of dev/test runs this file
with that of the training engine. By hand: TRAINING_PYTHON=/opt/training/bin/python pytest tests/integration/test_training_play.py
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support.components import strict
from ansible_collections.mad.engine.tests.support.play import ROOT, Played, play

FILES = ROOT / "roles" / "training" / "files"
STEPS = 30
INTERPRETER = os.environ.get("TRAINING_PYTHON", "")


@pytest.fixture()
def python() -> str:
    """Give the Python that has torch."""
    if not INTERPRETER:
        hint = "ABSENT training: TRAINING_PYTHON names no Python with torch; dev/test --only training-integration makes one"
        if strict():
            pytest.fail(hint, pytrace=False)
        pytest.skip(hint)
    return INTERPRETER


def measure(folder: Path, tags: str, **variables: str) -> Played:
    """Run the engine's own repository on this machine, without containers."""
    given: dict[str, Any] = {"mad_repo": str(FILES), "mad_tags": tags, "mad_runtime": "host", "mad_work_dir": str(folder / "work")}
    given["mad_context"] = {"gpu_vendor": "NONE", "docker_env_vars": variables}
    return play("mad.engine.run", folder, inventory=ROOT / "inventories" / "one_host", variables=given, timeout=540)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return model -> record of the one campaign, each with the text of its log under "log"."""
    found = {}
    for path in (folder / "results").glob("*/runs/*/result.json"):
        record = json.loads(path.read_text("utf-8"))
        found[record["model"]] = {**record, "log": (path.parent / "run.log").read_text("utf-8"), "folder": path.parent}
    return found


def table(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return (model, metric) -> row of perf.csv."""
    (path,) = (folder / "results").glob("*/perf.csv")
    with open(path, encoding="utf-8", newline="") as handle:
        return {(row["model"], row["metric"]): row for row in csv.DictReader(handle)}


def test_the_tag_trains_and_its_throughput_stands_in_the_table(python: str, tmp_path: Path) -> None:
    """Both cards, shortened by the tag: what was printed is what came home."""
    played = measure(tmp_path, "training:max-steps=%d" % STEPS, TRAINING_PYTHON=python, PYTHONPATH=str(FILES))
    assert played.status == 0, played.output
    assert "2 runs: 2 SUCCESS" in played.output
    found, rows = records(tmp_path), table(tmp_path)
    assert set(found) == {"training_char_lm", "training_digits"}
    for record in found.values():
        assert (record["status"], record["exit_code"]) == ("SUCCESS", 0)
        assert "steps: %d " % (STEPS - 5) in record["log"]  # five are the warm-up
    printed = re.search(r"^performance: (\S+) tokens_per_second$", found["training_char_lm"]["log"], re.MULTILINE)
    assert printed and rows["training_char_lm", "tokens_per_second"]["performance"] == printed[1]
    digits = {metric: row for (model, metric), row in rows.items() if model == "training_digits_vit"}
    assert {"samples_per_second", "seconds_per_step", "peak_memory_mb", "val_loss", "val_accuracy"} <= set(digits)
    assert float(digits["samples_per_second"]["performance"]) > 0 and 0 < float(digits["val_accuracy"]["performance"]) <= 1
    assert {row["status"] for row in rows.values()} == {"SUCCESS"} and len(rows) == 1 + len(digits)
    assert list(found["training_digits"]["folder"].rglob("perf_training_digits.csv"))
    shown = [line.split() for line in played.output.splitlines() if line.startswith("training_")]
    assert len(shown) == len(rows) and all(any(words[0] == model and metric in words for words in shown) for model, metric in rows)


def test_a_python_without_torch_says_what_to_do(tmp_path: Path) -> None:
    """The likeliest mistake on a host: the script's last words, and so those of run.log, are the remedy."""
    script = FILES / "scripts" / "training" / "run.sh"
    env = {**os.environ, "TRAINING_PYTHON": "/usr/bin/false"}
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 64 and done.stderr.endswith("another Python in TRAINING_PYTHON\n")


def test_a_run_that_fails_says_why_in_its_record(tmp_path: Path) -> None:
    """Not only `exit code 64`: the last line that the script prints is part of the reason."""
    assert measure(tmp_path, "training_text", TRAINING_PYTHON="/usr/bin/false").status != 0
    record = records(tmp_path)["training_char_lm"]
    assert (record["status"], record["exit_code"]) == ("FAILURE", 64)
    assert "exit code 64" in record["reason"] and "lacks torch or training_engine" in record["reason"]
