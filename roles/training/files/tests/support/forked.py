# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes that die by real signals, without paying for `import torch` each time: forks of the test process."""

from __future__ import annotations

import hashlib
import os
import posix
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import torch._dynamo

from training_engine import durable
from training_engine.checkpoint.store import CheckpointStore
from training_engine.config import TrainingConfig
from training_engine.factory import make_trainer
from training_engine.hooks import Hook
from training_engine.peers import Place

torch._dynamo  # noqa: B018  # loaded once here: every optimizer imports it at its first step, and the forks inherit it


def in_child(work: Callable[[], int | None]) -> int:
    """Run `work` in a fork; its exit code, or minus the signal that ended it."""
    pid = start_child(work)
    return wait_child(pid)


def start_child(work: Callable[[], int | None], *, measured: bool = True) -> int:
    """Start `work` in a fork; its process id. Where `measured` is false its coverage does not count, for it takes time and adds nothing."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    leave = os._exit  # coverage has put itself in its place
    if not measured:
        sys.settrace(None)
        threading.settrace(None)
        leave = posix._exit
    code = 1
    try:
        code = int(work() or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        leave(code)


def wait_child(pid: int) -> int:
    """The exit code of a child, or minus its signal."""
    dummy, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


class KillAtWindow(Hook):
    """SIGKILL for this process once so many windows are consumed."""

    def __init__(self, window: int) -> None:
        self.window = window

    def on_batch_end(self, trainer, state, outcome) -> None:
        if state.window == self.window:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_at_operation(number: int) -> Callable[[str, str], None]:
    """A fault hook that kills the process just before its n-th durable operation."""
    seen = 0

    def hook(_operation: str, _path: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def train_in_child(config: TrainingConfig, *, kill_window: int | None = None, kill_operation: int | None = None,
                   place: Place | None = None, port: int = 0) -> int:
    """Train in a fork; the exit code, or -9 where it was killed."""
    return wait_child(start_training(config, kill_window=kill_window, kill_operation=kill_operation, place=place, port=port))


def start_training(config: TrainingConfig, *, kill_window: int | None = None, kill_operation: int | None = None,
                   place: Place | None = None, port: int = 0) -> int:
    """Start training in a fork; its process id."""

    def work() -> int:
        if port:
            os.environ["MASTER_PORT"] = str(port)
        if kill_operation is not None:
            durable.fault_hook = kill_at_operation(kill_operation)
        hooks = [KillAtWindow(kill_window)] if kill_window is not None else []
        return int(make_trainer(config, hooks=hooks, place=place).train().exit_code)

    # One process of several ranks does what no other does; what a single one does is measured where it runs in the test's own process.
    return start_child(work, measured=place is not None and place.rank == 0 and kill_window is None and kill_operation is None)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_ranks(config: TrainingConfig, world: int, **last: int) -> list[int]:
    """Train with several gloo ranks; their exit codes. `last` (kill_window, kill_operation) is for the last of them."""
    port = free_port()
    children = [start_training(config, place=Place(rank, world, rank), port=port, **(last if rank == world - 1 else {}))
                for rank in range(world)]
    return [wait_child(child) for child in children]


def count_operations(config: TrainingConfig) -> int:
    """How many durable operations an undisturbed run makes."""
    counter = Path(config.run.run_dir).with_suffix(".operations")

    def work() -> None:
        seen = 0

        def hook(_operation: str, _path: str) -> None:
            nonlocal seen
            seen += 1

        durable.fault_hook = hook
        make_trainer(config).train()
        counter.write_text(str(seen))

    assert in_child(work) == 0
    return int(counter.read_text())


def run_hash(run_dir: str | Path) -> str:
    """One hash over everything that a run leaves: weights, optimizer, random states, position, and the metrics log."""
    folder = Path(run_dir)
    newest = max((folder / "ckpt").glob("step-*"))
    assert CheckpointStore(folder / "ckpt", lambda *_, **__: None).problems(newest) == []
    digest = hashlib.sha256()
    for path in [*sorted(newest.iterdir()), folder / "metrics.jsonl"]:
        if path.name != "manifest.json":
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
