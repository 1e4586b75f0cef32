# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What building leaves in the work folder of a host, removed by age: sources, build logs, saved images."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import List

_PLACES = (("builds", "source"), ("builds", "logs"), ("images",))


def old_files(work_dir: str, limit: float, check: bool) -> List[str]:
    """Remove what was last used before `limit` (seconds since the epoch); returns the paths. `check` removes nothing.

    A build that runs has used its sources and its log just now; links are never followed.
    """
    removed = []
    for place in _PLACES:
        folder = os.path.join(work_dir, *place)
        for name in _names(folder):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if _last_use(path) < limit:
                    if not check:
                        _remove(path)
                    removed.append(path)
    return removed


def _names(folder: str) -> List[str]:
    """Sorted names in a folder that is one and no link; [] otherwise."""
    with contextlib.suppress(OSError):
        if not os.path.islink(folder):
            return sorted(os.listdir(folder))
    return []


def _last_use(path: str) -> float:
    """The newest change of a file, or of a folder and what lies directly in it."""
    times = [os.lstat(path).st_mtime]
    if os.path.isdir(path) and not os.path.islink(path):
        with os.scandir(path) as entries:
            times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
