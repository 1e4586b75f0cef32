# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attention check: does scaled-dot-product attention compute the same as plain attention, forward and backward, on this machine and shape?

Every backend is tried on the real shape, type and mask; what fails or differs is left out, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "math": SDPBackend.MATH}
# The largest accepted difference to fp64, relative to the largest value of the reference.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True)
class AttentionCase:
    """A shape to check. kind: encoder (no mask), decoder (causal), padding (a key mask), sliding (a causal window), masked (given_mask).

    key_length: where it is not `length`; scale: where it is not 1 / sqrt(width); given_mask: a mask of a model's own.
    """

    kind: str = "decoder"
    batch: int = 2
    heads: int = 4
    length: int = 32
    width: int = 16
    window: int = 8
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    key_length: int = 0
    scale: float | None = None
    given_mask: torch.Tensor | None = None

    def mask(self) -> torch.Tensor | None:
        """(B, 1, T, T) or (T, T), True (or 0, where it is added) where a query may look; None where there is none or it is causal."""
        if self.kind == "masked":
            return self.given_mask
        place = torch.arange(self.length, device=self.device)
        if self.kind == "sliding":
            distance = place[:, None] - place[None, :]
            return (distance >= 0) & (distance < self.window)
        if self.kind == "padding":
            lengths = torch.arange(self.batch, device=self.device) % 2 * (self.length // 2) + self.length // 2
            return (place < lengths[:, None])[:, None, None, :].expand(-1, 1, self.length, -1)
        return None


@dataclass(frozen=True)
class BackendReport:
    """usable: whether results agree; reason: why not; forward_error, gradient_error: relative to the largest reference value.

    ran: whether it ran at all; a backend that is not available is not usable either, and torch never takes it by itself.
    """

    backend: str
    usable: bool
    reason: str = ""
    forward_error: float = math.nan
    gradient_error: float = math.nan
    ran: bool = True


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, *, causal: bool,
                    scale: float | None = None) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v, written out; all (B, H, T, D)."""
    scores = q @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask
    # A query that may look nowhere gets zeros, as every backend gives.
    out: torch.Tensor = scores.softmax(-1).nan_to_num(0.0) @ v
    return out


def check_attention(case: AttentionCase, backends: Sequence[str] = tuple(BACKENDS)) -> list[BackendReport]:
    """Compare each backend with plain attention in fp64, forward and gradient, for one case."""
    draw = torch.Generator().manual_seed(0)
    lengths = (case.length, case.key_length or case.length, case.key_length or case.length, case.length)
    exact = [torch.randn(case.batch, case.heads, length, case.width, generator=draw, dtype=torch.float64) for length in lengths]
    inputs = [tensor.to(case.dtype).to(case.device) for tensor in exact]
    mask, causal = case.mask(), case.kind == "decoder"
    expected = _with_gradients([tensor.double() for tensor in inputs], lambda q, k, v: plain_attention(
        q, k, v, mask, causal=causal, scale=case.scale))
    return [_try_backend(name, case, inputs, mask, expected) for name in backends]


def _with_gradients(inputs: Sequence[torch.Tensor], call: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    *qkv, upstream = [tensor.detach().clone() for tensor in inputs]
    for tensor in qkv:
        tensor.requires_grad_(True)
    out = call(*qkv)
    out.backward(upstream)  # type: ignore[no-untyped-call]
    return [out.detach(), *(tensor.grad for tensor in qkv if tensor.grad is not None)]


def _try_backend(name: str, case: AttentionCase, inputs: Sequence[torch.Tensor], mask: torch.Tensor | None,
                 expected: Sequence[torch.Tensor]) -> BackendReport:
    causal = case.kind == "decoder"
    try:
        with sdpa_kernel(BACKENDS[name]):
            attend = partial(F.scaled_dot_product_attention, attn_mask=mask, is_causal=causal, scale=case.scale)
            found = _with_gradients(inputs, attend)
    except RuntimeError as error:
        return BackendReport(name, False, "not available here: " + str(error).splitlines()[0], ran=False)
    errors = [float((mine.double() - theirs).abs().max() / theirs.abs().max()) for mine, theirs in zip(found, expected, strict=True)]
    forward, gradient = errors[0], max(errors[1:])
    limit = TOLERANCE[case.dtype]
    if not max(forward, gradient) <= limit:
        reason = f"differs by {forward:.2g} (forward), {gradient:.2g} (gradient); allowed {limit:g}"
        return BackendReport(name, False, reason, forward, gradient)
    return BackendReport(name, True, "", forward, gradient)


def architecture_of(model: nn.Module) -> str:
    """decoder, encoder, vit, sliding or none, from what the model itself says: its configuration, its modules' names."""
    text = f"{type(model).__name__} {getattr(getattr(model, 'config', None), 'model_type', '')}".lower()
    modules = " ".join(type(module).__name__ for module in model.modules()).lower()
    if any(word in text for word in ("longformer", "bigbird", "led")) or getattr(getattr(model, "config", None), "sliding_window", None):
        return "sliding"
    if "vit" in text or ("conv2d" in modules and "block" in modules):
        return "vit"
    causal = any(bool(getattr(module, "causal", False)) for module in model.modules())
    if causal or any(word in text for word in ("gpt", "causal", "charlm", "llama")):
        return "decoder"
    return "encoder" if "attention" in modules or "block" in modules else "none"


def choose_backends(case: AttentionCase, on_event: Callable[..., None]) -> list[str]:
    """The backends that may be used for a case, fastest first; each one left out is told with its reason."""
    reports = check_attention(case)
    for report in reports:
        if not report.usable:
            on_event("attention_fallback", backend=report.backend, case=case.kind, reason=report.reason)
    return [report.backend for report in reports if report.usable]
