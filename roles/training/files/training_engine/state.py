# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run stands: the only mutable "where are we", and the protocol of everything that has state of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """The same protocol as torch.distributed.checkpoint.stateful.Stateful, written down here so that importing it is not needed."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


@dataclass
class TrainState:
    """step: optimizer updates made, the one counter that schedule, saves and log lines follow.

    window: windows of data consumed (larger than step where a window brought no update); the data position and the seeds follow from it.
    weight, samples: what was trained on so far. horizon: the length of the schedule, fixed at the first start.
    best, stale: the best monitored value and the evaluations since. eval_step: the step of the last evaluation.
    log_bytes: the length of metrics.jsonl at the checkpoint.
    """

    step: int = 0
    window: int = 0
    weight: float = 0.0
    samples: int = 0
    horizon: int = 0
    best: float | None = None
    stale: int = 0
    log_bytes: int = 0
    eval_step: int = -1
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for state.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainState:
        """The inverse of `to_dict`; unknown names of newer versions are left out."""
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
