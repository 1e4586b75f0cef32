# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loss strategies: they return a sum and its weight, never a mean, so that windows of any shape add up to the right gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import UninitializedParameter

from .chunked import chunked_cross_entropy
from .data.collate import IGNORE
from .errors import UsageError
from .output import ModelOutput
from .registry import Registry

Tensors = Mapping[str, torch.Tensor]
T = TypeVar("T")


class LossResult(NamedTuple):
    """The summed loss (a scalar tensor with a graph) and what it is a sum over (a scalar tensor: targets, or their class weights)."""

    total: torch.Tensor
    weight: torch.Tensor


class LossStrategy(Protocol):
    """Computes a task's loss. The gradient of an update is the gradient of (sum of totals) / (sum of weights)."""

    def weight(self, batch: Tensors) -> torch.Tensor:
        """The weight that `compute_loss` will return, from the batch alone: it is needed before the first backward pass."""

    def compute_loss(self, batch: Tensors, output: ModelOutput) -> LossResult:
        """The loss of one micro-batch. Raises UsageError naming tensor, shape and fix."""


losses: Registry[Callable[..., LossStrategy]] = Registry("loss")


def count_targets(targets: torch.Tensor) -> torch.Tensor:
    """How many targets count. (For truth values count_nonzero costs half of what sum does.)"""
    return (targets != IGNORE).count_nonzero()


class _Once(Generic[T]):
    """Values computed for `weight` and used again by `compute_loss` of the same batch. Each is handed out once."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensors, T]] = {}

    def keep(self, batch: Tensors, value: T) -> None:
        """Remember the value of a batch; no more than a few batches are held."""
        if len(self._kept) >= 64:
            self._kept.clear()
        self._kept[id(batch)] = (batch, value)

    def take(self, batch: Tensors) -> T | None:
        """The value of this very batch, if it was kept."""
        kept = self._kept.pop(id(batch), None)
        return kept[1] if kept is not None and kept[0] is batch else None


class _TokenLoss:
    """Cross-entropy over positions. Subclasses say whether position t predicts the label of t or of t + 1."""

    shift = False

    def __init__(self, *, pad_token_id: int | None = None, head: nn.Module | None = None, chunk_size: int = 1024, **_: Any) -> None:
        self.pad_token_id, self.chunk_size, self._head = pad_token_id, chunk_size, head
        self._checked = False
        self._known: _Once[tuple[torch.Tensor, torch.Tensor]] = _Once()

    def targets(self, batch: Tensors) -> torch.Tensor:
        """Labels aligned with the logits, (B, T), IGNORE wherever nothing is to be predicted.

        Masks move with the labels, and a position never predicts the first token of the next document of a packed row.
        """
        labels = _required(batch, "labels")
        mask = batch.get("attention_mask")
        if mask is not None:
            labels = labels.masked_fill(mask == 0, IGNORE)
        if not self.shift:
            return labels
        if labels.dim() != 2:
            raise UsageError(f"labels have the shape {tuple(labels.shape)}; language modelling needs (B, T), one label for each position: "
                             "choose the task that the data is for")
        documents = batch.get("document_ids")
        moved = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        if documents is not None:
            moved = moved.masked_fill(F.pad(documents[:, 1:] != documents[:, :-1], (0, 1), value=True), IGNORE)
        return moved

    def weight(self, batch: Tensors) -> torch.Tensor:
        """The number of positions that are predicted."""
        targets = self.targets(batch)
        weight = count_targets(targets)
        self._known.keep(batch, (targets, weight))
        return weight

    def compute_loss(self, batch: Tensors, output: ModelOutput) -> LossResult:
        """See LossStrategy."""
        known = self._known.take(batch)
        if known is None:
            targets = self.targets(batch)
            known = targets, count_targets(targets)
        targets, weight = known
        if not self._checked:
            self._check(batch, output, targets)
            self._checked = True
        if output.logits is None:
            total = self._from_hidden(output, targets)
        else:
            logits = real_valued(output.logits)
            total = _cross_entropy(logits.flatten(0, -2), targets.flatten())
        return LossResult(total, weight)

    def _from_hidden(self, output: ModelOutput, targets: torch.Tensor) -> torch.Tensor:
        hidden = output.hidden_states[-1] if isinstance(output.hidden_states, (tuple, list)) else output.hidden_states
        weight = getattr(self._head, "weight", None)
        if hidden is None or weight is None:
            raise UsageError("the model returned no logits; give the loss its output head (head=model.lm_head) and let the model return "
                             "hidden_states, or return logits")
        return chunked_cross_entropy(hidden.flatten(0, -2), weight, targets.flatten(), self.chunk_size, IGNORE)

    def _check(self, batch: Tensors, output: ModelOutput, targets: torch.Tensor) -> None:
        """Once, on the first batch: shapes, and padding that nothing masks."""
        if output.logits is not None and output.logits.shape[:-1] != targets.shape:
            raise UsageError(f"logits have the shape {tuple(output.logits.shape)} and labels {tuple(targets.shape)}; expected (B, T, V) "
                             "and (B, T) with the same B and T. Do not cut or shift them in the model: the loss does it")
        _check_range(targets, output.logits)
        if self.pad_token_id is not None and "attention_mask" not in batch and bool((batch["labels"] == self.pad_token_id).any()):
            raise UsageError(f"labels contain the padding token {self.pad_token_id} and the batch has no attention_mask, so padding would "
                             f"be trained on; add attention_mask (B, T), or set the labels of padding to {IGNORE}")


@losses.register("language_modeling")
class LanguageModelingLoss(_TokenLoss):
    """Next-token prediction: logits at t are scored against the label at t + 1. The model must not shift."""

    shift = True


@losses.register("masked_lm")
class MaskedLMLoss(_TokenLoss):
    """Masked tokens: labels are IGNORE except where a token was masked."""


@losses.register("seq2seq")
class Seq2SeqLoss(_TokenLoss):
    """Sequence to sequence: decoder labels are aligned with the decoder's logits already; `attention_mask` belongs to the encoder."""

    def targets(self, batch: Tensors) -> torch.Tensor:
        """The labels, with `decoder_attention_mask` applied where there is one."""
        labels = _required(batch, "labels")
        mask = batch.get("decoder_attention_mask")
        return labels if mask is None else labels.masked_fill(mask == 0, IGNORE)


