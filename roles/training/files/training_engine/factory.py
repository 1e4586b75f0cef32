# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a configuration to a trainer: data set, model, loss and metrics by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from . import hub, rng
from .config import TrainingConfig
from .data.loader import MapDataModule
from .data.sources import DataSet, datasets
from .errors import UsageError
from .hooks import Hook
from .loss import losses
from .models import models
from .peers import Peers, Place
from .stopping import StopFlag
from .tasks import TaskSpec, tasks
from .trackers import Tracking
from .trainer import Trainer


def make_data(config: TrainingConfig) -> DataSet:
    """The configured data set."""
    if hub.is_named(config.data.dataset):
        return hub.load_data(config)
    return datasets.get(config.data.dataset)(config.data, config.run.seed)


def make_model(config: TrainingConfig, data: DataSet) -> nn.Module:
    """The configured model with its first weights: the same ones on every rank and at every start."""
    rng.seed_all(config.run.seed)
    if hub.is_named(config.run.model):
        return hub.load_model(config, data.sizes)
    if config.run.lora_rank:
        raise UsageError("lora_rank is for models by name (hf:...); add adapters to a model of your own before you give it to Trainer")
    make = models.get(config.run.model)
    try:
        return make(data.sizes)
    except KeyError as error:
        if error.args[0] in data.sizes:
            raise
        raise UsageError(f"model {config.run.model!r} needs {error.args[0]!r}, and the data set {config.data.dataset!r} "
                         f"({data.modality}) tells only {sorted(data.sizes)}; choose two that belong together") from error


def make_trainer(config: TrainingConfig, *, hooks: Sequence[Hook] = (), stop: StopFlag | None = None, deadline: float | None = None,
                 place: Place | None = None, peers: Peers | None = None, data: DataSet | None = None, model: nn.Module | None = None,
                 **loss_options: Any) -> Trainer:
    """A trainer with everything that `config` names. `data` and `model` of one's own take the place of the configured ones."""
    spec: TaskSpec = tasks.get(config.run.task)
    found = data or make_data(config)
    if config.run.trackers:
        hooks = [*hooks, Tracking([name.strip() for name in config.run.trackers.split(",")])]
    return Trainer(model or make_model(config, found), config, data=MapDataModule(found, config.data),
                   loss=losses.get(spec.task_type)(**loss_options), hooks=hooks, stop=stop, deadline=deadline, place=place, peers=peers,
                   metric_names=spec.metrics)
