# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test needs: the collection importable by its full name, absent components said aloud, everything started stopped again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent


def _make_tree() -> Path:
    """Make .dev/tree/ansible_collections/mad/engine point at this checkout, as dev/bootstrap.py does, so that a bare `pytest` works."""
    tree = Path(os.environ.get("MAD_DEV_HOME") or ROOT) / ".dev" / "tree"
    link = tree / "ansible_collections" / "mad" / "engine"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(ROOT)
    return tree


if "ansible_collections" not in sys.modules and not any((Path(p) / "ansible_collections/mad/engine").is_dir() for p in sys.path if p):
    sys.path.insert(0, str(_make_tree()))
    os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", sys.path[0])

from ansible_collections.mad.engine.tests.support.fixtures import (  # noqa: E402
    browser,
    docker_host,
    fleet,
    postgres,
    python_image,
    slurm,
    slurm_accounting,
    tiny_image,
)

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("mad", deadline=None)
hypothesis.settings.load_profile("mad")
# Named here so that pytest finds them for every test below.
FIXTURES = (browser, docker_host, fleet, postgres, python_image, slurm, slurm_accounting, tiny_image)
ABSENT: dict[str, set[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Turn SIGTERM into an interrupt: fixtures are torn down, so that no daemon outlives the tests."""
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_runtest_logreport(report: Any) -> None:
    """Remember each skip that names an absent component, together with the test."""
    text = str(report.longrepr) if report.skipped else ""
    if "ABSENT " in text:
        reason = text[text.index("ABSENT ") :].strip("')\n ")
        ABSENT.setdefault(reason, set()).add(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say every absent component aloud at the end: a skip that nobody sees is a test that nobody runs."""
    for reason, tests in sorted(ABSENT.items()):
        terminalreporter.write_line("!! %s (%d tests did not run)" % (reason, len(tests)), yellow=True, bold=True)
