# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradient health: one fused pass over the norms, shared with clipping; single layers are named only when something is wrong."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .errors import NoRetryError, UsageError

WINDOW = 32  # norms of each layer that the running median looks back on
LOW_PRECISION = (torch.float16, torch.bfloat16)
WARM = 8  # norms a layer needs before it is compared with its median


@dataclass(frozen=True)
class GradientHealth:
    """What was found. Norms are L2 norms of the gradient of one parameter; total_norm is that of all together."""

    has_nan: bool
    has_inf: bool
    max_norm: float
    min_norm: float
    affected_layers: list[str]
    is_healthy: bool
    total_norm: float = 0.0
    issues: tuple[str, ...] = ()


def layer_norms(gradients: list[torch.Tensor], *first: torch.Tensor) -> list[float]:
    """The values of the scalars `first`, then the L2 norms of `gradients`, in one pass and with one wait for the device.

    Sums are in fp32 at least: squares of fp16 overflow.
    """
    low = gradients[0].dtype in LOW_PRECISION
    try:
        norms = torch._foreach_norm(gradients, 2.0, torch.float32 if low else None)
    except NotImplementedError as error:
        raise UsageError("a gradient is sparse, and norms and clipping are for dense ones; make the embedding with sparse=False") from error
    if norms[0].is_cpu:
        return [scalar.item() for scalar in (*first, *norms)]  # nothing to wait for, so there is nothing to gather first
    values: list[float] = torch.stack([*(scalar.to(norms[0].dtype) for scalar in first), *norms]).tolist()
    return values


def total_norm(norms: Sequence[float]) -> float:
    """The norm of all gradients together, in fp64; not finite when one of them is not."""
    return math.hypot(*norms)


def scale_gradients(gradients: Sequence[torch.Tensor], factor: float) -> None:
    """Multiply gradients in place, in one pass."""
    torch._foreach_mul_(list(gradients), factor)


class GradientMonitor:
    """Watches gradients for NaN, Inf, vanishing and exploding.

    vanishing_threshold, explosion_threshold: bounds of the total norm outside of which an issue is reported.
    relative_limit: a layer whose norm is further than this factor from its own running median is reported (0: off).
    max_consecutive_failures: non-finite checks in a row (NaN or Inf alike) after which `observe` raises.
    Only non-finite gradients, or none at all, are unhealthy; the other issues are reported and training goes on.
    """

    def __init__(self, vanishing_threshold: float = 1e-7, explosion_threshold: float = 10.0, max_consecutive_failures: int = 3, *,
                 check_interval: int = 1, relative_limit: float = 100.0, on_issue: Callable[..., None] | None = None) -> None:
        self.vanishing_threshold, self.explosion_threshold = vanishing_threshold, explosion_threshold
        self.max_consecutive_failures, self.check_interval, self.relative_limit = max_consecutive_failures, check_interval, relative_limit
        self.consecutive = 0
        self._on_issue = on_issue or (lambda **_: None)
        self._history: deque[list[float]] = deque(maxlen=WINDOW)
        self._medians: list[float] = []
        self._seen = 0
        self._reported: tuple[str, ...] = ()

    def check_gradients(self, model: nn.Module) -> GradientHealth:
        """One check of a model outside the engine's loop; counts it, and raises NoRetryError after too many failures in a row."""
        named = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
        if not named:
            self._count(False, "no parameter has a gradient")
            return GradientHealth(False, False, 0.0, 0.0, [], False, 0.0, ("no gradients",))
        norms = layer_norms([grad for dummy, grad in named])
        total = total_norm(norms)
        health = self.describe(named, norms, total)
        self.observe(norms, total, [name for name, dummy in named])
        return health

    def describe(self, named: Sequence[tuple[str, torch.Tensor]], norms: Sequence[float], total: float) -> GradientHealth:
        """Name what is wrong. This is the slow look, for failures and for people."""
        issues = self._issues(total)
        affected, nan, inf = [], False, False
        for (name, grad), norm in zip(named, norms, strict=True):
            if norm - norm != 0.0:
                is_nan, is_inf = bool(grad.isnan().any()), bool(grad.isinf().any())
                nan, inf = nan or is_nan, inf or is_inf
                affected.append(f"{name} ({'NaN' if is_nan else 'Inf' if is_inf else 'overflow of the norm'})")
        affected += [f"{name} (unusual)" for name in self._outliers(norms, [name for name, dummy in named])]
        return GradientHealth(nan, inf, max(norms), min(norms), affected, total - total == 0.0, total, issues)

    def observe(self, norms: Sequence[float], total: float, names: Sequence[str]) -> bool:
        """Take note of one update; True when it may be made. `total` is the same on every rank, and so is the answer.

        Raises NoRetryError after max_consecutive_failures unhealthy ones in a row.
        """
        if total - total != 0.0:
            self._count(False, f"the total gradient norm is {total}")
            return False
        self.consecutive = 0
        if self._seen % self.check_interval == 0:
            issues, outliers = self._issues(total), self._outliers(norms, names)
            if issues or outliers or self._reported:
                self._report((*issues, *(f"unusual: {name}" for name in outliers)), total)
            if self.relative_limit:
                self._remember(norms)
        self._seen += 1
        return True

    def _issues(self, total: float) -> tuple[str, ...]:
        if total < self.vanishing_threshold:
            return (f"vanishing: the total norm is {total:.3g}; raise the learning rate, or look for saturated or detached layers",)
        if total > self.explosion_threshold:
            return (f"exploding: the total norm is {total:.3g}; lower the learning rate, or clip (max_grad_norm)",)
        return ()

    def _outliers(self, norms: Sequence[float], names: Sequence[str]) -> list[str]:
        limit = self.relative_limit
        if not limit or len(norms) != len(self._medians):
            return []
        return [name for name, norm, median in zip(names, norms, self._medians, strict=True)
                if norm > median * limit or norm * limit < median]

    def _remember(self, norms: Sequence[float]) -> None:
        """Keep the norms; the medians are taken anew at every WARM-th look, which is often enough for a limit of a factor."""
        if self._history and len(self._history[-1]) != len(norms):
            self._history.clear()
            self._medians = []
        self._history.append(list(norms))
        if len(self._history) >= WARM and (self._seen // self.check_interval) % WARM == 0:
            self._medians = [sorted(column)[len(column) // 2] for column in zip(*self._history, strict=True)]

    def _report(self, issues: tuple[str, ...], total: float) -> None:
        kinds = tuple(issue.split(":")[0] for issue in issues)
        if kinds != self._reported:
            self._reported = kinds
            if issues:
                self._on_issue(issues=list(issues), total_norm=total)

    def _count(self, healthy: bool, why: str) -> None:
        self.consecutive = 0 if healthy else self.consecutive + 1
        if self.consecutive >= self.max_consecutive_failures:
            raise NoRetryError(f"{self.consecutive} unhealthy gradients in a row ({why}); the newest checkpoint is from before them. Lower "
                               "the learning rate, clip (max_grad_norm), or look for bad samples in the windows that events.jsonl names")

    def state_dict(self) -> dict[str, Any]:
        """The history, so that a resumed run reports what the uninterrupted one would."""
        return {"history": torch.tensor(list(self._history), dtype=torch.float64), "medians": list(self._medians), "seen": self._seen,
                "consecutive": self.consecutive, "reported": list(self._reported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._history = deque(state["history"].tolist(), maxlen=WINDOW)
        self._medians, self._seen, self.consecutive = list(state["medians"]), state["seen"], state["consecutive"]
        self._reported = tuple(state["reported"])
