# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Pythons of this machine: on PATH, in /usr/bin and among pyenv's versions; a shim that cannot run is none."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

OLDEST = (3, 8)
NEWEST = (3, 15)


def version(path: str) -> tuple[int, int] | None:
    """Return (major, minor) of an interpreter that runs and has pip's and venv's base, or None."""
    code = "import sys, ssl, ensurepip, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return (int(words[0]), int(words[1])) if done.returncode == 0 and len(words) == 2 else None


def candidates() -> list[str]:
    """Return the interpreters that may be there, the likeliest first."""
    names = ["python3.%d" % minor for minor in range(OLDEST[1], NEWEST[1] + 1)]
    found = [path for path in (shutil.which(name) for name in names) if path]
    found += ["/usr/bin/" + name for name in names if os.path.exists("/usr/bin/" + name)]
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    return found + sorted(glob.glob(os.path.join(glob.escape(root), "versions", "3.*", "bin", "python3")))


def find() -> dict[tuple[int, int], str]:
    """Return version -> interpreter for every Python from the oldest supported one on."""
    found: dict[tuple[int, int], str] = {}
    for path in candidates():
        number = version(path)
        if number and number >= OLDEST:
            found.setdefault(number, os.path.realpath(path))
    return dict(sorted(found.items()))
