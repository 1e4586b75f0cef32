# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that look at a run without torch, and so at once: whether its checkpoints are whole, and the hash of what it computed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .checkpoint.integrity import problems
from .checkpoint.layout import MANIFEST, step_of
from .durable import sha256_file
from .errors import CheckpointError, DataError
from .exitcodes import ExitCode
from .visualization import dashboard


def verify(run_dir: Path) -> int:
    """Print the state of every checkpoint. 0 when at least one is whole, and DATA when none is."""
    folder = run_dir / "ckpt" if (run_dir / "ckpt").is_dir() else run_dir
    found = _checkpoints(folder)
    whole = 0
    for path in found:
        wrong = problems(path)
        whole += not wrong
        print(f"{path.name}: {'BROKEN' if wrong else 'whole'}")
        for problem in wrong:
            print(f"  {problem}")
    for path in sorted(folder.glob(".bad-*")):
        print(f"{path.name}: set aside as broken")
    if not found:
        raise CheckpointError(f"there is no checkpoint in {folder}")
    print(f"{whole} of {len(found)} whole")
    return int(ExitCode.DONE if whole else ExitCode.DATA)


def digest(run_dir: Path) -> int:
    """Print one hash over everything a run has computed: weights, optimizer, random states and position of its newest whole checkpoint,
    and the metrics log. Manifests are left out, for they hold times."""
    folder, log = run_dir / "ckpt", run_dir / "metrics.jsonl"
    whole = next((path for path in reversed(_checkpoints(folder)) if not problems(path)), None)
    if whole is None:
        raise CheckpointError(f"there is no whole checkpoint in {folder}")
    if not log.is_file():
        raise DataError(f"there is no {log}; give the folder of a run, with its logs")
    found = hashlib.sha256()
    for path in [*sorted(item for item in whole.iterdir() if item.name != MANIFEST), log]:
        found.update(f"{path.name} {sha256_file(path)}\n".encode())
    print(f"{whole.name} {found.hexdigest()}")
    return int(ExitCode.DONE)


def draw(run_dir: Path, target: Path | None) -> int:
    """Write the dashboard of a run."""
    print(f"dashboard: {dashboard(run_dir, target or run_dir / 'dashboard.html')}")
    return int(ExitCode.DONE)


def _checkpoints(folder: Path) -> list[Path]:
    """The folders of all checkpoints, oldest first."""
    found = [(step, path) for path in folder.glob("step-*") if path.is_dir() and (step := step_of(path.name)) is not None]
    return [path for dummy, path in sorted(found)]
