# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`status.json`: where a run stands and how its last process ended, and the no-progress rule.

Supervisors read this file; exit codes get lost in launchers, shells and schedulers.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .durable import read_json, replace_json
from .errors import NoRetryError
from .exitcodes import TABLE, ExitCode

NAME = "status.json"


@dataclass
class Status:
    """The contents of status.json. `fruitless` counts the starts since the newest checkpoint."""

    run_id: str = ""
    attempt: int = 0
    step: int = 0
    phase: str = "new"
    reason: str = ""
    exit_code: int | None = None
    checkpoint: str = ""
    checkpoint_step: int = -1
    fruitless: int = 0
    updated: float = 0.0


KINDS: dict[str, type] = {item.name: int if item.default is None else type(item.default) for item in dataclasses.fields(Status)}


class StatusFile:
    """Reads and replaces RUN/status.json as a whole."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / NAME
        self.value = self._read()

    def _read(self) -> Status:
        """What can be understood of it; a value of another kind than it should be is as if it were not there."""
        raw = read_json(self.path)
        if not isinstance(raw, dict):
            return Status()
        return Status(**{name: raw[name] for name, kind in KINDS.items() if isinstance(raw.get(name), kind)})

    def write(self, **changes: Any) -> None:
        """Change some fields and replace the file."""
        self.value = dataclasses.replace(self.value, updated=round(time.time(), 3), **changes)
        replace_json(self.path, dataclasses.asdict(self.value))

    def begin(self, run_id: str, limit: int) -> None:
        """Count this start. Raises NoRetryError when `limit` starts in a row have ended without a new checkpoint.

        Preempted starts count as well: a cluster that preempts every start would otherwise begin it for ever.
        """
        last = self.value
        fruitless = 0 if last.exit_code == ExitCode.DONE else last.fruitless
        if fruitless >= limit:
            why = last.reason or "killed"
            raise NoRetryError(f"{fruitless} starts in a row made no new checkpoint (run {last.run_id}, last reason: {why}); "
                               f"look at events.jsonl, then delete {self.path} to allow new starts")
        self.write(run_id=last.run_id or run_id, attempt=last.attempt + 1, phase="starting", reason="", exit_code=None,
                   fruitless=fruitless + 1)

    def saved(self, name: str, step: int) -> None:
        """A checkpoint became durable: the no-progress count starts again."""
        self.write(checkpoint=name, checkpoint_step=step, step=step, fruitless=0)

    def refused(self, code: ExitCode, reason: str) -> None:
        """This start ended with a verdict that is for a person to act on; it is not one of those that die before their first save."""
        self.write(phase="ended", exit_code=int(code), reason=reason, fruitless=max(0, self.value.fruitless - 1))

    def end(self, code: ExitCode, reason: str, step: int) -> None:
        """The last thing a process writes."""
        self.write(phase="ended", exit_code=int(code), reason=reason or TABLE[code][0], step=step)
