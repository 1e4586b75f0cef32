# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackers: TensorBoard, MLflow, Weights & Biases behind one protocol. They run in a thread of their own and never fail or delay training.

metrics.jsonl is the record of a run; a tracker gets a copy. When its queue is full, lines are dropped and counted.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from .checkpoint.manager import unwrap
from .errors import UsageError
from .hooks import Hook
from .registry import Registry
from .state import TrainState
from .step import UPDATED, Outcome
from .tree import is_sharded

if TYPE_CHECKING:
    from .trainer import Trainer

QUEUE = 1000  # lines that may wait
PATIENCE = 10.0  # seconds that the end of a run waits for a slow tracker


class Tracker(Protocol):
    """Where metrics are copied to. All calls come from one thread."""

    def start(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Begin, or go on with the run of this id."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take in numbers of one step."""

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        """Take in a distribution of one step."""

    def finish(self) -> None:
        """Write what is buffered."""


@dataclass(frozen=True)
class Histogram:
    """How many values lie between each two neighbouring edges (one edge more than counts)."""

    counts: tuple[float, ...]
    edges: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """The edge below which about this share of the values lies."""
        wanted, seen = share * sum(self.counts), 0.0
        for count, edge in zip(self.counts, self.edges[1:], strict=True):
            seen += count
            if seen >= wanted:
                return edge
        return self.edges[-1]


def histogram_of(values: torch.Tensor, bins: int = 32) -> Histogram:
    """The histogram of a tensor between its smallest and largest value."""
    flat = values.detach().float().flatten()
    low, high = (float(edge) for edge in flat.aminmax()) if flat.numel() else (0.0, 0.0)
    high = high if high > low else low + 1e-12 + abs(low) * 1e-6
    counts = torch.histc(flat, bins, low, high) if math.isfinite(high - low) else torch.zeros(bins)
    return Histogram(tuple(counts.tolist()), tuple(low + (high - low) * edge / bins for edge in range(bins + 1)))


trackers: Registry[Callable[[], Tracker]] = Registry("tracker")


@trackers.register("tensorboard")
class TensorBoardTracker:
    """Event files in RUN/tensorboard."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        self._make: Callable[[str], Any] = SummaryWriter
        self._writer: Any = None

    def start(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See Tracker."""
        self._writer = self._make(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        """See Tracker."""
        middles = [(low + high) / 2 for low, high in itertools.pairwise(histogram.edges)]
        sums = [sum(count * middle**power for count, middle in zip(histogram.counts, middles, strict=True)) for power in (1, 2)]
        self._writer.add_histogram_raw(name, histogram.edges[0], histogram.edges[-1], int(sum(histogram.counts)), sums[0], sums[1],
                                       list(histogram.edges[1:]), list(histogram.counts), step)

    def finish(self) -> None:
        """See Tracker."""
        self._writer.close()


@trackers.register("mlflow")
class MLflowTracker:
    """An MLflow run: at MLFLOW_TRACKING_URI, or in RUN/mlflow.db where that is not set."""

    def __init__(self) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise _missing("mlflow-skinny", error) from error
        self._make: Callable[..., Any] = MlflowClient
        self._client: Any = None
        self._run = ""

    def start(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See Tracker. A resumed run is found by its tag."""
        import os

        self._client = self._make(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve()}/mlflow.db")
        known = self._client.search_runs(["0"], f"tags.run_id = '{run_id}'")
        if known:
            self._run = known[0].info.run_id
            return
        self._run = self._client.create_run("0", tags={"run_id": run_id}, run_name=run_id).info.run_id
        for name, value in config.items():
            self._client.log_param(self._run, name, value)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        self._client.log_batch(self._run, metrics=[Metric(name, value, step, step) for name, value in values.items()])

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        """See Tracker. MLflow knows no histograms: three quantiles stand for one."""
        self.log(step, {f"{name}.p{round(100 * share):02d}": histogram.quantile(share) for share in (0.05, 0.5, 0.95)})

    def finish(self) -> None:
        """See Tracker."""
        self._client.set_terminated(self._run)


@trackers.register("wandb")
class WandbTracker:
    """A Weights & Biases run in RUN; offline unless WANDB_MODE says otherwise."""

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", error) from error
        self._wandb: Any = wandb
        self._run: Any = None

    def start(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See Tracker."""
        import os

        self._run = self._wandb.init(id=run_id, dir=str(folder), config=dict(config), resume="allow", project="training-engine",
                                     mode=os.environ.get("WANDB_MODE", "offline"), settings=self._wandb.Settings(silent=True))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.log(dict(values), step=step)

    def histogram(self, step: int, name: str, histogram: Histogram) -> None:
        """See Tracker."""
        self._run.log({name: self._wandb.Histogram(np_histogram=(list(histogram.counts), list(histogram.edges)))}, step=step)

    def finish(self) -> None:
        """See Tracker."""
        self._run.finish()


def _missing(package: str, error: ImportError) -> UsageError:
    return UsageError(f"the tracker needs {package}: pip install 'training-engine[track]' ({error})")


class Tracking(Hook):
    """Copies what is logged to trackers, in a thread. What goes wrong there is told once as an event, and training goes on."""

    def __init__(self, names: Sequence[str], *, capacity: int = QUEUE) -> None:
        self._trackers = {name: trackers.get(name)() for name in names}
        self._lines: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._event: Callable[..., None] = _silent
        self.dropped = 0

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """See Hook: the first call starts the thread (rank 0 only)."""
        if self._thread is None and trainer.peers.first:
            self._event = trainer.folder.event
            facts = (trainer.folder.run_id, trainer.folder.path, trainer.config.trajectory())
            self._thread = threading.Thread(target=self._work, args=facts, name="trackers", daemon=True)
            self._thread.start()

    def on_batch_end(self, trainer: Trainer, state: TrainState, outcome: Outcome) -> None:
        """See Hook."""
        if outcome.kind == UPDATED and state.step % trainer.config.run.log_every == 0:
            self._put(state.step, {"loss": outcome.loss, "lr": outcome.learning_rate, "grad_norm": outcome.grad_norm})
        every = trainer.config.health.histogram_every
        if every and outcome.kind == UPDATED and state.step % every == 0 and self._thread is not None:
            self._put_gradients(trainer, state.step)

    def _put_gradients(self, trainer: Trainer, step: int) -> None:
        """The gradients of the update just made, as it used them (after clipping); of a sharded model this rank's part."""
        for name, parameter in unwrap(trainer.model).named_parameters():
            if parameter.grad is not None:
                grad = parameter.grad
                self._put_histogram(step, f"gradients/{name}", histogram_of(grad.to_local() if is_sharded(grad) else grad))

    def _put_histogram(self, step: int, name: str, found: Histogram) -> None:
        def tell(tracker: Tracker) -> None:
            if hasattr(tracker, "histogram"):  # a tracker of one's own may do without
                tracker.histogram(step, name, found)

        self._queue(tell)

    def on_validation_end(self, trainer: Trainer, state: TrainState, metrics: Mapping[str, float]) -> None:
        """See Hook."""
        self._put(state.step, dict(metrics))
        counts = trainer.evaluator.confidence
        if sum(counts):
            self._put_histogram(state.step, "val_confidence_histogram",
                                Histogram(tuple(counts), tuple(edge / len(counts) for edge in range(len(counts) + 1))))

    def on_drift(self, trainer: Trainer, state: TrainState, found: Mapping[str, float]) -> None:
        """See Hook."""
        self._put(state.step, dict(found))

    def on_train_end(self, trainer: Trainer) -> None:
        """See Hook: wait for what is queued, but not for long."""
        if self._thread is None:
            return
        if self.dropped:
            self._event("tracker_dropped", lines=self.dropped)
        try:
            self._lines.put(None, timeout=PATIENCE)
            self._thread.join(PATIENCE)
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._event("tracker_failed", reason=f"not finished {PATIENCE:g} s after the end of the run; given up")

    def _put(self, step: int, values: dict[str, float]) -> None:
        self._queue(lambda tracker: tracker.log(step, values))

    def _queue(self, line: Callable[[Tracker], None]) -> None:
        if self._thread is None:
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _work(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.start(run_id, folder, config))
        while (line := self._lines.get()) is not None:
            self._each(line)
        self._each(lambda tracker: tracker.finish())

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # a tracker's library may raise anything; none of it is a reason to stop training
                del self._trackers[name]
                self._event("tracker_failed", tracker=name, reason=f"{type(error).__name__}: {error}"[:500])


def _silent(event: str, **fields: Any) -> None:
    """The event sink before the run has begun."""
