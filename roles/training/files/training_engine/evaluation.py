# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: the validation batches once, without a gradient and without touching any random state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .checkpoint.manager import unwrap
from .data.collate import Batch
from .loss import LossStrategy
from .metrics import EvalSums
from .output import adapter_for
from .peers import Peers
from .step import PRECISION, input_names


def evaluate(model: nn.Module, batches: Iterable[Batch], loss: LossStrategy, *, device: torch.device, peers: Peers | None = None,
             precision: str = "fp32", names: tuple[str, ...] | None = None) -> dict[str, float]:
    """Metrics over `batches` (of this rank), summed over all ranks, each named val_<metric>. The model's mode is put back.

    names: the metrics to report (None: all).
    """
    inner = unwrap(model)
    sums = EvalSums(device)
    was_training = inner.training
    inner.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                _add_batch(sums, inner, {name: tensor.to(device) for name, tensor in batch.items()}, loss, precision)
    finally:
        inner.train(was_training)
    values = sums.values.tolist()
    result = sums.result(peers.sum(values) if peers else values)
    return {f"val_{name}": value for name, value in result.items() if names is None or name in names}


def _add_batch(sums: EvalSums, model: nn.Module, batch: Batch, loss: LossStrategy, precision: str) -> None:
    dtype = PRECISION.get(precision)
    context: Any = torch.autocast(batch["labels"].device.type, dtype) if dtype else contextlib.nullcontext()
    with context:
        raw = model(**input_names(model)(batch))
        output = adapter_for(raw)(raw)
        total, weight = loss.compute_loss(batch, output)
    targets = getattr(loss, "targets", lambda values: values["labels"])(batch)
    sums.add(total, weight, output.logits, targets)
