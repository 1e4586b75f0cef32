# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: one thread for exactness, and small configurations."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch

from training_engine.config import TrainingConfig, TrainingConfigBuilder

torch.set_num_threads(1)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., TrainingConfig]:
    """A builder of configurations that train in tenths of a second: text with ragged rows, dropout, accumulation, evaluation."""

    def build(**values: Any) -> TrainingConfig:
        chosen = {"run_dir": str(tmp_path / "run"), "dataset": "synthetic_text", "data_size": 40, "sequence_length": 8, "batch_size": 3,
                  "gradient_accumulation_steps": 2, "max_steps": 12, "checkpoint_every": 4, "eval_every": 3, "threads": 1,
                  "schedule": "cosine", "warmup_steps": 2, "no_progress_limit": 1000, "keep_last_n": 2, "keep_best_k": 1, **values}
        builder = TrainingConfigBuilder()
        for name, value in chosen.items():
            getattr(builder, f"with_{name}")(value)
        return builder.build()

    return build
