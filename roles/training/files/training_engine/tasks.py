# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks: one name picks the loss, the collator and the metrics that belong together."""

from __future__ import annotations

from dataclasses import dataclass

from .registry import Registry


@dataclass(frozen=True)
class TaskSpec:
    """task_type: the loss's name; modality: the collator's name; unit: what throughput is counted in; metrics: of an evaluation."""

    task_type: str
    modality: str
    unit: str
    metrics: tuple[str, ...]


tasks: Registry[TaskSpec] = Registry("task")
_LM = ("loss", "perplexity", "accuracy")
_LABELS = ("loss", "accuracy", "top5", "confidence", "entropy", "calibration_error")
tasks.add("language_modeling", TaskSpec("language_modeling", "text", "tokens", _LM))
tasks.add("masked_lm", TaskSpec("masked_lm", "text", "tokens", _LM))
tasks.add("seq2seq", TaskSpec("seq2seq", "text", "tokens", _LM))
tasks.add("classification", TaskSpec("classification", "text", "samples", _LABELS))
tasks.add("vision_classification", TaskSpec("vision_classification", "vision", "samples", _LABELS))
