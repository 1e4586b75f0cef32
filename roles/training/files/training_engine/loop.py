# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop: windows of one epoch, one after the other; before each, all ranks agree whether to stop or to save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .data.loader import Window
from .metrics import MetricsEngine
from .state import TrainState
from .step import UPDATED, Outcome, TrainStep


@dataclass(frozen=True)
class EpochResult:
    """loss: the mean over the epoch's targets (since its beginning, also after a resume); duration: seconds of this process.

    ended: "epoch" at its last window, "target" when the run's goal was reached, else "stop".
    """

    epoch: int
    loss: float
    duration: float
    steps: int
    ended: str
    metrics: dict[str, float] = field(default_factory=dict)


class Wish(NamedTuple):
    """What this rank wants before the next window."""

    stop: bool = False
    save: bool = False


class TrainingLoop:
    """Executes epochs; logging, evaluation and saving belong to the callbacks.

    wishes: asked before each window. on_save: all ranks agreed to save now. on_batch_end: called after each window.
    reached: whether the run's goal is reached.
    """

    def __init__(self, step: TrainStep, state: TrainState, metrics: MetricsEngine, *, wishes: Callable[[], Wish],
                 on_save: Callable[[], None], on_batch_end: Callable[[Window, Outcome, float], None], reached: Callable[[], bool]) -> None:
        self.step, self.state, self.metrics = step, state, metrics
        self._wishes, self._on_save, self._on_batch_end, self._reached = wishes, on_save, on_batch_end, reached

    def train_epoch(self, windows: Iterator[Window]) -> EpochResult:
        """Consume windows until the epoch ends, the goal is reached or the ranks agree to stop."""
        begin = mark = time.perf_counter()
        first, epoch, ended = self.state.step, -1, "target"
        while not self._reached():
            window = next(windows)
            epoch = window.shape.epoch
            weight, stop = self._agree(window)
            if stop:
                ended = "stop"
                break
            outcome = self.step.run(window, weight, self.state.step)
            self._advance(window, outcome)
            now = time.perf_counter()
            self._on_batch_end(window, outcome, now - mark)
            mark = time.perf_counter()
            if window.shape.last_of_epoch:
                ended = "epoch"
                break
        loss = self.metrics.epoch_loss / self.metrics.epoch_weight if self.metrics.epoch_weight else float("nan")
        return EpochResult(epoch, loss, time.perf_counter() - begin, self.state.step - first, ended)

    def _agree(self, window: Window) -> tuple[float, bool]:
        """(weight of the window over all ranks, whether all stop here); one exchange for all questions."""
        weight = self.step.weight(window)
        wish = self._wishes()
        if self.step.peers.world > 1:
            weight, stop, save = self.step.peers.sum([weight, float(wish.stop), float(wish.save)])
            wish = Wish(stop > 0, save > 0)
        if wish.save and not wish.stop:
            self._on_save()
        return weight, wish.stop

    def _advance(self, window: Window, outcome: Outcome) -> None:
        state = self.state
        state.window = window.shape.index + 1
        state.samples += window.shape.stop - window.shape.start
        if outcome.kind == UPDATED:
            state.step += 1
            state.weight += outcome.weight
            self.metrics.train_step(outcome.loss, outcome.weight, state.step)
