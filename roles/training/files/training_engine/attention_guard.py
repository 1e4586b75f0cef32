# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attention check in training: the model's own calls are watched once, tried with every backend, and what differs is not used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from .attention import BACKENDS, AttentionCase, BackendReport, architecture_of, check_attention

MOST_ROWS, MOST_HEADS = 2, 4  # of a batch that are compared; lengths, widths, types and masks are the model's own
MOST_LENGTH = 2048  # positions: plain attention in fp64 needs their square


class _Watch(TorchFunctionMode):
    """Takes note of every call of scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: dict[str, AttentionCase] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self._note(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _note(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
              dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> None:
        if query.dim() != 4 or query.shape[-2] > MOST_LENGTH or key.shape[:-2] != query.shape[:-2]:
            return
        kind = "decoder" if is_causal else "encoder" if attn_mask is None else "masked"
        mask = attn_mask
        if mask is not None:  # its leading dimensions are those of query, or 1
            whole = slice(None)
            place: tuple[Any, ...] = (..., *(slice(most) for most in (MOST_ROWS, MOST_HEADS)[4 - mask.dim():]), whole, whole)
            mask = mask.detach()[place]
        case = AttentionCase(kind=kind, batch=min(MOST_ROWS, len(query)), heads=min(MOST_HEADS, query.shape[1]),
                             length=query.shape[2], width=query.shape[3], key_length=key.shape[2],
                             given_mask=mask, scale=scale, dtype=query.dtype, device=str(query.device))
        self.cases.setdefault(f"{kind} {tuple(query.shape[1:])} {key.shape[2]} {query.dtype}", case)


class AttentionGuard:
    """`context()` is entered around each forward and backward pass; it costs nothing where no backend had to be left out."""

    def __init__(self, on_event: Callable[..., None]) -> None:
        self._event = on_event
        self._allowed: list[SDPBackend] = []

    def check(self, model: nn.Module, forward: Callable[[], object]) -> list[str]:
        """Watch one forward pass and choose; the names of the backends that may be used, [] where the model calls none.

        A backend that is not available here is told and needs no ban; one that differs is told and banned.
        """
        with _Watch() as watch, torch.no_grad():
            forward()
        left: dict[str, None] = dict.fromkeys(BACKENDS) if watch.cases else {}
        banned = False
        for name, case in watch.cases.items():
            for report in check_attention(case):
                if not report.usable and report.backend in left:
                    del left[report.backend]
                    banned = banned or report.ran
                    self._tell(report, name, case)
        if watch.cases:
            self._event("attention", architecture=architecture_of(model), cases=list(watch.cases), backends=list(left))
        # Plain arithmetic is the last resort, and what all others are measured by.
        self._allowed = [BACKENDS[name] for name in left or ["math"]] if banned else []
        return list(left)

    def _tell(self, report: BackendReport, name: str, case: AttentionCase) -> None:
        self._event("attention_fallback", backend=report.backend, case=name, reason=report.reason)

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """The backends that may be used."""
        if not self._allowed:
            yield
            return
        with sdpa_kernel(self._allowed):
            yield

    @property
    def restricted(self) -> bool:
        """Whether a backend had to be left out."""
        return bool(self._allowed)
