# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands do once torch is needed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from .checkpoint.manager import CheckpointManager, load_model
from .checkpoint.store import Checkpoint
from .config import TrainingConfig
from .data.loader import MapDataModule
from .errors import CheckpointError, UsageError
from .evaluation import evaluate
from .exitcodes import ExitCode
from .export import export_bundle
from .export.docker import Needs
from .factory import make_data, make_model, make_trainer
from .hooks import Hook
from .loss import losses
from .peers import place_from
from .run_folder import try_lock
from .setup import pick_device
from .state import TrainState
from .status import StatusFile
from .step import Outcome, code_of, input_names
from .stopping import StopFlag
from .tasks import tasks
from .torchmetrics_bridge import make_extra
from .trainer import Trainer, TrainResult


class Progress(Hook):
    """One line that is written over, on a terminal only."""

    def __init__(self) -> None:
        self._next = 0.0

    def on_batch_end(self, trainer: Trainer, state: TrainState, outcome: Outcome) -> None:
        """See Hook."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.2
            target = trainer.config.run.max_steps
            print(f"\rstep {state.step}{f'/{target}' if target else ''}  loss {outcome.loss:.4f}  norm {outcome.grad_norm:.3g} ",
                  end="", file=sys.stderr, flush=True)


def train(config: TrainingConfig, flag: StopFlag, deadline: float | None) -> int:
    """Train, and write the verdict to status.json whatever happens."""
    place = place_from(os.environ)
    shown = [Progress()] if sys.stderr.isatty() and place.rank == 0 else []
    try:
        result = make_trainer(config, hooks=shown, stop=flag, deadline=deadline, place=place).train()
    except BaseException as error:
        _record_failure(config, error, first=place.rank == 0)
        raise
    if place.rank == 0:
        report(result)
    return int(result.exit_code)


def report(result: TrainResult) -> None:
    """The last lines of a run, for people."""
    values = "  ".join(f"{name} {value:.6g}" for name, value in result.metrics.items())
    print(f"{result.exit_code.name.lower()}: {result.reason} at step {result.step}  {values}".rstrip())
    if result.checkpoint:
        print(f"checkpoint: {result.checkpoint}")


def _record_failure(config: TrainingConfig, error: BaseException, *, first: bool) -> None:
    folder = Path(config.run.run_dir)
    if not first or isinstance(error, UsageError) or not folder.is_dir():
        return
    try:
        # While another process trains there, the status tells of its run and not of this start.
        lock = try_lock(folder)
        if lock is not None:
            with lock:
                status = StatusFile(folder)
                status.end(code_of(error), f"{type(error).__name__}: {error}"[:2000], status.value.step)
    except OSError as problem:
        print(f"status.json could not be written: {problem}", file=sys.stderr)


def open_checkpoint(config: TrainingConfig, *, best: bool) -> Checkpoint:
    """The newest or the best whole checkpoint of a run, without changing anything in its folder."""
    manager = CheckpointManager(Path(config.run.run_dir) / "ckpt", monitor=config.checkpoint.monitor, mode=config.checkpoint.mode)
    path = manager.get_best() if best else None
    if path is None:
        entries = [entry for entry in manager.list_checkpoints() if not manager.verify(entry.path)]
        if not entries:
            raise CheckpointError(f"there is no whole checkpoint in {manager.checkpoint_dir}")
        path = entries[-1].path
    return manager.load(path)


def export_run(config: TrainingConfig, target: Path, formats: list[str], *, best: bool, device: str) -> int:
    """Export a checkpoint as a bundle; its first validation samples become the golden prediction."""
    checkpoint = open_checkpoint(config, best=best)
    data = make_data(config)
    model = make_model(config, data)
    load_model(model, checkpoint)
    batch = next(iter(MapDataModule(data, config.data).val_dataloader()), None)
    if batch is None:
        raise UsageError("the export needs validation samples for its golden prediction; set val_fraction above 0")
    info = {"step": checkpoint.metadata.step, "metrics": dict(checkpoint.metadata.metrics), "run_id": checkpoint.manifest.get("run_id"),
            "task": config.run.task, "model": config.run.model, "meta": data.meta}
    path = export_bundle(model, input_names(model)(batch), target, name=config.run.model, formats=formats, info=info,
                         needs=Needs(device=device))
    print(f"bundle: {path}")
    for name in sorted(item.name for item in path.iterdir()):
        print(f"  {name}")
    return int(ExitCode.DONE)


def evaluate_run(config: TrainingConfig, *, best: bool) -> int:
    """Evaluate a checkpoint and print its metrics."""
    checkpoint = open_checkpoint(config, best=best)
    data, device, spec = make_data(config), pick_device(config.optim.device, place_from(os.environ)), tasks.get(config.run.task)
    model = make_model(config, data).to(device)
    load_model(model, checkpoint)
    values = evaluate(model, MapDataModule(data, config.data).val_dataloader(), losses.get(spec.task_type)(), device=device,
                      precision=config.optim.precision, names=spec.metrics, extra=make_extra(config.evaluation.extra_metrics))
    print(f"checkpoint: {checkpoint.path}")
    for name, value in values.items():
        print(f"{name}: {value:.6g}")
    return int(ExitCode.DONE)
