# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beside Lightning: its accumulation is detected and never doubled, its step is the optimizer's, a callback watches gradients."""

from __future__ import annotations

from typing import Any

from .errors import UsageError
from .health import GradientMonitor

PACKAGES = ("pytorch_lightning", "lightning")  # the same trainer under its old and its new name


def is_lightning_trainer(value: object) -> bool:
    """Whether `value` is a Trainer of Lightning, under either of its names; nothing is imported to find out."""
    return any(kind.__name__ == "Trainer" and kind.__module__.split(".", maxsplit=1)[0] in PACKAGES
               for kind in type(value).__mro__)


class LightningAdapter:
    """What the engine knows of a Lightning trainer that does the training.

    Raises UsageError when both sides would accumulate, or when `trainer` is none of Lightning's.
    """

    def __init__(self, trainer: Any, accumulation_steps: int = 1) -> None:
        if not is_lightning_trainer(trainer):
            raise UsageError(f"a {type(trainer).__name__} is not a Lightning trainer; the engine's own loop needs no adapter")
        theirs = int(trainer.accumulate_grad_batches)
        if theirs > 1 and accumulation_steps > 1:
            raise UsageError(f"gradients would be accumulated twice: accumulate_grad_batches={theirs} in Lightning and "
                             f"gradient_accumulation_steps={accumulation_steps} here, {theirs * accumulation_steps} micro-batches for one "
                             "update. Set one of the two to 1")
        if accumulation_steps > 1:
            trainer.accumulate_grad_batches = accumulation_steps
        self.trainer = trainer

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches of one update, as Lightning has it."""
        return int(self.trainer.accumulate_grad_batches)

    @property
    def step(self) -> int:
        """Optimizer updates made: the engine's one counter."""
        return int(self.trainer.global_step)

    def watch(self, monitor: GradientMonitor) -> Any:
        """A callback for the trainer that looks at the gradients before each update (after unscaling, before clipping)."""
        try:
            from lightning.pytorch.callbacks import Callback
        except ImportError as error:
            raise UsageError("the callback needs lightning: pip install 'training-engine[interop]'") from error

        class Watch(Callback):  # type: ignore[misc]  # its types are not read
            """Calls the monitor."""

            def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
                """See Lightning."""
                monitor.check_gradients(pl_module)

        return Watch()
