# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions of the engine: each one is a finished sentence for a person and knows the exit code of the process it ends."""

from __future__ import annotations

from collections.abc import Sequence

from .exitcodes import ExitCode


class EngineError(Exception):
    """An error a person can act on. `exit_code` is what the process ends with if nobody handles it."""

    exit_code: ExitCode = ExitCode.BUG


class ConfigError(EngineError):
    """The configuration is wrong. `problems` lists every fault, not only the first."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the configuration has " + _count(len(self.problems)) + ":\n" + "\n".join("  - " + line for line in self.problems))


class UsageError(EngineError):
    """A name, a shape or an argument is wrong; the message says which, and what would be right."""

    exit_code = ExitCode.USAGE


class DataError(EngineError):
    """The data set cannot be used, or is not the one the checkpoint was made with."""

    exit_code = ExitCode.DATA


class CheckpointError(EngineError):
    """A checkpoint cannot be written or read; the message names the file and the way out."""

    exit_code = ExitCode.DATA


class SaveError(EngineError):
    """A checkpoint could not be written (disk full, permission). The run may be started again."""


class PeerError(EngineError):
    """Another rank went away."""

    exit_code = ExitCode.PEER


class MemoryExhausted(EngineError):
    """Out of memory on a micro-batch that cannot be split any further."""

    exit_code = ExitCode.OOM


class NoRetryError(EngineError):
    """A verdict: starting again cannot help, a person has to look."""

    exit_code = ExitCode.NO_RETRY


def _count(number: int) -> str:
    return "1 fault" if number == 1 else f"{number} faults"
