# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer's look at drift: do training and validation samples look the same, to the eye and to the model?

Per sample three numbers are compared: the mean input, the mean label, and the model's confidence (in evaluation mode on both sides).
Inputs or labels that differ mean another distribution; a confidence that differs alone means overfitting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch

from .config import EvalSection
from .data.collate import IGNORE, Batch
from .drift import DriftResult, detect_drift
from .errors import UsageError
from .evaluation import Evaluator, Prediction, evaluating
from .peers import Peers

FEATURES = ("input", "label", "confidence")


def sample_values(seen: Prediction) -> dict[str, torch.Tensor]:
    """The compared numbers of each sample of a batch."""
    if seen.targets is None:
        raise UsageError("the data has no 'labels' to compare; set drift_every to 0")
    rows = len(seen.targets)
    kept = (seen.targets != IGNORE).reshape(rows, -1)
    count = kept.sum(1).clamp_min(1)
    first = next(tensor for name, tensor in seen.batch.items() if name != "labels")
    labels = torch.where(kept, seen.targets.reshape(rows, -1), 0)
    out = {"input": first.reshape(rows, -1).double().mean(1), "label": labels.double().sum(1) / count}
    if seen.output.logits is not None:
        sure = seen.output.logits.double().softmax(-1).amax(-1).reshape(rows, -1)
        out["confidence"] = torch.where(kept, sure, 0.0).sum(1) / count
    return out


class DriftWatch:
    """Compares both sides as `config` says; of comparisons without drift at most drift_alpha raise the alarm, over all features."""

    def __init__(self, config: EvalSection, on_alert: Callable[..., None], peers: Peers) -> None:
        self.config, self._alert, self._peers = config, on_alert, peers

    def compare(self, evaluator: Evaluator, train: Iterable[Batch], validation: Iterable[Batch], step: int) -> dict[str, float]:
        """drift_<feature> (the distance) and drift_<feature>_p for each feature; an event for each that drifted. All ranks together."""
        with evaluating(evaluator.model):
            sides = [self._collect(evaluator, batches) for batches in (train, validation)]
        out: dict[str, float] = {}
        for number, name in enumerate(FEATURES):
            before, now = (side.get(name, np.empty(0)) for side in sides)
            if min(len(before), len(now)) < 2:
                continue
            found = self._judge(before, now, 3 * step + number)
            out.update({f"drift_{name}": found.score, f"drift_{name}_p": found.p_value})
            if found.drifted:
                self._alert("drift", step=step, feature=name, method=found.method, score=found.score, threshold=found.threshold,
                            p_value=found.p_value, n_train=found.n_reference, n_validation=found.n_current)
        return out

    def _judge(self, before: np.ndarray, now: np.ndarray, seed: int) -> DriftResult:
        alpha = self.config.drift_alpha / len(FEATURES)
        permutations = max(199, math.ceil(1 / alpha))
        return detect_drift(before, now, method=self.config.drift_method, alpha=alpha, permutations=permutations, seed=seed)

    def _collect(self, evaluator: Evaluator, batches: Iterable[Batch]) -> dict[str, np.ndarray]:
        mine: dict[str, list[float]] = {}
        for seen in evaluator.predictions(batches):
            for name, values in sample_values(seen).items():
                mine.setdefault(name, []).extend(value for value in values.tolist() if math.isfinite(value))
        sides = [json.loads(part) for part in self._peers.gather(json.dumps(mine).encode())]
        return {name: np.asarray([value for side in sides for value in side.get(name, [])]) for name in FEATURES}
