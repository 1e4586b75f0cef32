# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The goals that are promises about behaviour: start and stop of processes, damage, exactness, false alarms, formats, goodput.

Each function returns lines (goal number, what, value, limit, unit); `bench_engine.py` prints and judges them.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training_engine.checkpoint.manager import CheckpointManager
from training_engine.drift import detect_drift
from training_engine.errors import UsageError
from training_engine.export import export_bundle
from training_engine.loss import LanguageModelingLoss
from training_engine.models import CharLM
from training_engine.output import ModelOutput
from training_engine.registry import Registry

ROOT = Path(__file__).parents[1]
Line = tuple[int, str, float, float, str]
TRAIN = ["train", "--dataset", "synthetic_text", "--data-size", "64", "--sequence-length", "16", "--batch-size", "4", "--threads", "1"]


def engine(*words: str, **options) -> subprocess.Popen:
    """Start the engine's command line."""
    return subprocess.Popen([sys.executable, "-m", "training_engine", *words], cwd=ROOT, stdout=subprocess.DEVNULL, **options)


def in_folder(work):
    """Run `work(folder)` in a new folder that is removed again."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digest(run: Path) -> str:
    """The engine's own hash over all that a run has computed."""
    argv = [sys.executable, "-m", "training_engine", "digest", str(run)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def bench_exact(quick: bool) -> Iterable[Line]:
    """Goal 1: real processes killed at random times; the tests kill at every step and every write."""
    steps = ["--max-steps", "400", "--checkpoint-every", "10"]

    def work(folder: Path) -> int:
        whole = folder / "whole"
        assert engine(*TRAIN, *steps, "--run-dir", str(whole)).wait() == 0
        expected, different, draw = digest(whole), 0, random.Random(1)
        for number in range(2 if quick else 5):
            run = folder / str(number)
            process = engine(*TRAIN, *steps, "--run-dir", str(run))
            until(lambda run=run: any(run.glob("ckpt/step-*")))
            time.sleep(draw.random())
            process.kill()
            process.wait()
            assert engine(*TRAIN, *steps, "--run-dir", str(run)).wait() == 0
            different += digest(run) != expected
        return different

    yield 1, "killed runs that end with other bytes", in_folder(work), 0, ""


def until(condition, seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise SystemExit("bench: waited in vain")
        time.sleep(0.005)


def bench_resume(quick: bool) -> Iterable[Line]:
    """Goals 7 and 16: what comes on top of `import torch`."""
    code = ("import time; b = time.process_time(); import torch, numpy, safetensors.torch; m = time.process_time(); import {}; "
            "print(time.process_time() - m)")
    core = min(float(subprocess.run([sys.executable, "-c", code.format(name)], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
               for name in ["training_engine"] * (3 if quick else 9))
    yield 16, "import of the core package beyond torch", core * 1e3, 30, "ms"

    def first_step(folder: Path) -> float:
        run, values = folder / "run", []
        assert engine(*TRAIN, "--max-steps", "10", "--run-dir", str(run)).wait() == 0
        for number in range(3 if quick else 7):
            begin, usage = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
            assert engine(*TRAIN, "--max-steps", str(11 + number), "--run-dir", str(run)).wait() == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            values.append(after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime)
            assert time.time() > begin
        return min(values)

    # torch imports torch._dynamo itself, when the first optimizer is made.
    bare = min(cpu_of([sys.executable, "-c", "import os, torch, torch._dynamo; os._exit(0)"]) for dummy in range(3 if quick else 7))
    yield 7, "start to end of a resumed step, without the imports of torch", in_folder(first_step) - bare, 0.3, "s CPU"


def cpu_of(argv: list[str]) -> float:
    """CPU seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_preemption(quick: bool) -> Iterable[Line]:
    """Goal 8: SIGTERM at random times; steps lost, wrong codes, and how long the process still lives."""
    steps = ["--max-steps", "1000000", "--checkpoint-every", "0"]

    def work(folder: Path) -> tuple[int, int, float]:
        wrong = lost = 0
        seconds, draw = [], random.Random(2)
        for number in range(3 if quick else 15):
            run = folder / str(number)
            process = engine(*TRAIN, *steps, "--run-dir", str(run))
            # Before the first step the process imports torch, which no signal makes shorter; the tests send signals there, too.
            until(lambda log=run / "metrics.jsonl": log.exists() and log.stat().st_size > 0)
            time.sleep(draw.random())
            begin = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            wrong += process.wait() != 75
            seconds.append(time.perf_counter() - begin)
            status = json.loads((run / "status.json").read_text())
            lost += status["step"] - status["checkpoint_step"]
        return wrong, lost, sorted(seconds)[len(seconds) // 2]

    wrong, lost, median = in_folder(work)
    yield 8, "stopped runs with another code than 75", wrong, 0, ""
    yield 8, "steps lost by SIGTERM", lost, 0, ""
    yield 8, "median from SIGTERM to the end of the process", median, 0.5, "s"


def bench_integrity(quick: bool) -> Iterable[Line]:
    """Goal 9: single flipped bits and truncations anywhere in a checkpoint."""

    def work(folder: Path) -> tuple[int, float]:
        manager = CheckpointManager(folder / "ckpt")
        model = CharLM(32, 16)
        path = manager.save(model, torch.optim.AdamW(model.parameters()), step=1)
        files, draw, missed = sorted(path.iterdir()), random.Random(3), 0
        for number in range(100 if quick else 1000):
            target = draw.choice(files)
            data = target.read_bytes()
            place = draw.randrange(len(data))
            damaged = data[:place] if number % 4 == 0 else data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1:]
            target.write_bytes(damaged)
            missed += not manager.verify(path)
            target.write_bytes(data)
        begin = time.process_time()
        assert manager.verify(path) == []
        return missed, time.process_time() - begin

    missed, dummy = in_folder(work)
    yield 9, "damages (bits, truncations) that were not found", missed, 0, ""


def bench_accumulation(quick: bool) -> Iterable[Line]:
    """Goal 10: ragged rows in A micro-batches against the one big batch, relative error of the gradient."""
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        worst = 0.0
        for parts in (1, 2, 8, 32):
            torch.manual_seed(parts)
            model = CharLM(32, 16, dropout=0.0).to(dtype)
            ids = torch.randint(0, 32, (32, 16))
            labels = ids.masked_fill(torch.arange(16) >= torch.randint(3, 17, (32, 1)), -100)
            gradients = [summed_gradient(model, ids, labels, count) for count in (1, parts)]
            worst = max(worst, float((gradients[0] - gradients[1]).norm() / gradients[0].norm()))
        yield 10, f"gradient error of accumulation, {str(dtype).removeprefix('torch.')}", worst, limit, ""


def summed_gradient(model: nn.Module, ids: torch.Tensor, labels: torch.Tensor, parts: int) -> torch.Tensor:
    """The gradient of (sum of losses) / (all targets), over `parts` backward passes."""
    model.zero_grad()
    loss = LanguageModelingLoss()
    batches = [{"input_ids": i, "labels": target} for i, target in zip(ids.chunk(parts), labels.chunk(parts), strict=True)]
    weight = sum(float(loss.weight(batch)) for batch in batches)
    for batch in batches:
        (loss.compute_loss(batch, ModelOutput(model(batch["input_ids"]))).total / weight).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def bench_drift(quick: bool) -> Iterable[Line]:
    """Goal 11: alarms without drift, above what was asked for, in sigmas of the count."""
    trials, alpha = (200, 0.05) if quick else (1000, 0.05)
    for size in (50, 200):
        draw = np.random.default_rng(size)
        alarms = sum(detect_drift(draw.normal(size=size), draw.normal(size=size), alpha=alpha, permutations=99, seed=n).drifted
                     for n in range(trials))
        sigma = (trials * alpha * (1 - alpha)) ** 0.5
        yield 11, f"false alarms at n={size}, sigmas above alpha", (alarms - trials * alpha) / sigma, 3, ""


def bench_registry(quick: bool) -> Iterable[Line]:
    """Goal 12: lookups, and hints for names with one letter changed, dropped or doubled."""
    registry: Registry[int] = Registry("thing")
    names = ["language_modeling", "classification", "masked_lm", "seq2seq", "vision_classification"]
    for name in names:
        registry.add(name, 1)
    count = 20_000
    begin = time.process_time()
    for dummy in range(count):
        registry.get("masked_lm")
    yield 12, "a lookup", (time.process_time() - begin) / count * 1e6, 1, "us"
    draw, wrong, tries = random.Random(4), 0, 200
    for dummy in range(tries):
        name = draw.choice(names)
        place = draw.randrange(len(name))
        typo = name[:place] + draw.choice(["", draw.choice(string.ascii_lowercase), name[place] * 2]) + name[place + 1:]
        try:
            registry.get(typo)
        except UsageError as error:
            wrong += f"did you mean {name!r}" not in str(error)
    yield 12, "typos whose hint is wrong, share", wrong / tries, 0.05, ""


def bench_supervision(quick: bool) -> Iterable[Line]:
    """Goal 13: the launcher's own CPU time, and ranks that outlive it."""
    code = "import sys; from training_engine.launch import Launch; sys.exit(Launch([sys.executable, '-c', 'pass'], 1).run())"
    rounds = range(3 if quick else 9)
    whole, alone = (min(cpu_of([sys.executable, "-c", text]) for dummy in rounds) for text in (code, "pass"))
    cost = whole - 2 * alone
    yield 13, "CPU of the launcher beyond its worker's", cost, 0.05, "s"

    def orphans(folder: Path) -> int:
        rank = f"import os, pathlib, time; pathlib.Path({str(folder)!r}, os.environ['RANK']).write_text(str(os.getpid())); time.sleep(60)"
        driver = f"import sys; from training_engine.launch import Launch; Launch([sys.executable, '-c', {rank!r}], 2).run()"
        process = subprocess.Popen([sys.executable, "-c", driver], cwd=ROOT)
        until(lambda: sum(bool(path.read_text()) for path in folder.iterdir()) == 2)
        ranks = [int(path.read_text()) for path in folder.iterdir()]
        process.kill()
        process.wait()
        time.sleep(0.5)
        return sum(alive(pid) for pid in ranks)

    yield 13, "ranks left after SIGKILL of the launcher", in_folder(orphans), 0, ""


def alive(pid: int) -> bool:
    """Whether a process runs (and is not only waiting to be collected)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


BARE = """
import resource, torch, torch.nn.functional as F
from training_engine.models import CharLM
torch.set_num_threads(1)
model = CharLM(96, 64, width=256, layers=4, heads=8); optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for step in range(30):
    ids = torch.randint(0, 96, (8, 64)); logits = model(ids)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward(); optimizer.step(); optimizer.zero_grad()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
ENGINE = """
import resource, sys, torch
from training_engine.config import TrainingConfigBuilder
from training_engine.factory import make_trainer
config = (TrainingConfigBuilder().with_run_dir(sys.argv[1]).with_model("char_lm_medium").with_max_steps(30).with_checkpoint_every(0)
          .with_threads(1).with_val_fraction(0.0).with_optimizer("adamw").build())
make_trainer(config).train()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def bench_memory(quick: bool) -> Iterable[Line]:
    """Goal 15: peak memory of the engine over that of a bare loop with the same model, without a save in between."""

    def peak(code: str, *arguments: str) -> int:
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout)

    ours = in_folder(lambda folder: peak(ENGINE, str(folder / "run")))
    yield 15, "peak memory / bare loop", ours / peak(BARE), 1.02, ""


def bench_export(quick: bool) -> Iterable[Line]:
    """Goal 17: the largest difference of a format to the model at another batch size, and files that differ between two builds."""

    def work(folder: Path) -> tuple[float, int]:
        torch.manual_seed(0)
        model, example = CharLM(32, 16), {"input_ids": torch.randint(0, 32, (5, 16))}
        formats = ("pt2",) if quick else ("pt2", "onnx")
        bundles = [export_bundle(model, example, folder / name, name="m", formats=formats) for name in ("a", "b")]
        parity = json.loads((bundles[0] / "bundle.json").read_text())["parity"]
        different = sum((bundles[1] / path.name).read_bytes() != path.read_bytes() for path in bundles[0].iterdir())
        return max(map(float, parity.values())), different

    error, different = in_folder(work)
    yield 17, "difference of an exported format to the model", error, 1e-5, ""
    yield 17, "files that differ between two builds of a bundle", different, 0, ""


def bench_goodput(quick: bool) -> Iterable[Line]:
    """Goal 18: failures drawn from an exponential distribution; the engine's rule against the best fixed interval, with this engine's
    stall (0.02 s for 100 MB) and restart (8 s)."""
    stall, restart, horizon = 0.02, 8.0, 100_000.0 if quick else 1_000_000.0
    worst = 1.0
    for hours in (1.0, 4.0, 24.0):
        mean = hours * 3600
        best = max(goodput(interval, stall, restart, mean, horizon) for interval in np.geomspace(1, 3600, 40))
        rule = goodput((2 * stall * mean) ** 0.5, stall, restart, mean, horizon)
        worst = min(worst, rule / best)
    yield 18, "1 - goodput of Young's interval / that of the best interval", 1 - worst, 0.02, ""


def goodput(interval: float, stall: float, restart: float, mean: float, horizon: float) -> float:
    """The share of time that was useful training, over one drawn trace of failures (the same for every interval)."""
    draw, now, useful = random.Random(5), 0.0, 0.0
    while now < horizon:
        span = draw.expovariate(1 / mean)
        useful += span // (interval + stall) * interval
        now += span + restart
    return useful / now


PARTS = {"exact": bench_exact, "resume": bench_resume, "preemption": bench_preemption, "integrity": bench_integrity,
         "accumulation": bench_accumulation, "drift": bench_drift, "registry": bench_registry, "supervision": bench_supervision,
         "memory": bench_memory, "export": bench_export, "goodput": bench_goodput}
