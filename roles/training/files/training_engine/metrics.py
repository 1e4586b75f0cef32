# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: running sums while training, one pass of sums for an evaluation, alerts as events. Nothing here draws anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .data.collate import IGNORE

BINS = 15  # of the calibration error
_SUMS = ("loss", "weight", "count", "correct", "top5", "confidence", "entropy")


class EvalSums:
    """Sums over an evaluation, on the device, in fp64; ratios are formed once, at the end, over all ranks."""

    def __init__(self, device: torch.device) -> None:
        self.values = torch.zeros(len(_SUMS) + 3 * BINS, dtype=torch.float64, device=device)

    def add(self, loss: torch.Tensor, weight: torch.Tensor | float, logits: torch.Tensor | None, targets: torch.Tensor | None) -> None:
        """loss, weight: sums of one batch; logits (..., V) and targets (...) aligned, IGNORE where nothing counts."""
        self.values[0] += loss.double()
        self.values[1] += weight
        if logits is not None and targets is not None and are_classes(logits, targets):
            self.values[2:] += _prediction_sums(logits.flatten(0, -2), targets.flatten())

    @staticmethod
    def confidence_counts(values: list[float]) -> list[float]:
        """Out of the sums of all ranks: how many predictions fell into each of BINS equal bins of confidence."""
        return values[len(_SUMS):len(_SUMS) + BINS]

    @staticmethod
    def weight(values: list[float]) -> float:
        """Out of the sums of all ranks: what the loss is a mean over; 0 where nothing was evaluated."""
        return values[_SUMS.index("weight")]

    def result(self, values: list[float]) -> dict[str, float]:
        """The metrics out of the sums of all ranks."""
        sums = dict(zip(_SUMS, values, strict=False))
        loss = sums["loss"] / sums["weight"] if sums["weight"] else math.nan
        out = {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
        if sums["count"]:
            out.update({name: sums[key] / sums["count"] for name, key in
                        (("accuracy", "correct"), ("top5", "top5"), ("confidence", "confidence"), ("entropy", "entropy"))})
            out["calibration_error"] = _calibration_error(values[len(_SUMS):], sums["count"])
        return out


def are_classes(logits: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether targets (...) name one of the classes of logits (..., V); accuracy means nothing for anything else."""
    return not targets.is_floating_point() and logits.shape[:-1] == targets.shape


def _prediction_sums(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sums over (N, V) logits: count, correct, top5, confidence, entropy, and per bin of confidence: count, confidence, correct."""
    kept = targets != IGNORE
    logits, targets = logits[kept].double(), targets[kept]
    logs = logits.log_softmax(-1)
    top, ranked = logs.topk(min(5, logits.shape[-1]), dim=-1)
    correct = (ranked[:, 0] == targets).double()
    confidence = top[:, 0].exp()
    entropy = -(logs.exp() * logs).sum(-1)
    head = torch.stack([torch.tensor(float(len(targets)), dtype=torch.float64, device=logits.device), correct.sum(),
                        (ranked == targets.unsqueeze(-1)).double().sum(), confidence.sum(), entropy.sum()])
    place = (confidence * BINS).nan_to_num(0.0).long().clamp(0, BINS - 1)
    bins = torch.zeros(3, BINS, dtype=torch.float64, device=logits.device)
    for row, value in enumerate((torch.ones_like(confidence), confidence, correct)):
        bins[row].index_add_(0, place, value)
    return torch.cat([head, bins.flatten()])


def _calibration_error(bins: list[float], count: float) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over equal bins of confidence."""
    confidence, correct = bins[BINS:2 * BINS], bins[2 * BINS:3 * BINS]
    return sum(abs(sure - right) for sure, right in zip(confidence, correct, strict=True)) / count


def prediction_confidence(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """accuracy, top5, confidence, entropy, calibration_error of one batch. Not for every step: it costs a softmax in fp64."""
    sums = EvalSums(logits.device)
    sums.add(torch.zeros(()), torch.ones(()), logits, targets)
    out = sums.result(sums.values.tolist())
    return {name: value for name, value in out.items() if name not in ("loss", "perplexity")}


@dataclass(frozen=True)
class AlertRules:
    """accuracy_drop: how far accuracy may fall below its best (absolute); loss_spike: factor over the running mean that is a spike."""

    accuracy_drop: float = 0.05
    loss_spike: float = 3.0
    warm_up: int = 20


class MetricsEngine:
    """Running sums of a training run, and the alerts that follow from them. Its state is part of the checkpoint."""

    def __init__(self, on_alert: Callable[..., None], rules: AlertRules | None = None, *, memory: float = 0.98) -> None:
        self._alert, self.rules, self._memory = on_alert, rules or AlertRules(), memory
        self.mean_loss, self.seen = 0.0, 0
        self.epoch_loss = self.epoch_weight = 0.0
        self.best_accuracy: float | None = None

    def train_step(self, loss: float, weight: float, step: int) -> None:
        """Take in the mean loss of one update. Host numbers only: the step has synchronised already."""
        self.epoch_loss += loss * weight
        self.epoch_weight += weight
        if self.seen >= self.rules.warm_up and loss > self.rules.loss_spike * self.mean_loss:
            self._alert("loss_spike", step=step, loss=loss, running_mean=self.mean_loss)
        self.seen += 1
        share = max(1.0 - self._memory, 1.0 / self.seen)
        self.mean_loss += share * (loss - self.mean_loss)

    def end_epoch(self) -> float:
        """The mean loss of the epoch so far (NaN for an empty one); the sums start again."""
        mean = self.epoch_loss / self.epoch_weight if self.epoch_weight else math.nan
        self.epoch_loss = self.epoch_weight = 0.0
        return mean

    def evaluated(self, metrics: Mapping[str, float], step: int) -> None:
        """Take in the metrics of an evaluation."""
        accuracy = metrics.get("val_accuracy")
        if accuracy is None:
            return
        if self.best_accuracy is not None and accuracy < self.best_accuracy - self.rules.accuracy_drop:
            self._alert("accuracy_drop", step=step, accuracy=accuracy, best=self.best_accuracy)
        self.best_accuracy = accuracy if self.best_accuracy is None else max(self.best_accuracy, accuracy)

    def state_dict(self) -> dict[str, Any]:
        """All sums."""
        return {"mean_loss": self.mean_loss, "seen": self.seen, "epoch_loss": self.epoch_loss, "epoch_weight": self.epoch_weight,
                "best_accuracy": self.best_accuracy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
