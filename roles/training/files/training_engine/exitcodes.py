# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exit codes: the contract between the engine, the launcher and whatever started them.

A code is the hint, `status.json` is the truth: launchers and schedulers lose codes on the way.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class ExitCode(enum.IntEnum):
    """What a process of the engine ends with. Never 0 after a signal, and never 1 on purpose (Python gives 1 for everything)."""

    DONE = 0
    USAGE = 64
    DATA = 65
    PEER = 69
    BUG = 70
    OOM = 71
    PREEMPTED = 75
    NO_RETRY = 93


# code -> (meaning, what the supervisor should do)
TABLE: dict[ExitCode, tuple[str, str]] = {
    ExitCode.DONE: ("the target is reached and the final checkpoint is verified", "nothing"),
    ExitCode.USAGE: ("the arguments or the configuration are wrong", "never retry"),
    ExitCode.DATA: ("the data set, or every copy of the checkpoint, is unusable", "never retry"),
    ExitCode.PEER: ("another rank or the rendezvous went away; the state on disk is fine", "retry, counted"),
    ExitCode.BUG: ("an unexpected exception", "retry, counted"),
    ExitCode.OOM: ("out of memory, and splitting the batch did not help", "retry, counted"),
    ExitCode.PREEMPTED: ("asked to stop; the checkpoint of the last finished step is whole", "retry, not counted"),
    ExitCode.NO_RETRY: ("retrying cannot help: no progress, non-finite gradients, or another configuration", "hold for a person"),
}


def combine(codes: Iterable[int]) -> int:
    """The code of a group of ranks: 93 if any rank says so, else 75 if any, else the highest. Deaths by signal are 128 + n."""
    seen = [128 - code if code < 0 else code for code in codes]
    for verdict in (ExitCode.NO_RETRY, ExitCode.PREEMPTED):
        if verdict in seen:
            return int(verdict)
    return max(seen, default=int(ExitCode.DONE))
