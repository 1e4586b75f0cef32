# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: one thread for exactness, small configurations, and the hashes of runs that nothing happened to."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before the measurement of coverage begins, under which this takes twice as long. Every optimizer imports it at its first step.
    importlib.import_module("torch._dynamo")

import pytest

if TYPE_CHECKING:  # what is imported here is not measured
    from training_engine.config import TrainingConfig


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The workers begin to measure when pytest-cov does, and not with the first line of the interpreter, as other subprocesses do."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """What is compared bit for bit is computed by one thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., TrainingConfig]:
    """A builder of configurations that train in tenths of a second, by default into the test's own folder."""
    from support.small import build

    return lambda **values: build(**{"run_dir": tmp_path / "run", **values})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The hash of a run with these values that nobody kills or stops; each is trained once."""
    from support.forked import run_hash, train_in_child
    from support.small import build

    @functools.cache
    def train(**values: Any) -> str:
        config = build(tmp_path_factory.mktemp("undisturbed") / "run", **values)
        assert train_in_child(config) == 0
        return run_hash(config.run.run_dir)

    return train
