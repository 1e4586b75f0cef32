# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further metrics of an evaluation, by torchmetrics (an extra): what needs more than sums, such as F1 or the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .data.collate import IGNORE
from .errors import UsageError
from .registry import Registry

# name -> function(number of classes) that makes the metric
extra_metrics: Registry[Callable[[int], Any]] = Registry("extra metric")
CLASSES = {"f1": "MulticlassF1Score", "precision": "MulticlassPrecision", "recall": "MulticlassRecall", "auroc": "MulticlassAUROC",
           "matthews": "MulticlassMatthewsCorrCoef"}


def _maker(name: str) -> Callable[[int], Any]:
    def make(classes: int) -> Any:
        from torchmetrics import classification

        options = {} if name == "matthews" else {"average": "macro"}
        return getattr(classification, CLASSES[name])(num_classes=classes, ignore_index=IGNORE, validate_args=False, **options)

    return make


for _name in CLASSES:
    extra_metrics.add(_name, _maker(_name))


class ExtraMetrics:
    """The metrics `names` over one evaluation; torchmetrics sums over the ranks itself. Raises UsageError where it is absent."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._makers = {name: extra_metrics.get(name) for name in names}
        self._made: dict[str, Any] = {}
        try:
            import torchmetrics  # noqa: F401  # asked here, so that the answer comes before the training and not after it
        except ImportError as error:
            raise UsageError(f"{', '.join(names)}: these metrics need torchmetrics: pip install 'training-engine[metrics]' "
                             f"({error})") from error

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """logits (..., V) and targets (...) of one batch."""
        if not self._made:
            self._made = {name: make(logits.shape[-1]).to(logits.device) for name, make in self._makers.items()}
        for metric in self._made.values():
            metric.update(logits.flatten(0, -2).float(), targets.flatten())

    def result(self) -> dict[str, float]:
        """The values over all ranks; the next evaluation starts anew."""
        out = {name: float(metric.compute()) for name, metric in self._made.items()}
        for metric in self._made.values():
            metric.reset()
        return out


def make_extra(text: str | None) -> ExtraMetrics | None:
    """The metrics named in a configuration, or None."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    return ExtraMetrics(names) if names else None
