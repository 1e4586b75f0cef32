# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loader: windows of ready batches from any position on, with or without worker processes, in the same order with the same content."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader

from .. import stopping
from ..config import DataSection
from ..errors import DataError, EngineError, UsageError
from .collate import Batch, Collator, MultimodalCollator, TextCollator, VisionCollator, collators
from .plan import Indices, MicroBatch, WindowPlan, WindowShape
from .sources import BatchSource, DataSet, Source

PR_SET_PDEATHSIG = 1


class Window(NamedTuple):
    """What one update consumes on this rank."""

    shape: WindowShape
    batches: list[Batch]
    blank: list[bool]


@runtime_checkable
class DataModule(Protocol):
    """Where a trainer gets its data from."""

    @property
    def train_size(self) -> int:
        """Samples of an epoch."""

    def train_dataloader(self, plan: WindowPlan, start: int) -> Iterator[Window]:
        """Windows from number `start` on, without an end."""

    def val_dataloader(self, *, limit: int = 0, rank: int = 0, world: int = 1) -> Iterable[Batch]:
        """The batches of this rank for one evaluation, in a fixed order; at most `limit` over all ranks (0: all)."""

    def sample_dataloader(self, *, limit: int, rank: int = 0, world: int = 1, seed: int = 0) -> Iterable[Batch]:
        """At most `limit` batches over all ranks out of the training samples, in an order drawn from `seed`: for comparisons."""

    def fingerprint(self) -> str:
        """A hash that differs when the data differs."""


class _Fetcher:
    """Turns (epoch, indices) into a batch; this is what runs in the workers."""

    def __init__(self, source: Source, collate: Collator) -> None:
        self.source, self.collate = source, collate
        self._fetch = source.fetch if isinstance(source, BatchSource) else None
        self._set_epoch = getattr(source, "set_epoch", None)

    def __call__(self, epoch: int, micro: MicroBatch) -> Batch:
        if self._set_epoch is not None:
            self._set_epoch(epoch)
        if self._fetch is not None:
            return self._fetch(micro.indices)
        try:
            return self.collate([self.source[int(index)] for index in micro.indices])
        except (DataError, OSError, MemoryError):
            raise  # a storage that is away may be back at the next start
        except Exception as error:  # whatever a data set or collator of one's own says, it says of these samples
            raise DataError(self._blame(micro.indices, error)) from error

    def _blame(self, indices: Indices, error: Exception) -> str:
        """One sentence about samples that did not become a batch."""
        shown = ", ".join(map(str, indices[:8].tolist())) + (", ..." if len(indices) > 8 else "")
        with contextlib.suppress(Exception):  # the first of them may be the one that cannot be read
            first = self.source[int(indices[0])]
            if not isinstance(first, Mapping) and isinstance(self.collate, (TextCollator, VisionCollator, MultimodalCollator)):
                return (f"a sample is a {type(first).__name__}, and a collator of the engine needs a dict of names and tensors "
                        "({'pixel_values': ..., 'labels': ...}); return one, or give MapDataModule a collator of your own")
        return f"the samples {shown} could not be made a batch: {type(error).__name__}: {error}"

    def __getitems__(self, keys: list[tuple[int, MicroBatch]]) -> Batch:
        """What DataLoader calls with the one key of our batch sampler."""
        (epoch, micro), = keys
        return self(epoch, micro)


def _taken(loader: Iterator[Batch], count: int) -> list[Batch]:
    """The next batches out of the workers, whose errors come with the text of their whole traceback."""
    try:
        return list(itertools.islice(loader, count))
    except DataError as error:
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from error
    except ConnectionError as error:  # it died while a batch was on its way
        raise worker_died(error) from error


def worker_died(error: BaseException) -> EngineError:
    """What to say of it."""
    return EngineError(f"a process that loads data has died ({type(error).__name__}: {error}): it was killed, perhaps because memory ran "
                       "out, or a sample makes it crash; num_workers 0 shows where")


def _same(batch: Batch) -> Batch:
    return batch


