# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what can be called at the boundaries of a run. A hook of one's own overrides what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .state import TrainState
from .step import Outcome

if TYPE_CHECKING:
    from .trainer import Trainer


class Hook:
    """Does nothing. Hooks run on every rank and must not draw random numbers from torch's global generators between windows."""

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Before the first window of an epoch (and after a resume within one)."""

    def on_batch_end(self, trainer: Trainer, state: TrainState, outcome: Outcome) -> None:
        """After each window, whether it brought an update or not."""

    def on_validation_end(self, trainer: Trainer, state: TrainState, metrics: Mapping[str, float]) -> None:
        """After each evaluation."""

    def on_drift(self, trainer: Trainer, state: TrainState, found: Mapping[str, float]) -> None:
        """After each comparison of training and validation samples."""

    def on_train_end(self, trainer: Trainer) -> None:
        """At the end of train(), however it ends: the last chance to write something out."""
