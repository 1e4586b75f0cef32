# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One update: forward and backward over the micro-batches of a window, one look at the gradients, clipping, the optimizer.

This is the hot path: nothing is logged or saved here, and the host waits for the device once.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from . import rng
from .attention_guard import MOST_ROWS, AttentionGuard
from .checkpoint.manager import is_sharded_model, unwrap
from .config import TrainingConfig
from .data.collate import IGNORE, Batch
from .data.loader import Window
from .data.plan import WindowShape
from .errors import DataError, EngineError, MemoryExhausted, NoRetryError, UsageError
from .exitcodes import ExitCode
from .health import GradientMonitor, layer_norms, scale_gradients, total_norm
from .loss import LossResult, LossStrategy
from .output import Adapter, adapter_for
from .peers import Peers, is_peer_failure
from .tree import is_sharded

UPDATED, EMPTY, UNHEALTHY, RESCALED = "updated", "empty", "unhealthy", "rescaled"
PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Outcome(NamedTuple):
    """What became of a window. loss: the mean over all ranks; weight: what it is a mean over; kind: UPDATED or why there was no update."""

    kind: str
    loss: float
    weight: float
    grad_norm: float
    learning_rate: float


def input_names(model: nn.Module) -> Callable[[Batch], Batch]:
    """Chooses the entries of a batch that the model's forward takes. Labels are never passed: a model that gets them shifts them itself."""
    parameters = inspect.signature(model.forward).parameters
    if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        return lambda batch: {name: tensor for name, tensor in batch.items() if name != "labels"}
    known = frozenset(parameters) - {"labels"}
    return lambda batch: {name: tensor for name, tensor in batch.items() if name in known}