@losses.register("classification")
class ClassificationLoss:
    """One label for each sample, with optional class weights (C,)."""

    def __init__(self, *, class_weights: torch.Tensor | None = None, **_: Any) -> None:
        self.class_weights = class_weights
        self._checked = False
        self._weights: _Once[torch.Tensor] = _Once()

    def weight(self, batch: Tensors) -> torch.Tensor:
        """The number of labelled samples, or the sum of their class weights."""
        weight = self._weigh(_required(batch, "labels"))
        self._weights.keep(batch, weight)
        return weight

    def _weigh(self, labels: torch.Tensor) -> torch.Tensor:
        if self.class_weights is None:
            return count_targets(labels)
        known = labels[labels != IGNORE]
        return self.class_weights.to(labels.device)[known].sum()

    def compute_loss(self, batch: Tensors, output: ModelOutput) -> LossResult:
        """See LossStrategy."""
        labels = _required(batch, "labels")
        if output.logits is None:
            raise UsageError("the model returned no logits; classification needs logits (B, C)")
        logits = real_valued(output.logits)
        if not self._checked:
            self._check(logits, labels)
            self._checked = True
        weights = None if self.class_weights is None else self.class_weights.to(logits.device, logits.dtype)
        weight = self._weights.take(batch)
        return LossResult(_cross_entropy(logits, labels, weights), self._weigh(labels) if weight is None else weight)

    def _check(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        if logits.dim() != 2 or labels.shape != logits.shape[:1]:
            raise UsageError(f"logits have the shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; expected (B, C) and (B,) with "
                             "the same B: one row of logits and one label for each sample")
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise UsageError(f"there are {len(self.class_weights)} class weights for {logits.shape[1]} classes")
        _check_range(labels, logits)


losses.add("vision_classification", ClassificationLoss)


def real_valued(logits: torch.Tensor) -> torch.Tensor:
    """Logits as floating-point numbers: quantized ones are dequantized. Raises UsageError for whole numbers without a scale."""
    if logits.is_floating_point():
        return logits
    if logits.is_quantized:
        return logits.dequantize()
    raise UsageError(f"logits are {logits.dtype}, which has no gradient and no scale; dequantize them in the model (x.float() * scale)")


def check_trainable(model: nn.Module) -> tuple[int, int]:
    """(trainable parameters, all parameters). Raises UsageError when nothing can be trained, or a trainable one is quantized.

    This is all that parameter-efficient tuning needs of the engine: the frozen base gets no gradients because it asks for none.
    """
    trainable = total = 0
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise UsageError(f"the parameter {name} has no shape yet; call a lazy model once with a batch before you give it to the engine")
        total += parameter.numel()
        if not parameter.requires_grad:
            continue
        if not parameter.is_floating_point():
            raise UsageError(f"the parameter {name} is {parameter.dtype} and asks for a gradient; freeze quantized weights "
                             "(requires_grad_(False)) and train adapters beside them")
        trainable += parameter.numel()
    if not trainable:
        raise UsageError(f"none of the {total} parameters is trainable; unfreeze some, or add adapters before the optimizer is made")
    return trainable, total


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The sum over (N, C) logits. Raises UsageError for a label that is none of the classes, in whatever batch it comes."""
    try:
        return F.cross_entropy(logits, labels, weight=weights, reduction="sum", ignore_index=IGNORE)
    except IndexError:
        _check_range(labels, logits)
        raise


def _required(batch: Tensors, name: str) -> torch.Tensor:
    try:
        return batch[name]
    except KeyError:
        raise UsageError(f"the batch has no {name!r}, only {sorted(batch)}; let the collator add it") from None


def _check_range(labels: torch.Tensor, logits: torch.Tensor | None) -> None:
    known = labels[labels != IGNORE]
    if logits is None or not known.numel():
        return
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= logits.shape[-1]:
        raise UsageError(f"labels reach from {low} to {high}, but logits have {logits.shape[-1]} classes (0 to {logits.shape[-1] - 1}); "
                         f"use {IGNORE} for what shall not count, and enlarge the head for more classes")
