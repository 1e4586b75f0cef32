# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurements behind the goals: ratios within one run, CPU time, one thread, the minimum over interleaved windows.

Run it as `python bench/bench_engine.py [--quick]`. Each line: what, the value, the goal, and whether it is met.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import bench_peers
import torch
import torch.nn.functional as F
from bench_contracts import PARTS
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from training_engine.checkpoint.manager import CheckpointManager
from training_engine.config import TrainingConfigBuilder
from training_engine.data import MapDataModule, WindowPlan
from training_engine.data.sources import DataSet, TensorSource
from training_engine.health import GradientMonitor, layer_norms, total_norm
from training_engine.hooks import Hook
from training_engine.loss import ClassificationLoss
from training_engine.models import CharLM
from training_engine.output import ModelOutput
from training_engine.trainer import Trainer

torch.set_num_threads(1)


def best_of(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The minimum of each variant over interleaved rounds."""
    out = dict.fromkeys(variants, float("inf"))
    for dummy in range(rounds):
        for name, run in variants.items():
            out[name] = min(out[name], run())
    return out


def cpu(work: Callable[[], object], count: int) -> float:
    """CPU microseconds of one call."""
    begin = time.process_time()
    for dummy in range(count):
        work()
    return (time.process_time() - begin) / count * 1e6


def report(number: int, name: str, value: float, goal: float, unit: str = "") -> bool:
    """One line; whether the goal is met."""
    met = value <= goal
    print(f"{number:>2}  {name:<60} {value:>10.4g} {unit:<6} goal <= {goal:<8g} {'met' if met else 'MISSED'}", flush=True)
    return met


# -- cost of a step, on a model that costs nothing


class NullModel(nn.Module):
    """Linear 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.layer(x)


WINDOW = bench_peers.WINDOW
ROWS = 16 * 4000
DATA = {"x": torch.randn(ROWS, 8), "labels": torch.randint(0, 8, (ROWS,))}


def bare(steps: int, *, features: bool) -> float:
    """A loop by hand over DataLoader; with the same features written the usual way: clipping, finite check, schedule, running loss."""
    model = NullModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    loader = iter(DataLoader(TensorDataset(*DATA.values()), batch_size=16, shuffle=True))
    running = 0.0

    def step() -> None:
        nonlocal running
        x, labels = next(loader)
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if features:
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if not torch.isfinite(norm):
                raise SystemExit("not finite")
            running += loss.item()
        optimizer.step()
        if features:
            plan.step()

    cpu(step, WINDOW)
    return min(cpu(step, WINDOW) for dummy in range(steps // WINDOW))


class Stopwatch(Hook):
    """CPU microseconds of a step in the cheapest stretch of WINDOW steps, the first stretch left out."""

    def __init__(self) -> None:
        self.begin, self.cost = 0.0, float("inf")

    def on_batch_end(self, trainer, state, outcome) -> None:
        if state.window % WINDOW == 0:
            now = time.process_time()
            if self.begin:
                self.cost = min(self.cost, (now - self.begin) / WINDOW * 1e6)
            self.begin = now


def engine(steps: int) -> float:
    """The engine with everything on: health, clipping, schedule, stop flag, hooks, JSON lines."""
    folder = tempfile.mkdtemp(prefix="bench-")
    config = (TrainingConfigBuilder().with_run_dir(folder).with_max_steps(steps + WINDOW).with_batch_size(16).with_checkpoint_every(0)
              .with_threads(1).with_val_fraction(0.0).build())
    watch = Stopwatch()
    data = DataSet(TensorSource(**DATA), None, "vision", "0")
    Trainer(NullModel(), config, data=MapDataModule(data, config.data, collator=dict), loss=ClassificationLoss(), hooks=[watch]).train()
    shutil.rmtree(folder)
    return watch.cost


def bench_step(quick: bool) -> list[bool]:
    """Goal 2."""
    steps, rounds = (400, 4) if quick else (800, 8)
    others = bench_peers.variants(NullModel, TensorDataset(*DATA.values()), steps)
    found = best_of({"bare": lambda: bare(steps, features=False), "features": lambda: bare(steps, features=True),
                     "engine": lambda: engine(steps), **others}, rounds)
    print(f"us/step: bare {found['bare']:.1f}, bare with the same features {found['features']:.1f}, engine {found['engine']:.1f}")
    for name in others:
        print(f"us/step beside it: {name} {found[name]:.1f}, {found[name] - found['bare']:+.1f} over bare, "
              f"{found[name] / found['engine']:.2f} x the engine")
    return [report(2, "engine over bare, us/step", found["engine"] - found["bare"], 40, "us"),
            report(2, "engine / bare loop with the same features", found["engine"] / found["features"], 1.0)]


# -- the gradient monitor


def plan_monitor(model: nn.Module) -> None:
    """What the plan's code does for each parameter: two tests, a norm, three waits."""
    for parameter in model.parameters():
        grad = parameter.grad
        torch.isnan(grad).any().item()
        torch.isinf(grad).any().item()
        grad.norm().item()


def bench_monitor(quick: bool) -> list[bool]:
    """Goal 3."""
    model = CharLM(96, 64, width=128, layers=2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    grads = [parameter.grad for parameter in model.parameters()]
    names = [name for name, dummy in model.named_parameters()]
    monitor = GradientMonitor(explosion_threshold=1e9)

    def ours() -> None:
        norms = layer_norms(grads)
        monitor.observe(norms, total_norm(norms), names)

    count, rounds = (30, 5) if quick else (100, 9)
    found = best_of({"plan": lambda: cpu(lambda: plan_monitor(model), count), "ours": lambda: cpu(ours, count)}, rounds)
    return [report(3, "gradient monitor / the plan's", found["ours"] / found["plan"], 0.1)]


# -- losses


def bench_loss(quick: bool) -> list[bool]:
    """Goal 4."""
    logits, labels = torch.randn(16, 8, requires_grad=True), torch.randint(0, 8, (16,))
    strategy, batch = ClassificationLoss(), {"labels": labels}
    # Short turns: next to other programs the minimum is that of a quiet moment, and those are short.
    count, rounds = (50, 50) if quick else (100, 180)
    found = best_of({"plain": lambda: cpu(lambda: F.cross_entropy(logits, labels), count),
                     "ours": lambda: cpu(lambda: strategy.compute_loss(batch, ModelOutput(logits)), count)}, rounds)
    return [report(4, "loss strategy over F.cross_entropy", found["ours"] - found["plain"], 15, "us")]


# -- data


def bench_data(quick: bool) -> list[bool]:
    """Goal 6."""
    rows = torch.randint(0, 96, (7266, 64))
    data = DataSet(TensorSource(input_ids=rows, labels=rows), None, "text", "0")
    module = MapDataModule(data, TrainingConfigBuilder().build().data)
    windows = module.train_dataloader(WindowPlan(7266, batch_size=16), 0)
    count, rounds = (150, 4) if quick else (400, 9)

    def theirs() -> float:
        loader = iter(DataLoader(TensorDataset(rows, rows), batch_size=16, shuffle=True))
        next(loader)
        return cpu(lambda: next(loader), count)

    found = best_of({"DataLoader": theirs, "ours": lambda: cpu(lambda: next(windows), count)}, rounds)
    print(f"us/batch: DataLoader {found['DataLoader']:.1f}, ours {found['ours']:.1f}")
    return [report(6, "data / DataLoader", found["ours"] / found["DataLoader"], 0.4)]


# -- checkpoints


def atomic_torch_save(state: dict, folder: Path) -> None:
    """torch.save with fsync and rename."""
    temporary = folder / "x.tmp"
    with open(temporary, "wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, folder / "x.pt")


def wall(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bench_checkpoint(quick: bool) -> list[bool]:
    """Goal 5: wall time that the call holds training up, and how much longer steps take in all while a checkpoint is written.

    The second can be seen only where a core is free for the writer; where none is, it is the stall and the writer's CPU time.
    """
    state = {f"t{number}": torch.randn(890_000) for number in range(30)}  # 107 MB
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    manager = CheckpointManager(folder / "ckpt", keep_last_n=1, keep_best_k=0)
    numbers = iter(range(1, 10_000))
    left = torch.randn(512, 512)
    stalls: list[float] = []

    def save() -> None:
        stalls.append(manager.save_parts(next(numbers), {"model.safetensors": state}, {}, {}, blocking=False))

    def train() -> None:
        for dummy in range(count):
            torch.mm(left, left)

    def saving() -> None:
        save()
        train()
        manager.wait()

    count = 100
    writing = float("inf")
    for dummy in range(4):  # all but the first have the buffers of the one before
        save()
        writing = min(writing, cpu(manager.wait, 1) / 1e3)
    count = int(max(100, 100 * 2 * wall(lambda: atomic_torch_save(state, folder)) / wall(train)))
    found = best_of({"torch": lambda: wall(lambda: atomic_torch_save(state, folder)), "train": lambda: wall(train),
                     "saving": lambda: wall(saving)}, 6 if quick else 20)
    shutil.rmtree(folder)
    lost = found["saving"] - found["train"]
    times = tuple(1e3 * value for value in (found["torch"], min(stalls[1:]), found["train"], lost))
    print("ms: atomic torch.save {:.1f}, stall {:.1f}; steps that take {:.1f} take {:.1f} more with a checkpoint; ".format(*times)
          + f"CPU of the writer {writing:.1f}")
    return [report(5, "checkpoint stall / atomic torch.save", min(stalls[1:]) / found["torch"], 0.15),
            report(5, "time a checkpoint costs in all / atomic torch.save", lost / found["torch"], 0.5)]


def main() -> int:
    """Run all; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", help="one part: step, monitor, loss, data, checkpoint, " + ", ".join(PARTS))
    arguments = parser.parse_args()
    parts = {"step": bench_step, "monitor": bench_monitor, "loss": bench_loss, "data": bench_data, "checkpoint": bench_checkpoint}
    if arguments.only not in (None, *parts, *PARTS):
        parser.error(f"there is no part {arguments.only!r}")
    met = [ok for name, part in parts.items() if arguments.only in (None, name) for ok in part(arguments.quick)]
    met += [report(*line) for name, part in PARTS.items() if arguments.only in (None, name) for line in part(arguments.quick)]
    print(f"{sum(met)} of {len(met)} goals met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
