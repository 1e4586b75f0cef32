# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's loops on the bench's model, for comparison: Lightning's trainer and Accelerate, where they are installed."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

WINDOW = 50  # steps of a stretch that is timed; the cheapest one counts
PACKAGES = {"Lightning, everything off": "lightning", "Lightning, clipping and a log line": "lightning",
            "Accelerate, clipping": "accelerate"}


def cheapest(marks: list[float]) -> float:
    """CPU microseconds of a step out of the times at the edges of stretches."""
    return min(later - earlier for earlier, later in itertools.pairwise(marks)) / WINDOW * 1e6


def lightning(model: nn.Module, rows: Dataset[Any], steps: int, *, features: bool) -> float:
    """CPU microseconds of a step of Lightning's Trainer: with everything off, or with clipping and one `self.log`."""
    import lightning.pytorch as pl

    marks: list[float] = []

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            if features:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step % WINDOW == 0:
                marks.append(time.process_time())

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(max_steps=WINDOW + steps, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                             enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0 if features else None)
        trainer.fit(Module(), DataLoader(rows, batch_size=16, shuffle=True))
    return cheapest(marks)


def accelerate(model: nn.Module, rows: Dataset[Any], steps: int) -> float:
    """CPU microseconds of a step by hand with Accelerate: prepare, accumulate, backward, clipping."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True),
                                                      DataLoader(rows, batch_size=16, shuffle=True))
    marks = []
    for number, (x, labels) in enumerate(loader):
        if number % WINDOW == 0:
            marks.append(time.process_time())
        if number == WINDOW + steps:
            break
        with accelerator.accumulate(prepared):
            accelerator.backward(F.cross_entropy(prepared(x), labels))
            accelerator.clip_grad_norm_(prepared.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return cheapest(marks[1:])


def variants(make: Callable[[], nn.Module], rows: Dataset[Any], steps: int) -> dict[str, Callable[[], float]]:
    """What can be measured here; says so aloud where a package is missing."""
    loops = (lambda: lightning(make(), rows, steps, features=False), lambda: lightning(make(), rows, steps, features=True),
             lambda: accelerate(make(), rows, steps))
    out = {}
    for (name, package), loop in zip(PACKAGES.items(), loops, strict=True):
        if importlib.util.find_spec(package):
            out[name] = loop
        else:
            print(f"NOT MEASURED: {name}: {package} is not installed; dev/demo-training --bench --peers has it", flush=True)
    return out
