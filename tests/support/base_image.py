# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base images for tests, made here without a registry (dev/base_image.py does it)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REPOSITORY = "mad-test-base"


def make(kind: str, engine: str = "docker", host: str = "") -> str:
    """Return the name of an image: `tiny` (busybox and bash), `host` (this machine's Python and tools) or `debian` (debootstrap)."""
    env = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    argv = [sys.executable, str(ROOT / "dev" / "base_image.py"), "--engine", engine, "--kind", kind, "--repository", REPOSITORY]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()
