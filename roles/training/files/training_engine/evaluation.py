# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: the validation batches once, without a gradient and without touching any random state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from .checkpoint.manager import is_sharded_model, unwrap
from .data.collate import Batch
from .loss import LossStrategy
from .metrics import EvalSums, are_classes
from .output import ModelOutput, adapter_for
from .peers import Peers
from .step import PRECISION, input_names
from .torchmetrics_bridge import ExtraMetrics


class Prediction(NamedTuple):
    """One batch and what the model made of it. targets: aligned with the logits; None for data without labels."""

    batch: Batch
    output: ModelOutput
    total: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor | None


@dataclass
class Evaluator:
    """How a model is looked at. spare: any batch, for ranks with fewer than others (a sharded model's forward pass needs all ranks)."""

    model: nn.Module
    loss: LossStrategy
    device: torch.device
    peers: Peers | None = None
    precision: str = "fp32"
    spare: Iterable[Batch] = ()
    confidence: list[float] = field(default_factory=list)
    weight: float = 0.0

    def predictions(self, batches: Iterable[Batch]) -> Iterator[Prediction]:
        """The model's view of every batch. Call it within `evaluating`."""
        inner = unwrap(self.model)
        names = input_names(inner)
        for own, batch in self._together(batches, inner):
            moved = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with self._autocast():
                raw = inner(**names(moved))
                output = adapter_for(raw)(raw)
                total, weight = self.loss.compute_loss(moved, output)
            if own:
                yield Prediction(moved, output, total, weight, getattr(self.loss, "targets", lambda values: values.get("labels"))(moved))

    def _together(self, batches: Iterable[Batch], inner: nn.Module) -> Iterator[tuple[bool, Batch]]:
        """(whether it is this rank's own, batch); with a sharded model as many on every rank."""
        if self.peers is None or not is_sharded_model(inner):
            yield from ((True, batch) for batch in batches)
            return
        own, last = iter(batches), next(iter(self.spare), None)
        while True:
            batch = next(own, None)
            if self.peers.sum([float(batch is not None)])[0] == 0.0:
                return
            last = last if batch is None else batch
            assert last is not None  # the spare batch is there wherever any rank has one
            yield batch is not None, last

    def _autocast(self) -> Any:
        dtype = PRECISION.get(self.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def evaluate(self, batches: Iterable[Batch], names: tuple[str, ...] | None = None,
                 extra: ExtraMetrics | None = None) -> dict[str, float]:
        """Metrics over `batches` (of this rank), summed over all ranks, each named val_<metric>; afterwards `confidence` holds how many
        predictions fell into each of equal bins of confidence, and `weight` what the loss is a mean over."""
        sums = EvalSums(self.device)
        with evaluating(self.model):
            for seen in self.predictions(batches):
                sums.add(seen.total, seen.weight, seen.output.logits, seen.targets)
                if extra and seen.output.logits is not None and seen.targets is not None and are_classes(seen.output.logits, seen.targets):
                    extra.add(seen.output.logits, seen.targets)
        values = sums.values.tolist()
        values = self.peers.sum(values) if self.peers else values
        self.confidence, self.weight = sums.confidence_counts(values), sums.weight(values)
        result = {name: value for name, value in sums.result(values).items() if names is None or name in names}
        return {f"val_{name}": value for name, value in {**result, **(extra.result() if extra else {})}.items()}


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without gradients; its mode is put back."""
    inner = unwrap(model)
    was_training = inner.training
    inner.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        inner.train(was_training)


def evaluate(model: nn.Module, batches: Iterable[Batch], loss: LossStrategy, *, device: torch.device, peers: Peers | None = None,
             precision: str = "fp32", names: tuple[str, ...] | None = None, extra: ExtraMetrics | None = None) -> dict[str, float]:
    """`Evaluator.evaluate` in one call. names: the metrics to report (None: all)."""
    return Evaluator(model, loss, device, peers, precision).evaluate(batches, names, extra)
