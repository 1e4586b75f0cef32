# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The training engine on this CPU: what `dev/demo-training` becomes.

A character language model and a classifier of digits are trained twice each: once undisturbed, once killed (SIGKILL) and asked to stop
(SIGTERM) on the way and resumed. Both end with the same bytes. The classifier is then exported, and the bundle's own server answers /ready.
Standard library only: torch lives in the environment that this makes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import bootstrap
import training_env

PREEMPTED = 75
PATIENCE = 600.0
MODELS = {
    "character language model": ["--model=char_lm", "--dataset=text", "--batch-size=8", "--sequence-length=32", "--max-steps=150",
                                 "--checkpoint-every=20", "--eval-every=75", "--eval-batches=20", "--threads=1"],
    "digits classifier": ["--task=vision_classification", "--model=vit", "--dataset=digits", "--normalization=digits", "--batch-size=32",
                          "--max-steps=150", "--checkpoint-every=20", "--eval-every=75", "--threads=1"],
}  # fmt: skip


def say(text: str) -> None:
    """Print one line of the demo's own."""
    print("demo: " + text, flush=True)


class Engine:
    """The engine's command line in its environment."""

    def __init__(self, tools: bootstrap.Environment) -> None:
        self.python = tools.python
        self.env = {**os.environ, **training_env.settings(tools), "PYTHONPATH": str(training_env.FOLDER)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        argv = [self.python, "-m", "training_engine", *words]
        return subprocess.Popen(argv, env=self.env, stdout=subprocess.PIPE, text=True)

    def run(self, *words: str) -> str:
        """Run a command that has to succeed; return what it printed."""
        process = self.start(*words)
        out = process.communicate(timeout=PATIENCE)[0]
        if process.returncode:
            sys.exit("demo: `training_engine %s` ended with %d" % (" ".join(words), process.returncode))
        return out.strip()


def steps_done(run: Path) -> int:
    """Return how many steps a run has saved."""
    return max((int(path.name.split("-")[1]) for path in (run / "ckpt").glob("step-*")), default=0)


def interrupt(engine: Engine, run: Path, options: list[str], after: int, number: signal.Signals) -> int:
    """Train until a checkpoint of step `after` or later is there, then send the signal; return the exit status."""
    process = engine.start("train", *options, "--run-dir=%s" % run)
    limit = time.monotonic() + PATIENCE
    while steps_done(run) < after:
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            sys.exit("demo: the run ended before step %d, with %s" % (after, process.returncode))
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    ended = "killed" if process.returncode < 0 else "exit %d" % process.returncode
    say("    %s after a checkpoint of step %d or later: %s" % (number.name, after, ended))
    return process.returncode


def train(engine: Engine, name: str, options: list[str], folder: Path) -> Path:
    """Train a model both ways; return the run folder of the disturbed one. Ends the demo where the two differ."""
    say("%s: undisturbed" % name)
    whole, killed = folder / "whole", folder / "killed"
    say("    " + engine.run("train", *options, "--run-dir=%s" % whole).splitlines()[0])
    say("%s: killed and stopped on the way" % name)
    if interrupt(engine, killed, options, 40, signal.SIGKILL) != -signal.SIGKILL:
        sys.exit("demo: the run was not killed")
    if interrupt(engine, killed, options, 80, signal.SIGTERM) != PREEMPTED:
        sys.exit("demo: a run that is asked to stop must end with %d" % PREEMPTED)
    say("    " + engine.run("train", *options, "--run-dir=%s" % killed).splitlines()[0])
    digests = {run.name: engine.run("digest", str(run)) for run in (whole, killed)}
    for run, digest in digests.items():
        say("    %-7s %s" % (run, digest))
    if digests["whole"] != digests["killed"]:
        sys.exit("demo: the resumed run differs from the undisturbed one")
    say("    equal: weights, optimizer, random states, position and metrics, byte by byte")
    return killed


@contextlib.contextmanager
def served(engine: Engine, bundle: Path) -> Iterator[str]:
    """Serve a bundle by its own inference.py, without the engine on the path; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [engine.python, "-m", "uvicorn", "inference:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(argv, cwd=bundle, env={**engine.env, "PYTHONPATH": ""})
    try:
        yield "http://127.0.0.1:%d" % port
    finally:
        process.terminate()
        process.wait(30)


def ask(url: str, body: object = None) -> dict[str, object]:
    """Return the JSON answer of the server; {} where it does not answer 200."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, ConnectionError):
        return {}


def serve(engine: Engine, run: Path, options: list[str], folder: Path) -> None:
    """Export the run, serve the bundle, and ask it."""
    bundle = folder / "bundle"
    engine.run("export", str(bundle), *options, "--run-dir=%s" % run)
    say("exported: %s" % ", ".join(sorted(path.name for path in bundle.iterdir())))
    with served(engine, bundle) as url:
        limit = time.monotonic() + 120
        while not (ready := ask(url + "/ready")):
            if time.monotonic() > limit:
                sys.exit("demo: the server did not become ready")
            time.sleep(0.2)
        say("the server answers /ready: %s" % json.dumps(ready))
        blank = {"inputs": {"pixel_values": [[[[0.0] * 8] * 8]]}}
        answer = ask(url + "/predict", blank)
        if "prediction" not in answer:
            sys.exit("demo: the server did not answer /predict")
        say("the server answers /predict (a blank image): %s" % json.dumps(answer["prediction"]))


def bench(options: list[str]) -> NoReturn:
    """Become the benchmark of the engine; it ends with 1 when a goal is missed. --peers: where Lightning and Accelerate are installed."""
    peers = "--peers" in options
    tools = training_env.ensure("bench" if peers else "test")
    options = [word for word in options if word != "--peers"]
    program = str(training_env.FOLDER / "bench" / "bench_engine.py")
    os.execve(tools.python, [tools.python, program, *options], {**os.environ, **training_env.settings(tools)})


def main() -> None:
    """Run the demo; the run folders stay in .dev/demo-training. With --bench, measure the engine's goals instead."""
    bootstrap.check_home()
    if "--bench" in sys.argv:
        bench([word for word in sys.argv[1:] if word != "--bench"])
    say("two models are trained, killed, resumed and compared; the first time an environment with torch is made (about 1 GB, some minutes)")
    engine = Engine(training_env.ensure("demo"))
    began = time.monotonic()
    home = bootstrap.HOME / ".dev" / "demo-training"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    for old in home.glob("run-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    for name, options in MODELS.items():
        run = train(engine, name, options, folder / name.split()[0])
    serve(engine, run, options, folder)
    say(engine.run("dashboard", str(run)))
    say("done in %.0f s; what it made: %s" % (time.monotonic() - began, folder))


if __name__ == "__main__":
    main()
