# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cross-entropy for large vocabularies: the head is applied chunk by chunk, so the logits of all tokens never exist at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients are computed in the forward pass, while a chunk's logits are there, and scaled in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int, ignore: int) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        want_hidden, want_weight = ctx.needs_input_grad[:2]
        hidden_grad = torch.zeros_like(hidden) if want_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if want_weight else None
        for start in range(0, len(hidden), chunk):
            rows, labels = hidden[start:start + chunk], targets[start:start + chunk]
            logits = (rows @ weight.T).float()
            total += F.cross_entropy(logits, labels, reduction="sum", ignore_index=ignore)
            if not (want_hidden or want_weight):
                continue
            slope = _slope(logits, labels, ignore)
            if hidden_grad is not None:
                hidden_grad[start:start + chunk] = slope.to(weight.dtype) @ weight
            if weight_grad is not None:
                weight_grad.addmm_(slope.T, rows.float())
        ctx.save_for_backward(*(grad for grad in (hidden_grad, weight_grad) if grad is not None))
        ctx.wants, ctx.weight_dtype = (want_hidden, want_weight), weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        hidden = saved.pop(0).mul(grads[0]) if ctx.wants[0] else None
        weight = saved.pop(0).mul(grads[0]).to(ctx.weight_dtype) if ctx.wants[1] else None
        return hidden, weight, None, None, None


def _slope(logits: torch.Tensor, labels: torch.Tensor, ignore: int) -> torch.Tensor:
    """d(sum of cross-entropies)/d(logits): softmax minus one at the label, zero in ignored rows."""
    counted = labels != ignore
    slope = logits.softmax(-1)
    slope[torch.arange(len(labels), device=labels.device), labels.clamp_min(0)] -= 1.0
    return slope * counted.unsqueeze(-1)


def chunked_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int, ignore: int) -> torch.Tensor:
    """The summed cross-entropy of hidden (N, D) @ weight (V, D).T against targets (N,); at most chunk x V logits exist at a time."""
    result: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, chunk, ignore)  # type: ignore[no-untyped-call]
    return result
