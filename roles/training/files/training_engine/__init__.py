# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A training engine whose resume is bit-identical, and which tells its supervisor the truth.

Nothing heavy is imported here: the public names are loaded at first use, because the signal handlers have to be in place before
`import torch` (which takes seconds) begins.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the import of `typing` takes longer than all that is imported for a launcher

__version__ = "0.1.0"

_HOMES = {
    "checkpoint": ("Checkpoint", "CheckpointManager", "CheckpointMetadata"),
    "config": ("TrainingConfig", "TrainingConfigBuilder"),
    "data": ("DataSet", "MapDataModule", "StreamDataModule", "TensorSource"),
    "errors": ("EngineError", "ConfigError", "UsageError", "DataError", "CheckpointError", "NoRetryError"),
    "exitcodes": ("ExitCode",),
    "export": ("export_bundle", "verify_bundle"),
    "factory": ("make_trainer",),
    "health": ("GradientHealth", "GradientMonitor"),
    "hooks": ("Hook",),
    "launch": ("Launch",),
    "loop": ("EpochResult", "TrainingLoop"),
    "loss": ("LossResult", "LossStrategy", "losses"),
    "metrics": ("MetricsEngine",),
    "output": ("ModelOutput",),
    "registry": ("Registry",),
    "script": ("run_script",),
    "shims": ("test_benchmark_comparison", "test_fine_tuning", "test_hyperparameter_search"),
    "tasks": ("TaskSpec",),
    "trainer": ("Trainer", "TrainResult"),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointManager",
    "CheckpointMetadata",
    "ConfigError",
    "DataError",
    "DataSet",
    "EngineError",
    "EpochResult",
    "ExitCode",
    "GradientHealth",
    "GradientMonitor",
    "Hook",
    "Launch",
    "LossResult",
    "LossStrategy",
    "MapDataModule",
    "MetricsEngine",
    "ModelOutput",
    "NoRetryError",
    "Registry",
    "StreamDataModule",
    "TaskSpec",
    "TensorSource",
    "TrainResult",
    "Trainer",
    "TrainingConfig",
    "TrainingConfigBuilder",
    "TrainingLoop",
    "UsageError",
    "export_bundle",
    "losses",
    "make_trainer",
    "run_script",
    "test_benchmark_comparison",
    "test_fine_tuning",
    "test_hyperparameter_search",
    "verify_bundle",
]

if TYPE_CHECKING:
    from typing import Any

    from .checkpoint import Checkpoint, CheckpointManager, CheckpointMetadata
    from .config import TrainingConfig, TrainingConfigBuilder
    from .data import DataSet, MapDataModule, StreamDataModule, TensorSource
    from .errors import CheckpointError, ConfigError, DataError, EngineError, NoRetryError, UsageError
    from .exitcodes import ExitCode
    from .export import export_bundle, verify_bundle
    from .factory import make_trainer
    from .health import GradientHealth, GradientMonitor
    from .hooks import Hook
    from .launch import Launch
    from .loop import EpochResult, TrainingLoop
    from .loss import LossResult, LossStrategy, losses
    from .metrics import MetricsEngine
    from .output import ModelOutput
    from .registry import Registry
    from .script import run_script
    from .shims import test_benchmark_comparison, test_fine_tuning, test_hyperparameter_search
    from .tasks import TaskSpec
    from .trainer import Trainer, TrainResult


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
