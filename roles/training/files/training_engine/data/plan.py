# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of windows: which samples the k-th update of a run sees, as a pure function of k.

A window is what one update consumes, over all ranks and micro-batches. The data position of a run is therefore one number, a resume
costs the same at any step, and neither the number of workers nor (with the same global batch) the number of ranks changes the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import rng
from ..errors import DataError

Indices = np.ndarray[Any, np.dtype[np.int64]]


class MicroBatch(NamedTuple):
    """The samples of one micro-batch of one rank. A blank one stands in where another rank has more: its loss counts nothing."""

    indices: Indices
    blank: bool = False


@dataclass(frozen=True)
class WindowShape:
    """Where a window lies: its epoch, and its samples before and after in the order of that epoch."""

    index: int
    epoch: int
    start: int
    stop: int
    last_of_epoch: bool


class WindowPlan:
    """size: samples; batch_size: of one micro-batch on one rank; accumulation: micro-batches of a full window; world, rank: of how many.

    Without `drop_last` the last window of an epoch holds what is left, and is as valid as the others, for losses are sums.
    """

    def __init__(self, size: int, *, batch_size: int, accumulation: int = 1, world: int = 1, rank: int = 0, seed: int = 0,
                 shuffle: bool = True, drop_last: bool = False) -> None:
        self.size, self.batch_size, self.world, self.rank, self.seed = size, batch_size, world, rank, seed
        self.shuffle = shuffle
        self.global_batch = batch_size * accumulation * world
        self.windows_per_epoch = size // self.global_batch if drop_last else -(-size // self.global_batch)
        if self.windows_per_epoch < 1:
            raise DataError(f"{size} samples do not fill one update of {self.global_batch} (batch_size {batch_size} x accumulation "
                            f"{accumulation} x {world} ranks); lower one of them, or set drop_last to false")
        self._shape = WindowShape(-1, 0, 0, 0, False)
        self._order: tuple[int, Indices] = (-1, np.empty(0, dtype=np.int64))

    def shape(self, window: int) -> WindowShape:
        """Where the window with this number lies."""
        if self._shape.index == window:  # asked for twice in a row, by the loader
            return self._shape
        epoch, position = divmod(window, self.windows_per_epoch)
        start = position * self.global_batch
        last = position == self.windows_per_epoch - 1
        self._shape = WindowShape(window, epoch, start, min(start + self.global_batch, self.size), last)
        return self._shape

    def order(self, epoch: int) -> Indices:
        """The order of the samples in an epoch; the last one asked for is kept."""
        if self._order[0] != epoch:
            drawn = rng.permutation(self.size, self.seed, epoch) if self.shuffle else np.arange(self.size, dtype=np.int64)
            self._order = (epoch, drawn)
        return self._order[1]

    def micro_batches(self, window: int) -> list[MicroBatch]:
        """The micro-batches of this rank: as many as every other rank has."""
        shape = self.shape(window)
        everything = self.order(shape.epoch)[shape.start:shape.stop]
        if len(everything) <= self.batch_size and self.world == 1:
            return [MicroBatch(everything)]
        mine = everything[self.rank::self.world]
        longest = -(-len(everything) // self.world)
        count = -(-longest // self.batch_size)
        out = []
        for number in range(count):
            indices = mine[number * self.batch_size:(number + 1) * self.batch_size]
            out.append(MicroBatch(indices) if len(indices) else MicroBatch(everything[:1], blank=True))
        return out

    def state_dict(self) -> dict[str, Any]:
        """What must be the same for a window number to mean the same samples."""
        return {"size": self.size, "seed": self.seed, "shuffle": self.shuffle, "global_batch": self.global_batch,
                "windows_per_epoch": self.windows_per_epoch}

    def check(self, saved: dict[str, Any]) -> None:
        """Raise DataError when `saved` (an earlier `state_dict`) belongs to another plan."""
        differences = [f"{key}: {saved.get(key)!r} then, {value!r} now"
                       for key, value in self.state_dict().items() if saved.get(key) != value]
        if differences:
            raise DataError("the checkpoint was made with other data or another global batch (" + "; ".join(differences) + "); keep "
                            "batch_size x gradient_accumulation_steps x ranks and the data set, or start a new run folder")