def check_inputs(model: nn.Module, batch: Batch) -> None:
    """Raise UsageError where the model's forward needs what no batch has."""
    parameters = inspect.signature(model.forward).parameters.values()
    missing = [item.name for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
               and item.default is item.empty and (item.name == "labels" or item.name not in batch)]
    if missing:
        raise UsageError(f"the model's forward needs {', '.join(missing)}, and a batch has {', '.join(sorted(batch))}; its arguments get "
                         "the entries of their name, labels excepted: name them alike in the model or in the collator")


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """The batch in at most `parts` pieces along the samples."""
    size = max(1, -(-len(next(iter(batch.values()))) // parts))
    return [dict(zip(batch, row, strict=True)) for row in zip(*(torch.split(tensor, size) for tensor in batch.values()), strict=True)]


def local_parts(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """What this rank holds of sharded tensors."""
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a device or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def code_of(error: BaseException) -> ExitCode:
    """The exit code an error means."""
    if isinstance(error, EngineError):
        return error.exit_code
    if is_out_of_memory(error):
        return ExitCode.OOM
    return ExitCode.PEER if is_peer_failure(error) else ExitCode.BUG


class TrainStep:
    """Makes updates. `split` is the number of pieces that memory has forced micro-batches into (part of the run's state).

    rate: the learning rate by the number of finished updates; None where somebody else sets it. bases: the peak of each group of an
    optimizer of one's own, where `rate` gives the shape alone (None: all groups get `rate`).
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: LossStrategy, config: TrainingConfig, *,
                 rate: Callable[[int], float] | None, monitor: GradientMonitor, peers: Peers, device: torch.device,
                 on_event: Callable[..., None], bases: list[float] | None = None) -> None:
        self.model, self.optimizer, self.loss, self.monitor, self.peers, self.device = model, optimizer, loss, monitor, peers, device
        self._rate, self._peak, self._bases, self._event = rate, config.optim.learning_rate, bases, on_event
        self._empty_since: WindowShape | None = None
        self._seed, self._clip = config.run.seed, config.optim.max_grad_norm
        inner = unwrap(model)  # wrappers take any arguments, and put prefixes before names
        named = [(name, parameter) for name, parameter in inner.named_parameters() if parameter.requires_grad]
        self._names, self._parameters = [name for name, dummy in named], [parameter for dummy, parameter in named]
        self._inputs = input_names(inner)
        self.sharded = is_sharded_model(inner)
        self._adapter: Adapter | None = None
        self.attention = AttentionGuard(on_event)
        self._unchecked = config.optim.attention_check
        dtype = PRECISION.get(config.optim.precision)
        self._autocast: Callable[[], Any] | None = (lambda: torch.autocast(device.type, dtype)) if dtype else None
        self.scaler = torch.amp.GradScaler(device.type) if dtype is torch.float16 else None
        self.split = 1
        # What a step need not find out anew.
        self._synced = self.sharded or isinstance(model, nn.parallel.DistributedDataParallel)
        self._moves = device.type != "cpu"
        self._slope: tuple[float, torch.Tensor] | None = None

    def weight(self, window: Window) -> float:
        """The weight of this rank's part of the window, from the labels alone."""
        parts = [self.loss.weight(batch) for batch, blank in zip(window.batches, window.blank, strict=True) if not blank]
        return float(sum(parts[1:], parts[0])) if parts else 0.0

    def run(self, window: Window, weight: float, step: int) -> Outcome:
        """Make the update for a window whose weight over all ranks is `weight`, after `step` finished updates.

        Raises MemoryExhausted, NoRetryError (too many unhealthy gradients in a row), PeerError, DataError (an epoch without targets).
        """
        rate = self._set_rates(step)
        if weight == 0.0:
            self._nothing_to_learn(window.shape)
            return Outcome(EMPTY, 0.0, 0.0, 0.0, rate)
        self._empty_since = None
        if self._adapter is None:
            check_inputs(unwrap(self.model), window.batches[0])
        if self._unchecked:
            self._check_attention(window)
        total = self._accumulate_in_memory(window, weight)
        kind, loss, norm = self._update(total)
        if self.peers.world > 1 and not self.sharded:
            loss, = self.peers.sum([loss])
        if kind == UNHEALTHY:
            self._event("unhealthy", window=window.shape.index, epoch=window.shape.epoch, loss=loss / weight, grad_norm=norm)
        return Outcome(kind, loss / weight, weight, norm, rate)

    def _set_rates(self, step: int) -> float:
        """Give every group its learning rate; that of the first."""
        groups = self.optimizer.param_groups
        if self._rate is None:
            return float(groups[0]["lr"])
        rate = self._rate(step)
        if self._bases is None:
            for group in groups:
                group["lr"] = rate
            return rate
        for group, base in zip(groups, self._bases, strict=True):
            group["lr"] = base * (rate / self._peak)
        return self._bases[0] * (rate / self._peak)

    def _nothing_to_learn(self, shape: WindowShape) -> None:
        """A window without a target makes no update. The first of a row of them is told; a whole epoch of them would go on for ever."""
        if self._empty_since is None:
            self._empty_since = shape
            self._event("empty_window", window=shape.index, epoch=shape.epoch, reason="no label of it counts: no update")
        if shape.last_of_epoch and (self._empty_since.start == 0 or self._empty_since.epoch < shape.epoch):
            raise DataError(f"a whole epoch holds nothing to predict: every label is {IGNORE} or masked, or weighs 0; look at the labels, "
                            "the masks and the class weights")

    def _check_attention(self, window: Window) -> None:
        """Once, before the first update of a process. What the forward pass draws does not matter: every window is seeded anew."""
        self._unchecked = False
        batch = {name: tensor[:MOST_ROWS].to(self.device) for name, tensor in window.batches[0].items()}
        inner = unwrap(self.model)
        mode = inner.training
        inner.eval()  # running statistics of a norm must not see the batch twice
        try:
            with self._autocast() if self._autocast else contextlib.nullcontext():
                self.attention.check(inner, lambda: inner(**self._inputs(batch)))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._event("attention_unchecked", reason=f"out of memory: {error}")
        finally:
            inner.train(mode)

    def _accumulate_in_memory(self, window: Window, weight: float) -> torch.Tensor:
        """Accumulate; when memory runs out, start the window again with micro-batches half as large. The sums, and so the gradient, are the
        same, for every piece is divided by the weight of the whole window."""
        while True:
            rng.seed_window(self._seed, window.shape.index, self.peers.rank)
            try:
                return self._accumulate(window, weight)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UsageError("batch normalisation cannot train on a batch of one sample, which the last window of an epoch may "
                                 "leave: set drop_last, or another batch_size") from error
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._split_further(window, error)

    def _split_further(self, window: Window, error: RuntimeError) -> None:
        largest = max(len(next(iter(batch.values()))) for batch in window.batches)
        self._drop_gradients()
        if self.peers.world > 1:
            raise MemoryExhausted(f"out of memory with {self.peers.world} ranks, where a single rank cannot split its batch alone; lower "
                                  f"batch_size and raise gradient_accumulation_steps by the same factor. {error}") from error
        if self.split >= largest:
            raise MemoryExhausted(f"out of memory with micro-batches of one sample; use a smaller model, shorter sequences or another "
                                  f"precision. {error}") from error
        self.split *= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._event("oom_split", window=window.shape.index, split=self.split)

    def _accumulate(self, window: Window, weight: float) -> torch.Tensor:
        self._drop_gradients()
        if self.attention.restricted:
            with self.attention.context():
                return self._accumulate_all(window, weight)
        return self._accumulate_all(window, weight)

    def _accumulate_all(self, window: Window, weight: float) -> torch.Tensor:
        factor = self.peers.world / weight  # DDP and FSDP average over the ranks; the mean is over all of them
        pieces = list(zip(window.batches, window.blank, strict=True))
        if self.split > 1:
            pieces = [(piece, blank) for batch, blank in pieces for piece in split_batch(batch, self.split)]
        if not self._synced:
            totals = [self._forward_backward(batch, factor, blank) for batch, blank in pieces]
        else:
            totals = []
            for number, (batch, blank) in enumerate(pieces):
                with self._without_sync(number + 1 < len(pieces)):
                    totals.append(self._forward_backward(batch, factor, blank))
        return totals[0] if len(totals) == 1 else torch.stack(totals).sum()

    def _drop_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _without_sync(self, inner: bool) -> Any:
        """Only the last backward pass of a window sends gradients to the other ranks."""
        if self.sharded:
            self.model.set_requires_gradient_sync(not inner)  # type: ignore[operator]  # a method of FSDPModule
        return self.model.no_sync() if inner and isinstance(self.model, nn.parallel.DistributedDataParallel) else contextlib.nullcontext()

    def _forward_backward(self, batch: Batch, factor: float, blank: bool) -> torch.Tensor:
        if self._moves:
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        if self._autocast is None:
            total = self._forward(batch)
        else:
            with self._autocast():
                total = self._forward(batch)
        if blank:
            factor = 0.0
        if self.scaler:
            self.scaler.scale(total * factor).backward()  # type: ignore[no-untyped-call]
        else:
            # The factor goes in as the gradient of the sum: the same result as a product, without two operations.
            total.backward(self._slope_of(total, factor))  # type: ignore[no-untyped-call]
        return torch.zeros_like(total) if blank else total.detach()

    def _forward(self, batch: Batch) -> torch.Tensor:
        raw = self.model(**self._inputs(batch))
        if self._adapter is None:
            return self._first_forward(batch, raw)
        return self.loss.compute_loss(batch, self._adapter(raw)).total

    def _first_forward(self, batch: Batch, raw: Any) -> torch.Tensor:
        """With everything checked that is the same in every batch."""
        adapter = adapter_for(raw)
        like = batch.get("labels", next(iter(batch.values())))
        adapter(raw).validate(batch=len(like), device=like.device)
        found = self.loss.compute_loss(batch, adapter(raw))
        if not isinstance(found, LossResult) or found.total.dim():
            raise UsageError(f"the loss {type(self.loss).__name__} gave a {type(found).__name__}; return LossResult(total, weight), where "
                             "total is the sum (a scalar tensor) and not the mean")
        if not found.total.requires_grad:
            raise UsageError("the loss depends on no trainable parameter: something on the way is detached, or computed under no_grad")
        self._adapter = adapter
        return found.total

    def _slope_of(self, total: torch.Tensor, factor: float) -> torch.Tensor:
        """The factor as a tensor like `total`. Windows of one weight share it: making one waits for the device."""
        kept = self._slope
        if kept is None or kept[0] != factor or kept[1].dtype != total.dtype or kept[1].device != total.device:
            kept = self._slope = (factor, torch.tensor(factor, dtype=total.dtype, device=total.device))
        return kept[1]

    def _update(self, total: torch.Tensor) -> tuple[str, float, float]:
        """(what happened, summed loss of this rank, total gradient norm)."""
        gradients = [grad for parameter in self._parameters if (grad := parameter.grad) is not None]
        if not gradients:
            raise NoRetryError("no parameter has a gradient after the backward pass; the logits do not depend on the trainable parameters")
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        loss, *norms = self._norms(gradients, total)
        norm = total_norm(norms)
        if self.scaler and norm - norm != 0.0 and self.scaler.get_scale() > 1.0:
            self.scaler.update(self.scaler.get_scale() * 0.5)
            return RESCALED, loss, norm  # normal while the scale of fp16 is being found; neither an update nor a failure
        if not self.monitor.observe(norms, norm, self._named(gradients)):
            return UNHEALTHY, loss, norm
        if self._clip and norm > self._clip:
            scale_gradients(local_parts(gradients) if self.sharded else gradients, self._clip / (norm + 1e-6))
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        return UPDATED, loss, norm

    def _norms(self, gradients: list[torch.Tensor], total: torch.Tensor) -> list[float]:
        """The summed loss and the norm of each gradient; over all ranks where each of them holds a part of every gradient."""
        if not self.sharded:
            return layer_norms(gradients, total)
        loss, *norms = layer_norms(local_parts(gradients), total)
        loss, *squares = self.peers.sum([loss, *(norm * norm for norm in norms)])
        return [loss, *(math.sqrt(square) if square >= 0 else square for square in squares)]

    def _named(self, gradients: list[torch.Tensor]) -> list[str]:
        if len(gradients) == len(self._names):
            return self._names
        return [name for name, parameter in zip(self._names, self._parameters, strict=True) if parameter.grad is not None]
