# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bit-identical resume: a run that is killed, anywhere and however often, ends with the same bytes as one that is not."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from support.forked import count_operations, run_hash, train_in_child, train_ranks


@pytest.mark.parametrize("windows", [(1, 4, 6, 7, 12), pytest.param(range(1, 13), marks=pytest.mark.slow)])
def test_killed_at_every_window(small, undisturbed, tmp_path, windows):
    """SIGKILL after a window of a short run: with dropout, accumulation, a partial last window, evaluation, two epochs.

    The short one takes the edges (first, checkpoint, end of an epoch, after it, last), the long one every window.
    """
    expected = undisturbed()
    for window in windows:
        config = small(run_dir=str(tmp_path / f"killed-{window}"))
        assert train_in_child(config, kill_window=window) == -signal.SIGKILL
        assert train_in_child(config) == 0
        assert run_hash(config.run.run_dir) == expected, f"killed after window {window}"


@pytest.mark.parametrize("async_save", [True, False])
def test_killed_inside_the_save(small, undisturbed, tmp_path, async_save):
    """SIGKILL just before a write, fsync or rename; every nineteenth in this test, all of them in the slow one."""
    values = {"max_steps": 6, "checkpoint_every": 3, "async_save": async_save}
    expected = undisturbed(**values)
    operations = count_operations(small(run_dir=str(tmp_path / "count"), **values))
    assert operations > 40
    for number in range(1 if async_save else 4, operations + 1, 19):
        _kill_at_operation(small, tmp_path, values, number, expected)


@pytest.mark.slow
@pytest.mark.parametrize("async_save", [True, False])
def test_killed_inside_the_save_everywhere(small, undisturbed, tmp_path, async_save):
    """SIGKILL before each single write, fsync and rename of a whole run."""
    values = {"max_steps": 3, "checkpoint_every": 2, "eval_every": 0, "async_save": async_save}
    expected = undisturbed(**values)
    for number in range(1, count_operations(small(run_dir=str(tmp_path / "count"), **values)) + 1):
        _kill_at_operation(small, tmp_path, values, number, expected)


def _kill_at_operation(small, tmp_path: Path, values: dict, number: int, expected: str) -> None:
    config = small(run_dir=str(tmp_path / f"op-{number}"), **values)
    assert train_in_child(config, kill_operation=number) == -signal.SIGKILL
    assert train_in_child(config) == 0
    assert run_hash(config.run.run_dir) == expected, f"killed before operation {number}"


def test_killed_again_and_again(small, undisturbed, tmp_path):
    """Many kills in one run, some of them inside the resume and the save."""
    expected = undisturbed()
    config = small(run_dir=str(tmp_path / "killed"))
    draw = random.Random(5)
    for dummy in range(8):
        train_in_child(config, kill_window=draw.randrange(1, 12), kill_operation=draw.randrange(10, 120))
    assert train_in_child(config) == 0
    assert run_hash(config.run.run_dir) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(small, undisturbed, tmp_path, workers):
    """With 1 and 2 workers, killed on the way: the same bytes as with none."""
    expected = undisturbed()
    config = small(run_dir=str(tmp_path / "workers"), num_workers=workers)
    assert train_in_child(config, kill_window=6) == -signal.SIGKILL
    assert train_in_child(config) == 0
    assert run_hash(config.run.run_dir) == expected


def test_images_and_sgd(small, undisturbed, tmp_path):
    """The classification path, with momentum and early stopping state."""
    values = {"task": "vision_classification", "model": "vit", "dataset": "synthetic_images", "optimizer": "sgd",
              "early_stopping_patience": 5, "precision": "bf16"}
    expected = undisturbed(**values)
    config = small(run_dir=str(tmp_path / "killed"), **values)
    assert train_in_child(config, kill_window=7) == -signal.SIGKILL
    assert train_in_child(config) == 0
    assert run_hash(config.run.run_dir) == expected


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_ranks(small, tmp_path, world):
    """Several gloo ranks: one is killed, the others notice and leave, all start again, and the bytes are the same."""
    values = {"max_steps": 8, "batch_size": 2}
    whole = small(run_dir=str(tmp_path / "whole"), **values)
    assert train_ranks(whole, world) == [0] * world
    config = small(run_dir=str(tmp_path / "killed"), **values)
    codes = train_ranks(config, world, kill_window=6)
    assert codes[-1] == -signal.SIGKILL
    assert 0 not in codes
    assert train_ranks(config, world) == [0] * world
    assert run_hash(config.run.run_dir) == run_hash(whole.run.run_dir)


def test_the_kernel_frees_the_lock(small, tmp_path):
    """A killed process leaves no lock behind, and two at once are refused."""
    config = small()
    assert train_in_child(config, kill_window=2) == -signal.SIGKILL
    assert train_in_child(config) == 0
    assert os.path.exists(config.run.run_dir + "/.lock")
