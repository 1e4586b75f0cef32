# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ModelOutput: one shape for whatever a model returns, with the adapter chosen once and not at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from .errors import UsageError

FIELDS = ("logits", "loss", "hidden_states", "attentions")


@runtime_checkable
class ModelOutputProtocol(Protocol):
    """What an output of one's own needs: an attribute `logits`."""

    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What losses and metrics read.

    logits: (B, T, V), (B, C) or None where the head is applied by the loss (chunked cross-entropy reads hidden_states then).
    loss: the model's own mean loss. The engine reports it and never trains on it: it is a mean, and it may already have shifted labels.
    """

    logits: torch.Tensor | None
    loss: torch.Tensor | None = None
    hidden_states: Any = None
    attentions: Any = None

    @classmethod
    def from_raw(cls, output: Any) -> ModelOutput:
        """Parse any output. Raises UsageError with what was found. For a loop, choose the adapter once with `adapter_for`."""
        return adapter_for(output)(output)

    def __iter__(self) -> Iterator[Any]:
        """Unpacking like a tuple (logits, loss), as older code does."""
        import warnings

        warnings.warn("unpacking a ModelOutput is deprecated, read .logits and .loss", DeprecationWarning, stacklevel=2)
        return iter((self.logits, self.loss))

    def validate(self, *, batch: int, device: torch.device | None = None) -> None:
        """Check the number of samples and the device. Raises UsageError naming tensor, shape and fix."""
        if self.logits is None:
            return
        if self.logits.dim() < 1 or self.logits.shape[0] != batch:
            raise UsageError(f"logits have the shape {tuple(self.logits.shape)}, expected {batch} samples in the first dimension; "
                             "the model must return one row of logits for each sample of the batch")
        if device is not None and self.logits.device != device:
            raise UsageError(f"logits are on {self.logits.device}, the labels on {device}; move the batch to the model's device")


Adapter = Callable[[Any], ModelOutput]


def adapter_for(output: Any) -> Adapter:
    """The function that parses outputs of the kind of `output`."""
    if isinstance(output, ModelOutput):
        return _identity
    if isinstance(output, torch.Tensor):
        return _tensor
    if isinstance(output, Mapping):  # before attributes: the outputs of transformers are both, and their keys are what is really set
        return _mapping
    if isinstance(output, ModelOutputProtocol):
        return _attributes
    if isinstance(output, tuple) and output:
        return _tuple_adapter(output)
    raise UsageError(f"the model returned a {type(output).__name__}; return logits, a dict with 'logits', (loss, logits) or (logits, ...)")


def _identity(output: Any) -> ModelOutput:
    result: ModelOutput = output
    return result


def _tensor(output: Any) -> ModelOutput:
    return ModelOutput(output)


def _mapping(output: Any) -> ModelOutput:
    logits = output.get("logits")
    hidden = output.get("hidden_states", output.get("last_hidden_state"))
    if logits is None and hidden is None:
        raise UsageError(f"the model returned a mapping with the keys {sorted(map(str, output))} and no 'logits'; an encoder needs a head")
    return ModelOutput(logits, output.get("loss"), hidden, output.get("attentions"))


def _attributes(output: Any) -> ModelOutput:
    return ModelOutput(*(getattr(output, name, None) for name in FIELDS))


def _tuple_adapter(output: tuple[Any, ...]) -> Adapter:
    """(loss, logits, ...) when the first is a single number, as transformers orders it; (logits, loss, ...) otherwise."""
    first = output[0]
    if not isinstance(first, torch.Tensor):
        raise UsageError(f"the model returned a tuple that begins with a {type(first).__name__}; the first item must be logits or the loss")
    if first.dim() == 0:
        if len(output) < 2 or not isinstance(output[1], torch.Tensor):
            raise UsageError("the model returned only a loss; it must return logits as well, for the engine weighs losses by tokens")
        return lambda raw: ModelOutput(raw[1], raw[0])
    second = output[1] if len(output) > 1 else None
    has_loss = isinstance(second, torch.Tensor) and second.dim() == 0
    return lambda raw: ModelOutput(raw[0], raw[1] if has_loss else None)
