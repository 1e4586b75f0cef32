# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time limits as people and Slurm write them, in seconds and back."""

from __future__ import annotations

import re
from typing import Any, Optional

from ..base.scalars import wrong

UNLIMITED = 0  # as for mad_timeout: no limit
_WORDS = ("unlimited", "infinite", "none")
_FORMS = (
    (re.compile(r"([0-9]+)-([0-9]+)\Z"), (86400, 3600)),
    (re.compile(r"([0-9]+)-([0-9]+):([0-9]+)\Z"), (86400, 3600, 60)),
    (re.compile(r"([0-9]+)-([0-9]+):([0-9]+):([0-9]+)\Z"), (86400, 3600, 60, 1)),
    (re.compile(r"([0-9]+):([0-9]+):([0-9]+)\Z"), (3600, 60, 1)),
    (re.compile(r"([0-9]+):([0-9]+)\Z"), (60, 1)),
)
_EXPECTED = "seconds (7200) or a form of Slurm's: minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]], UNLIMITED"


def parse(value: Any, key: str = "slurm.time") -> int:
    """Seconds, 0 for no limit. A plain number is seconds, as in madengine's `time_limit`; every other form is read as sbatch reads it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip().lower() if isinstance(value, str) else ""
    if text in _WORDS:
        return UNLIMITED
    if re.match(r"[0-9]{1,9}\Z", text):
        return int(text)
    for pattern, factors in _FORMS:
        match = pattern.match(text)
        if match:
            return sum(int(number) * factor for number, factor in zip(match.groups(), factors))
    raise wrong(key, _EXPECTED, value)


def show(seconds: int) -> str:
    """What sbatch takes: [days-]hours:minutes:seconds, or UNLIMITED."""
    if seconds <= 0:
        return "UNLIMITED"
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = "%02d:%02d:%02d" % (hour, minute, second)
    return "%d-%s" % (days, clock) if days else clock


def limit(asked: Optional[int], timeout: int, margin: int) -> int:
    """The job's limit: what was asked for, else the model's time limit and a margin for staging; 0 where neither sets one."""
    if asked is not None:
        return asked
    return timeout + margin if timeout > 0 else UNLIMITED
