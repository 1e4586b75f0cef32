# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark command: train for real, and report the throughput in the form that performance tables are made from."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

from .config import TrainingConfig
from .durable import replace_text
from .errors import UsageError
from .exitcodes import ExitCode
from .factory import make_trainer
from .hooks import Hook
from .peers import place_from
from .state import TrainState
from .step import UPDATED, Outcome
from .stopping import StopFlag
from .tasks import tasks
from .trainer import Trainer

COLUMNS = ("model", "performance", "metric", "steps", "batch_size", "precision", "world_size", "seed")


class Meter(Hook):
    """Counts tokens or samples and seconds after the warm-up. Saves and evaluations are part of the time: they are part of training."""

    def __init__(self, warmup: int) -> None:
        self.warmup, self.begin, self.end = warmup, 0.0, 0.0
        self.weight = self.loss = 0.0
        self.samples = self.steps = self._seen = 0
        self._before = 0

    def on_batch_end(self, trainer: Trainer, state: TrainState, outcome: Outcome) -> None:
        """See Hook."""
        self._seen += 1
        if self._seen == self.warmup:
            self.begin, self._before = time.perf_counter(), state.samples
        if self._seen > self.warmup and outcome.kind == UPDATED:
            self.weight += outcome.weight
            self.steps += 1
            self.end, self.loss, self.samples = time.perf_counter(), outcome.loss, state.samples - self._before

    def rates(self, unit: str) -> dict[str, float]:
        """The throughput in the task's unit (tokens are what losses were counted over) and in samples, and seconds_per_step."""
        seconds = self.end - self.begin
        tokens = {"tokens_per_second": self.weight / seconds} if unit == "tokens" else {}
        return {**tokens, "samples_per_second": self.samples / seconds, "seconds_per_step": seconds / self.steps}


def benchmark(config: TrainingConfig, flag: StopFlag, *, csv_path: Path | None, warmup: int) -> int:
    """Train, then print `performance: <n> tokens_per_second` (or samples); with `csv_path` also write one row per metric.

    A run that had to stop reports nothing: half a measurement is none.
    """
    if warmup < 1:
        raise UsageError(f"--warmup must be at least 1 (the first step pays for what is set up once), not {warmup}")
    meter = Meter(warmup)
    place = place_from(os.environ)
    result = make_trainer(config, hooks=[meter], stop=flag, place=place).train()
    if result.exit_code != ExitCode.DONE or place.rank != 0:
        return int(result.exit_code)
    if meter.steps < 1:
        raise UsageError(f"no step came after the {warmup} of the warm-up; raise max_steps, and give a new run_dir "
                         f"(the run in {config.run.run_dir} is at step {result.step})")
    unit = tasks.get(config.run.task).unit
    rates = meter.rates(unit)
    print(f"steps: {meter.steps}  loss: {meter.loss:.4f}  seconds_per_step: {rates['seconds_per_step']:.6f}")
    print(f"performance: {rates[f'{unit}_per_second']:.2f} {unit}_per_second")
    if csv_path is not None:
        _write_csv(csv_path, config, meter, {**rates, "peak_memory_mb": _peak_memory(), **result.metrics}, place.world)
    return int(ExitCode.DONE)


def _peak_memory() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_csv(path: Path, config: TrainingConfig, meter: Meter, values: dict[str, float], world: int) -> None:
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, value in values.items():
        writer.writerow([config.run.model, f"{value:.6g}", name, meter.steps, config.data.batch_size,
                         config.optim.precision, world, config.run.seed])
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())
