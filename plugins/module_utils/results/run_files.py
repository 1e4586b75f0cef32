# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs and artifacts in a run's folder on the controller: those of the newest attempt on top, those of older ones in attempt-N/."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

_OURS = re.compile(r"(run\.log|pre\.log|post\.log|engine\.log|artifacts|node-[0-9]{1,6})\Z")


def put_aside(folder: str, attempt: int) -> None:
    """Make room on top for a newer attempt; interrupted, the next call goes on."""
    target = os.path.join(folder, "attempt-%d" % attempt)
    for name in sorted(os.listdir(folder)):
        if _OURS.match(name):
            os.makedirs(target, exist_ok=True)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                shutil.rmtree(os.path.join(target, name))  # a copy of the same attempt, fetched once before
            os.replace(os.path.join(folder, name), os.path.join(target, name))
