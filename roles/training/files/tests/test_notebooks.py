# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two notebooks, executed by a real kernel: killed on the way, restarted, resumed to the bytes of the undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import notebooks
from support.forked import run_hash

ROOT = Path(__file__).parents[1]
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(book)
NotebookClient(book, timeout=600, kernel_name="python3").execute()
print("".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", [])))
"""


@pytest.mark.parametrize("name", notebooks.NOTEBOOKS)
def test_the_notebooks_are_those_of_the_sources(name):
    text = (notebooks.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert text == notebooks.text_of(name), "run: python tests/support/notebooks.py"


def _start(name: str, run: Path, steps: int) -> subprocess.Popen[str]:
    # A kernel spec of this very interpreter, whatever is installed for the user.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RUN_DIR": str(run), "STEPS": str(steps), "JUPYTER_PREFER_ENV_PATH": "1",
           "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", EXECUTE, str(notebooks.FOLDER / f"{name}.ipynb")]
    return subprocess.Popen(argv, cwd=run.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(name: str, run: Path, steps: int) -> str:
    process = _start(name, run, steps)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name,steps", [("template", 1500), ("training", 100)])
def test_a_notebook_is_killed_restarted_and_resumed(tmp_path, name, steps):
    """As when the service ends the runtime: the kernel dies by SIGKILL, a new one runs all cells again."""
    pytest.importorskip("ipykernel")
    assert f"DONE {steps} " in _finish(name, tmp_path / "whole", steps)
    run = tmp_path / "killed"
    process = _start(name, run, steps)
    limit = time.monotonic() + 600
    while not list(run.glob("ckpt/step-*")):
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    kernel = int((run / "events.jsonl").read_text().split('"pid": ')[1].split(",")[0])
    os.kill(kernel, signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode != 0
    assert f"DONE {steps} " in _finish(name, run, steps)
    assert (run / "events.jsonl").read_text().count('"event": "resume"') == 1
    assert run_hash(run) == run_hash(tmp_path / "whole")
