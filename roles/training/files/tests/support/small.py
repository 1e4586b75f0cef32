# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small configuration of most tests. Without torch, which the controller of pytest-xdist would import for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_engine.config import TrainingConfig, TrainingConfigBuilder

VALUES = {"dataset": "synthetic_text", "data_size": 40, "sequence_length": 8, "batch_size": 3, "gradient_accumulation_steps": 2,
          "max_steps": 12, "checkpoint_every": 4, "eval_every": 3, "threads": 1, "schedule": "cosine", "warmup_steps": 2,
          "no_progress_limit": 1000, "keep_last_n": 2, "keep_best_k": 1}


def build(run_dir: str | Path, **values: Any) -> TrainingConfig:
    """A configuration that trains in tenths of a second: text with ragged rows, dropout, accumulation, evaluation."""
    builder = TrainingConfigBuilder()
    for name, value in {"run_dir": str(run_dir), **VALUES, **values}.items():
        getattr(builder, f"with_{name}")(value)
    return builder.build()
