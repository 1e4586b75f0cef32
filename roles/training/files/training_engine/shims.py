# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The old functions, for notebooks that still call them. Each warns with the new name (docs/training/migration.md)."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import LEAVES, TrainingConfig, TrainingConfigBuilder
from .data.sources import DataSet, TensorSource, fingerprint
from .errors import UsageError
from .factory import make_trainer
from .trainer import Trainer, TrainResult

# Names of arguments that changed.
RENAMED = {"epochs": "n_epochs", "lr": "learning_rate", "accumulation_steps": "gradient_accumulation_steps", "checkpoint_dir": "run_dir",
           "output_dir": "run_dir", "random_seed": "seed"}


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, use {new} (docs/training/migration.md)", DeprecationWarning, stacklevel=3)


def _plain(config: Any) -> dict[str, Any]:
    """The values of a SimpleNamespace, a dataclass or a mapping."""
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else dict(vars(config))


def _configure(config: Any, options: Mapping[str, Any]) -> TrainingConfig:
    """A configuration out of the old arguments; what the engine does not know is refused with all faults, never dropped in silence."""
    values = {**{name: value for name, value in _plain(config).items() if RENAMED.get(name, name) in LEAVES}, **options}
    builder = TrainingConfigBuilder()
    for name, value in values.items():
        getattr(builder, f"with_{RENAMED.get(name, name)}")(value)
    if "run_dir" not in {RENAMED.get(name, name) for name in values}:
        builder.with_run_dir(tempfile.mkdtemp(prefix="fine-tuning-"))
    if "max_steps" not in values:
        builder.with_max_steps(0)
    if "n_epochs" not in values and "epochs" not in values:
        builder.with_n_epochs(5)
    return builder.build()


def _data(train_data: Any, val_data: Any, modality: str) -> DataSet | None:
    """A data set out of dicts of tensors."""
    if train_data is None:
        return None
    for what, given in (("train_data", train_data), ("val_data", val_data)):
        if given is not None and not (isinstance(given, Mapping) and all(isinstance(part, torch.Tensor) for part in given.values())):
            raise UsageError(f"{what} must be a dict of tensors with one row for each sample, not a {type(given).__name__}; for anything "
                             "else make a data module and use Trainer")
    val = TensorSource(**val_data) if val_data is not None else None
    return DataSet(TensorSource(**train_data), val, modality, fingerprint(*train_data.values()))


def _train(model: nn.Module, config: TrainingConfig, train_data: Any, val_data: Any) -> tuple[Trainer, TrainResult]:
    modality = "vision" if config.run.task == "vision_classification" else "text"
    trainer = make_trainer(config, data=_data(train_data, val_data, modality), model=model)
    return trainer, trainer.train()


def test_fine_tuning(model: nn.Module, config: Any = None, train_data: Any = None, val_data: Any = None, **options: Any) -> dict[str, Any]:
    """Fine-tune `model`. config: names of TrainingConfig as attributes; options: the same by keyword (they win).

    Returns {"model", "metrics", "final_loss", "history", "checkpoint", "exit_code"}.
    """
    _warn("test_fine_tuning", "Trainer")
    trainer, result = _train(model, _configure(config, options), train_data, val_data)
    history = [{"epoch": epoch.epoch, "loss": epoch.loss, "duration": epoch.duration} for epoch in result.epochs]
    return {"model": model, "metrics": dict(result.metrics), "history": history, "exit_code": int(result.exit_code),
            "final_loss": history[-1]["loss"] if history else trainer.metrics.mean_loss,
            "checkpoint": str(result.checkpoint) if result.checkpoint else None}


def test_hyperparameter_search(model_factory: Any, config: Any = None, train_data: Any = None, val_data: Any = None, *,
                               search_space: Mapping[str, Sequence[Any]], monitor: str = "val_loss", mode: str = "min",
                               **options: Any) -> dict[str, Any]:
    """Train a new model of `model_factory()` for every combination of `search_space`; {"best", "best_value", "trials"}."""
    _warn("test_hyperparameter_search", "Trainer in a loop over configurations")
    base = Path(tempfile.mkdtemp(prefix="search-"))
    trials: list[dict[str, Any]] = []
    for number, chosen in enumerate(itertools.product(*search_space.values())):
        values = dict(zip(search_space, chosen, strict=True))
        settings = _configure(config, {**options, **values, "run_dir": str(base / f"trial-{number}")})
        dummy, result = _train(model_factory(), settings, train_data, val_data)
        if monitor not in result.metrics:
            raise UsageError(f"the trial {values} has no metric {monitor!r}, only {sorted(result.metrics)}; give val_data, or another "
                             "monitor")
        trials.append({"values": values, "metrics": dict(result.metrics), "value": result.metrics[monitor]})
    best = (min if mode == "min" else max)(trials, key=lambda trial: float(trial["value"]))
    return {"best": best["values"], "best_value": best["value"], "trials": trials}


def test_benchmark_comparison(models: Mapping[str, nn.Module], config: Any = None, train_data: Any = None, val_data: Any = None,
                              **options: Any) -> dict[str, dict[str, float]]:
    """Train each of `models` alike; their metrics, seconds and parameters by name."""
    _warn("test_benchmark_comparison", "`python -m training_engine benchmark`")
    base = Path(tempfile.mkdtemp(prefix="comparison-"))
    out: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        settings = _configure(config, {**options, "run_dir": str(base / name)})
        dummy, result = _train(model, settings, train_data, val_data)
        out[name] = {**result.metrics, "seconds": sum(epoch.duration for epoch in result.epochs), "steps": float(result.step),
                     "parameters": float(sum(parameter.numel() for parameter in model.parameters()))}
    return out


for _function in (test_fine_tuning, test_hyperparameter_search, test_benchmark_comparison):
    setattr(_function, "__test__", False)  # noqa: B010  # pytest shall not take them for tests; mypy knows no such attribute