def _start_worker(_number: int) -> None:
    """Workers ignore the signals meant for the training process, and the kernel ends them with it."""
    stopping.ignore_in_worker()
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _keys(plan: WindowPlan, start: int) -> Iterator[list[tuple[int, MicroBatch]]]:
    window = start
    while True:
        shape = plan.shape(window)
        for micro in plan.micro_batches(window):
            yield [(shape.epoch, micro)]
        window += 1


class MapDataModule:
    """The data module over sources that are sequences."""

    def __init__(self, data: DataSet, config: DataSection, *, collator: Collator | None = None) -> None:
        self.data, self.config = data, config
        self.collator = collator or collators.get(data.modality)(normalization=config.normalization)

    @property
    def train_size(self) -> int:
        """See DataModule. Raises UsageError for data without a length."""
        try:
            return len(self.data.train)
        except TypeError:
            kind = type(self.data.train).__name__
            raise UsageError(f"data of the type {kind} has no length, so its samples have no order to resume in; give it an index "
                             "(__len__ and __getitem__), or use StreamDataModule with torchdata's StatefulDataLoader") from None

    def fingerprint(self) -> str:
        """See DataModule."""
        return self.data.fingerprint

    def train_dataloader(self, plan: WindowPlan, start: int) -> Iterator[Window]:
        """See DataModule."""
        fetch = _Fetcher(self.data.train, self.collator)
        if self.config.num_workers == 0:
            return self._in_process(plan, start, fetch)
        return self._with_workers(plan, start, fetch)

    def _in_process(self, plan: WindowPlan, start: int, fetch: _Fetcher) -> Iterator[Window]:
        pin = self.config.pin_memory and torch.cuda.is_available()
        while True:
            shape = plan.shape(start)
            micros = plan.micro_batches(start)
            batches = [fetch(shape.epoch, micro) for micro in micros]
            if pin:
                batches = [{name: tensor.pin_memory() for name, tensor in batch.items()} for batch in batches]
            yield Window(shape, batches, [micro.blank for micro in micros])
            start += 1

    def _with_workers(self, plan: WindowPlan, start: int, fetch: _Fetcher) -> Iterator[Window]:
        options: Any = {"num_workers": self.config.num_workers, "prefetch_factor": self.config.prefetch_factor}
        # An own generator: DataLoader draws the base seed of its workers, and must not draw it from the stream that dropout uses.
        loader = iter(DataLoader(fetch, batch_sampler=_Endless(plan, start), collate_fn=_same,  # type: ignore[arg-type]  # has __getitems__
                                 worker_init_fn=_start_worker, generator=torch.Generator().manual_seed(plan.seed),
                                 pin_memory=self.config.pin_memory and torch.cuda.is_available(), **options))
        while True:
            shape = plan.shape(start)
            micros = plan.micro_batches(start)
            yield Window(shape, _taken(loader, len(micros)), [micro.blank for micro in micros])
            start += 1

    def val_dataloader(self, *, limit: int = 0, rank: int = 0, world: int = 1) -> Iterable[Batch]:
        """See DataModule. Evaluation needs no workers: it is short and must not touch any random state."""
        return self._pass(self.data.val, None, limit, rank, world)

    def sample_dataloader(self, *, limit: int, rank: int = 0, world: int = 1, seed: int = 0) -> Iterable[Batch]:
        """See DataModule."""
        return self._pass(self.data.train, seed, limit, rank, world)

    def _pass(self, source: Source | None, seed: int | None, limit: int, rank: int, world: int) -> Iterable[Batch]:
        """Batches of a source in its order, or with a seed in a random one."""
        if source is None or not len(source):
            return
        fetch = _Fetcher(source, self.collator)
        plan = WindowPlan(len(source), batch_size=self.config.batch_size, seed=seed or 0, shuffle=seed is not None)
        for number in range(rank, min(plan.windows_per_epoch, limit or plan.windows_per_epoch), world):
            yield fetch(0, plan.micro_batches(number)[0])


class _Endless:
    """A batch sampler without an end, as DataLoader wants it."""

    def __init__(self, plan: WindowPlan, start: int) -> None:
        self.plan, self.start = plan, start

    def __iter__(self) -> Iterator[list[tuple[int, MicroBatch]]]:
        return _keys(self.plan, self.start)
