# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackers: TensorBoard, MLflow, Weights & Biases behind one protocol. They run in a thread of their own and never fail or delay training.

metrics.jsonl is the record of a run; a tracker gets a copy. When its queue is full, lines are dropped and counted.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import UsageError
from .hooks import Hook
from .registry import Registry
from .state import TrainState
from .step import UPDATED, Outcome

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

    def finish(self) -> None:
        """Write what is buffered."""


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

    def finish(self) -> None:
        """See Tracker."""
        self._run.finish()


def _missing(package: str, error: ImportError) -> UsageError:
    return UsageError(f"the tracker needs {package}: pip install 'training-engine[track]' ({error})")


class Tracking(Hook):
    """Copies what is logged to trackers, in a thread. What goes wrong there is told once as an event, and training goes on."""

    def __init__(self, names: Sequence[str], *, capacity: int = QUEUE) -> None:
        self._trackers = {name: trackers.get(name)() for name in names}
        self._lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(capacity)
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

    def on_validation_end(self, trainer: Trainer, state: TrainState, metrics: Mapping[str, float]) -> None:
        """See Hook."""
        self._put(state.step, dict(metrics))

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
        if self._thread is None:
            return
        try:
            self._lines.put_nowait((step, values))
        except queue.Full:
            self.dropped += 1

    def _work(self, run_id: str, folder: Path, config: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.start(run_id, folder, config))
        while (line := self._lines.get()) is not None:
            step, values = line
            self._each(lambda tracker, step=step, values=values: tracker.log(step, values))  # type: ignore[misc]  # bound now
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
