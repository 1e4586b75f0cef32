# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams: data without an index (iterable data sets, torchdata's StatefulDataLoader), resumed by the state of the loader itself."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from ..errors import DataError
from .collate import Batch
from .loader import Window
from .plan import WindowPlan


@runtime_checkable
class StatefulLoader(Protocol):
    """An iterable of batches that knows where it stands: torchdata's StatefulDataLoader, or one of your own."""

    def __iter__(self) -> Iterator[Batch]: ...

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


class StreamDataModule:
    """A data module over a stateful loader; the position of the loader is part of every checkpoint.

    name: what the data is, for the check at a resume. epoch_batches: micro-batches of one epoch on one rank (streams have no length).
    A loader that ends is started again, so an epoch here is a boundary in the stream and not its end.
    """

    def __init__(self, loader: StatefulLoader, *, name: str, epoch_batches: int, batch_size: int,
                 val: Iterable[Batch] | None = None) -> None:
        if not isinstance(loader, StatefulLoader):
            raise DataError(f"a {type(loader).__name__} has no state_dict and load_state_dict, so a run over it could not be resumed; use "
                            "torchdata.stateful_dataloader.StatefulDataLoader, or a data set with an index")
        self.loader, self.name, self.val = loader, name, val
        self._samples = epoch_batches * batch_size
        self._positions: dict[int, dict[str, Any]] = {}
        self._restored: dict[int, dict[str, Any]] = {}

    @property
    def train_size(self) -> int:
        """See DataModule."""
        return self._samples

    def fingerprint(self) -> str:
        """See DataModule: the name is all that is known of a stream."""
        return hashlib.sha256(f"stream:{self.name}:{self._samples}".encode()).hexdigest()

    def train_dataloader(self, plan: WindowPlan, start: int) -> Iterator[Window]:
        """See DataModule. Raises DataError where the checkpoint holds no position for window `start`."""
        if start and start not in self._restored:
            raise DataError(f"the checkpoint has no position of the stream for window {start}: it was made with other data; start a new "
                            "run folder")
        if start:
            self.loader.load_state_dict(self._restored[start])
        batches = self._endless()
        while True:
            count = len(plan.micro_batches(start))
            window = Window(plan.shape(start), list(itertools.islice(batches, count)), [False] * count)
            start += 1
            # The one before as well: a run that is asked to stop has fetched a window that it does not train on.
            kept = self._positions.get(start - 1)
            self._positions = {start: self.loader.state_dict(), **({start - 1: kept} if kept is not None else {})}
            yield window

    def _endless(self) -> Iterator[Batch]:
        empty = 0
        while True:
            empty += 1
            for batch in self.loader:
                empty = 0
                yield batch
            # One empty pass is what a position at the very end gives.
            if empty > 1:
                raise DataError(f"the stream {self.name!r} gave no batch at all")

    def val_dataloader(self, *, limit: int = 0, rank: int = 0, world: int = 1) -> Iterable[Batch]:
        """See DataModule."""
        for number, batch in enumerate(self.val or ()):
            if limit and number >= limit:
                return
            if number % world == rank:
                yield batch

    def sample_dataloader(self, *, limit: int, rank: int = 0, world: int = 1, seed: int = 0) -> Iterable[Batch]:
        """See DataModule. Raises DataError: what is read from a stream for a comparison would be lost for the training."""
        raise DataError(f"the stream {self.name!r} cannot be sampled for a comparison; set drift_every to 0")

    def state_dict(self) -> dict[str, Any]:
        """The positions after the last two windows that were fetched."""
        return {"positions": dict(self._positions)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._restored = {int(window): position for window, position in state_dict["positions"].items()}
        self._positions = dict(self._restored)
