# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trainer: wires the parts, chooses where to resume, decides when to log, evaluate, save and stop. The work is done elsewhere."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from . import rng
from .checkpoint import layout
from .checkpoint.manager import load_model, materialise, unwrap
from .checkpoint.store import Checkpoint
from .config import LEAVES, TrainingConfig, portable
from .data.loader import DataModule, Window, worker_died
from .data.plan import WindowPlan
from .drift_watch import DriftWatch
from .errors import DataError, NoRetryError, UsageError
from .evaluation import Evaluator
from .exitcodes import ExitCode
from .health import GradientMonitor
from .hooks import Hook
from .loop import EpochResult, TrainingLoop, Wish
from .loss import LossStrategy, check_trainable
from .metrics import MetricsEngine
from .peers import Peers, Place, place_from
from .run_folder import RunFolder
from .schedule import schedule
from .setup import check_optimizer, load_optimizer, make_optimizer, pick_device, shard_model, wrap_model
from .state import Stateful, TrainState
from .step import UPDATED, Outcome, TrainStep
from .stopping import Deadline, StopFlag
from .torchmetrics_bridge import make_extra
from .tree import flatten, serialize

GC_EVERY = 100  # steps between collections; automatic ones would hit the ranks at different times


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. checkpoint: the folder of the newest checkpoint, verified after it was written."""

    exit_code: ExitCode
    reason: str
    step: int
    epoch: int
    checkpoint: Path | None
    metrics: dict[str, float] = field(default_factory=dict)
    epochs: tuple[EpochResult, ...] = ()


class Trainer:
    """Trains `model` on `data` as `config` says, resuming from the run folder's newest whole checkpoint.

    optimizer: one of your own keeps the rates of its groups; the configured schedule scales them. scheduler: one of torch's for it, which
    then sets the rates alone (after each update; ReduceLROnPlateau at each evaluation of eval_every, by `monitor`).
    place: which rank this is; without it as torchrun, srun or our launcher say (RANK and WORLD_SIZE), else the only one.
    stateful: further objects whose state belongs to the run, by name. hooks: see hooks.Hook. stop: the flag that signals set.
    train() returns how it ended; errors with a verdict are raised as EngineError, with the exit code in them.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, *, data: DataModule, loss: LossStrategy,
                 optimizer: torch.optim.Optimizer | None = None, scheduler: LRScheduler | ReduceLROnPlateau | None = None,
                 hooks: Sequence[Hook] = (), stateful: Mapping[str, Stateful] | None = None,
                 peers: Peers | None = None, stop: StopFlag | None = None, deadline: float | None = None,
                 metric_names: tuple[str, ...] | None = None, place: Place | None = None) -> None:
        if not isinstance(data, DataModule):
            raise UsageError(f"data is a {type(data).__name__}, which cannot say which samples the k-th update sees; give "
                             "MapDataModule(DataSet(...), config.data), or StreamDataModule for a loader with state_dict")
        self.config, self.data, self.loss, self.hooks = config, data, loss, list(hooks)
        place = place or (Place() if peers else place_from(os.environ))
        self.device = pick_device(config.optim.device, place)
        self.peers = peers or Peers(place, self.device)
        self.folder = RunFolder(config, self.peers)
        self.stop = stop or StopFlag()
        self.deadline = Deadline(deadline, config.checkpoint.deadline_margin)
        self.state = TrainState(horizon=config.optim.schedule_steps or config.run.max_steps)
        self.metrics = MetricsEngine(self.folder.event)
        self._names = metric_names
        self._extra = make_extra(config.evaluation.extra_metrics)
        self._stateful = _with_data(dict(stateful or {}), data)
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        self._last_eval: dict[str, float] = {}
        self._saved_at = time.monotonic()
        self._save_due = self._monitor_missed = False

    # -- the run

    def train(self) -> TrainResult:
        """Start or go on, until the goal, a stop or an error."""
        try:
            return self._train_in_folder()
        except RuntimeError as error:
            if "DataLoader worker" in str(error):  # raised by torch's handler of SIGCHLD, wherever the main thread happens to be
                raise worker_died(error) from error
            raise

    def _train_in_folder(self) -> TrainResult:
        try:
            checkpoint = self.folder.open()
            if checkpoint is not None:
                self._check_resumable(checkpoint)
            self._build(checkpoint)
            return self._finished_before(checkpoint) or self._train()
        except BaseException as error:
            self.folder.give_up(error)
            raise
        finally:
            self._call("on_train_end")
            self.folder.close()

    def _build(self, checkpoint: Checkpoint | None) -> None:
        config, threads = self.config, self.config.optim.threads
        recorded = checkpoint.manifest["num_threads"] if checkpoint else 0
        torch.set_num_threads(threads or recorded or torch.get_num_threads())
        check_trainable(self._model)
        check_optimizer(self._model, self._optimizer, self._scheduler, config.optim)
        if isinstance(self._scheduler, ReduceLROnPlateau) and not config.evaluation.eval_every:
            raise UsageError("ReduceLROnPlateau waits for evaluations, and there are none on the way: set eval_every")
        shard_model(self._model.to(self.device), config.optim, self.peers, self.device)
        if checkpoint is not None:
            load_model(self._model, checkpoint)
            self.state = TrainState.from_dict(checkpoint.state()["train"])
        self.optimizer = self._optimizer or make_optimizer(self._model, config.optim)
        self.monitor = GradientMonitor(config.health.vanishing_threshold, config.health.explosion_threshold,
                                       config.health.max_consecutive_failures, check_interval=config.health.health_every,
                                       relative_limit=config.health.relative_limit,
                                       on_issue=lambda **what: self.folder.event("gradient_issue", step=self.state.step, **what))
        self.model = wrap_model(self._model, config.optim, self.peers, self.device)
        bases = [float(group["lr"]) for group in self._optimizer.param_groups] if self._optimizer else None
        self.step = TrainStep(self.model, self.optimizer, self.loss, config, bases=bases, monitor=self.monitor, peers=self.peers,
                              rate=None if self._scheduler else schedule(config.optim, self.state.horizon),
                              device=self.device, on_event=self.folder.event)
        self.evaluator = Evaluator(self.model, self.loss, self.device, self.peers, config.optim.precision,
                                   self.data.val_dataloader(limit=1))
        self.plan = WindowPlan(self.data.train_size, batch_size=config.data.batch_size,
                               accumulation=config.optim.gradient_accumulation_steps, world=self.peers.world, rank=self.peers.rank,
                               seed=config.run.seed, shuffle=config.data.shuffle, drop_last=config.data.drop_last)
        if checkpoint is not None:
            self._restore(checkpoint)
        else:
            rng.seed_all(config.run.seed, self.peers.rank)
            for value in (unwrap(self.model).state_dict(), self._optim_state()):
                flatten(value)  # what a checkpoint cannot hold is said now, and not after the first hours

    def _train(self) -> TrainResult:
        loop = TrainingLoop(self.step, self.state, self.metrics, wishes=self._wishes, on_save=self._save_now,
                            on_batch_end=self._batch_end, reached=self._reached)
        windows = self.data.train_dataloader(self.plan, self.state.window)
        epochs: list[EpochResult] = []
        self.model.train()
        gc.freeze()  # what is there now stays: collections need not look at it again (a full one first would cost a quarter of a second)
        gc.disable()
        try:
            while not self._reached():
                self._call("on_epoch_start", self.state.window // self.plan.windows_per_epoch)
                epochs.append(loop.train_epoch(windows))
                if epochs[-1].ended == "stop":
                    return self._preempted(tuple(epochs))
                self._epoch_end(epochs[-1])
        finally:
            gc.enable()
            gc.unfreeze()
        return self._done(tuple(epochs))

    def _reached(self) -> bool:
        run = self.config.run
        return (0 < run.max_steps <= self.state.step or 0 < run.n_epochs * self.plan.windows_per_epoch <= self.state.window
                or 0 < self.config.evaluation.early_stopping_patience <= self.state.stale)

    def _wishes(self) -> Wish:
        minutes = self.config.checkpoint.checkpoint_minutes
        by_clock = self.peers.first and minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes
        if self.deadline.reached():
            self.stop.request("time limit")
        return Wish(self.stop.stop_requested, self.stop.take_save_request() or by_clock)

    # -- boundaries

    def _batch_end(self, window: Window, outcome: Outcome, seconds: float) -> None:
        state, config = self.state, self.config
        self.deadline.saw_step(seconds)
        self.folder.heartbeat(state.step)
        if outcome.kind == UPDATED and state.step % config.run.log_every == 0:
            self.folder.log({"step": state.step, "epoch": window.shape.epoch, "loss": outcome.loss, "weight": outcome.weight,
                             "lr": outcome.learning_rate, "grad_norm": outcome.grad_norm})
        if outcome.kind == UPDATED and self._scheduler and not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()
        self._call("on_batch_end", state, outcome)
        if outcome.kind != UPDATED:
            return
        every = config.evaluation.eval_every
        if every and state.step % every == 0:
            self._evaluate()
        if config.evaluation.drift_every and state.step % config.evaluation.drift_every == 0:
            self._compare()
        if config.checkpoint.checkpoint_every and state.step % config.checkpoint.checkpoint_every == 0:
            # The last window of an epoch is not over before the epoch's sums are closed; _epoch_end saves for it.
            self._save_due = window.shape.last_of_epoch
            if not self._save_due:
                self._save(blocking=not config.checkpoint.async_save)
        if state.step % GC_EVERY == 0:
            gc.collect()

    def _epoch_end(self, result: EpochResult) -> None:
        if result.ended != "epoch":
            return
        mean = self.metrics.end_epoch()
        self.folder.log({"epoch_end": result.epoch, "step": self.state.step, "mean_loss": mean})
        every = self.config.checkpoint.checkpoint_epochs
        if self._save_due or (every and (result.epoch + 1) % every == 0):
            self._save_due = False
            self._save(blocking=not self.config.checkpoint.async_save)

    def _evaluate(self) -> dict[str, float]:
        evaluation, state = self.config.evaluation, self.state
        batches = self.data.val_dataloader(limit=evaluation.eval_batches, rank=self.peers.rank, world=self.peers.world)
        with self.step.attention.context():
            values = self.evaluator.evaluate(batches, self._names, self._extra)
        usable = self.evaluator.weight > 0.0 and not math.isnan(values.get("val_loss", 0.0))
        self._last_eval = values if usable else {}
        state.eval_step = state.step
        if self._last_eval:
            self.folder.log({"step": state.step, **values})
            self.metrics.evaluated(values, state.step)
            self._judge(values)
            self._call("on_validation_end", state, values)
        elif self.evaluator.weight > 0.0:
            self.folder.event("evaluation_not_finite", step=state.step, reason="the validation loss is NaN: look for NaN in the samples")
        return self._last_eval

    def _compare(self) -> None:
        """Training against validation samples; what is found goes into the log, what drifted becomes an event."""
        section, place = self.config.evaluation, {"rank": self.peers.rank, "world": self.peers.world}
        sides = (self.data.sample_dataloader(limit=section.drift_batches, seed=rng.mix(self.config.run.seed, self.state.step), **place),
                 self.data.val_dataloader(limit=section.drift_batches, **place))
        with self.step.attention.context():
            found = DriftWatch(section, self.folder.event, self.peers).compare(self.evaluator, *sides, self.state.step)
        self.folder.log({"step": self.state.step, **found})
        self._call("on_drift", self.state, found)

    def _judge(self, values: Mapping[str, float]) -> None:
        """Keep the best monitored value, and count the evaluations since."""
        monitor = self.config.checkpoint.monitor
        value = values.get(monitor)
        if value is None and not self._monitor_missed:
            self._monitor_missed = True
            self.folder.event("monitor_unknown", monitor=monitor, known=sorted(values), reason="no checkpoint is best, nothing stops early")
        if value is None or not math.isfinite(value):
            return
        every = self.config.evaluation.eval_every
        if isinstance(self._scheduler, ReduceLROnPlateau) and every and self.state.step % every == 0:
            self._scheduler.step(value)  # not for the extra evaluation at the end, which a run with a higher goal has not
        sign = 1.0 if self.config.checkpoint.mode == "min" else -1.0
        if self.state.best is None or sign * value < sign * self.state.best - self.config.evaluation.early_stopping_min_delta:
            self.state.best, self.state.stale = value, 0
        else:
            self.state.stale += 1

    def _call(self, name: str, *values: Any) -> None:
        for hook in self.hooks:
            getattr(hook, name)(self, *values)

    # -- saving and resuming

    def _save_now(self) -> None:
        self._save(blocking=True)

    def _save(self, *, blocking: bool) -> None:
        """Save the state after the last finished update, unless it is saved already. All ranks call it together."""
        self._saved_at = time.monotonic()
        if self.monitor.consecutive:
            self.folder.event("save_skipped", step=self.state.step, reason="the last gradients were not finite")
            return
        if self.peers.first:
            self.state.log_bytes = self.folder.log_bytes()
        ranks = self.peers.gather(b"".join(bytes(part) for part in serialize(flatten({"rng": rng.capture()}))))
        if not self.peers.first and not self.step.sharded:
            return
        state = {"train": self.state.to_dict(), "plan": self.plan.state_dict(), "metrics": self.metrics.state_dict(),
                 "split": self.step.split, "data": self.data.fingerprint()}
        facts = {"epoch": self.state.window // self.plan.windows_per_epoch, "metrics": self._current_metrics(),
                 "world_size": self.peers.world, "run_id": self.folder.run_id, "config_sha256": self.config.fingerprint(),
                 "trajectory": self.config.trajectory()}
        parts = {layout.MODEL: unwrap(self.model).state_dict(), layout.OPTIM: self._optim_state()}
        stall = self.folder.save(self.state.step, parts, ranks, state, facts, blocking=blocking)
        if blocking and self.step.sharded:
            self.peers.barrier()
        self.deadline.saw_save(stall if blocking else 2 * stall)

    def _optim_state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.step.scaler.state_dict() if self.step.scaler else None,
                "scheduler": self._scheduler.state_dict() if self._scheduler else None,
                "monitor": self.monitor.state_dict(), "stateful": {name: item.state_dict() for name, item in self._stateful.items()}}

    def _current_metrics(self) -> dict[str, float]:
        """The evaluation of this very step: an older one must not rank a newer checkpoint."""
        return dict(self._last_eval) if self.state.eval_step == self.state.step else {}

    def _check_resumable(self, checkpoint: Checkpoint) -> None:
        """Raise NoRetryError or DataError where going on would not continue the run of the checkpoint."""
        then, now = checkpoint.manifest["trajectory"], self.config.trajectory()
        # What it did not know yet, it did as by default.
        before = {leaf: portable(then.get(leaf, LEAVES[leaf].default)) for leaf in now}
        changed = [f"{leaf}: {before[leaf]!r} then, {value!r} now" for leaf, value in now.items() if before[leaf] != value]
        if changed:
            raise NoRetryError(f"the configuration differs from that of {checkpoint.path}: {'; '.join(changed)}; go back to the old "
                               "values, or start a new run folder")
        if checkpoint.metadata.world_size != self.peers.world:
            raise NoRetryError(f"{checkpoint.path} was made by {checkpoint.metadata.world_size} ranks, now there are {self.peers.world}; "
                               "start as many, or start a new run folder")
        if checkpoint.state()["data"] != self.data.fingerprint():
            raise DataError(f"the data is not that of {checkpoint.path} (its hash differs); restore it, or start a new run folder")

    def _restore(self, checkpoint: Checkpoint) -> None:
        into = None
        if self.step.sharded:
            materialise(self.optimizer)
            into = flatten(self._optim_state()).tensors
        state, optim = checkpoint.state(), checkpoint.optim(into)
        self.plan.check(state["plan"])
        if odd := sorted(self._stateful.keys() ^ optim["stateful"].keys()):
            raise NoRetryError(f"{checkpoint.path} holds the state of {sorted(optim['stateful'])}, now stateful names "
                               f"{sorted(self._stateful)} ({', '.join(odd)} differs); give the same ones, or start a new run folder")
        load_optimizer(self.optimizer, optim["optimizer"], checkpoint.path)
        if self._scheduler:
            if optim.get("scheduler") is None:
                raise NoRetryError(f"{checkpoint.path} was saved without a scheduler; leave it away, or start a new run folder")
            self._scheduler.load_state_dict(optim["scheduler"])
        if self.step.scaler:
            self.step.scaler.load_state_dict(optim["scaler"])
        self.monitor.load_state_dict(optim["monitor"])
        self.metrics.load_state_dict(state["metrics"])
        self.step.split = state["split"]
        for name, item in self._stateful.items():
            item.load_state_dict(optim["stateful"][name])
        rng.restore(checkpoint.rank(self.peers.rank)["rng"])
        self._last_eval = dict(checkpoint.metadata.metrics)  # those of this very step, or none
        self.folder.resumed(self.state.log_bytes, checkpoint)

    # -- endings

    def _finished_before(self, checkpoint: Checkpoint | None) -> TrainResult | None:
        """The result of a run that had reached this goal before; starting it again changes nothing."""
        if checkpoint is None or not self.state.finished or not self._reached():
            self.state.finished = False
            return None
        return self._result(ExitCode.DONE, "finished before", ())

    def _done(self, epochs: tuple[EpochResult, ...]) -> TrainResult:
        if self.state.eval_step != self.state.step:
            self._evaluate()
        self.state.finished = True
        self._save(blocking=True)
        return self._result(ExitCode.DONE, "target reached", epochs)

    def _preempted(self, epochs: tuple[EpochResult, ...]) -> TrainResult:
        """Save what is not saved yet, and say so. All ranks stopped before the same window."""
        reason = self.stop.reason or "another rank was asked to stop"
        self.folder.event("stop", reason=reason, step=self.state.step)
        self.folder.wait()
        if not self.folder.is_saved(self.state.step):
            self._save(blocking=True)
        self.peers.barrier()
        return self._result(ExitCode.PREEMPTED, reason, epochs)

    def _result(self, code: ExitCode, reason: str, epochs: tuple[EpochResult, ...]) -> TrainResult:
        self.folder.wait()
        self.folder.end(code, reason, self.state.step)
        return TrainResult(code, reason, self.state.step, self.state.window // self.plan.windows_per_epoch, self.folder.newest(),
                           dict(self._last_eval), epochs)


def _with_data(stateful: dict[str, Stateful], data: DataModule) -> dict[str, Stateful]:
    """A data module that knows its position itself (a stream) is part of the state: without it no resume could find the position."""
    if not isinstance(data, Stateful) or any(item is data for item in stateful.values()):
        return stateful
    if "data" in stateful:
        raise UsageError("stateful has something else under the name 'data', which is that of the data module; give it another name")
    return {**stateful, "data": data}
