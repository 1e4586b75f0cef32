# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the training engine: what reads it and its unit tests, then what takes minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import training_env
from runner import Failed, Job, Step, line_with

if TYPE_CHECKING:
    from bootstrap import Environment
    from context import Context

LEAST_LINES, LEAST_BRANCHES = 95.0, 90.0
# Of the collection's tests, the one that needs torch: it runs here, in the collection's environment, and not in the step integration.
PLAY = "tests/integration/test_training_play.py"


def make(context: Context) -> list[Step]:
    """Return them."""
    reading = "the training engine: ruff, mypy --strict, requirements, secrets"
    about = "the training engine: unit tests and their coverage"
    longer = "the training engine: kills everywhere, real launchers, exports, notebooks, documentation"
    return [
        Step("training-lint", reading, lambda job: lint(context, job)),
        Step("training", about, lambda job: unit(context, job), False, ("training-lint",), True),
        Step("training-integration", longer, lambda job: integration(context, job), False, ("training",), True),
    ]


def folder(context: Context) -> Path:
    """Return the engine's folder in a copy of its own: what its tools leave behind goes with it."""
    return context.training_copy.path / training_env.FOLDER.relative_to(context.root)


def lint(context: Context, job: Job) -> str:
    """Linters, types, requirements, secrets."""
    tools = training_env.ensure("test")
    checks = {
        "ruff found something": ["ruff", "check", "--no-cache", "."],
        "mypy --strict found type errors": ["mypy", "--no-error-summary", "--cache-dir", str(context.home / ".dev" / "mypy-training")],
        "the requirements are not in order": ["training_engine.requirements_check", "."],
        "the secret scan found something": ["training_engine.secrets_scan", "."],
    }
    for problem, words in checks.items():
        job.must([tools.python, "-m", *words], cwd=folder(context), env=training_env.settings(tools), what=problem)
    return ""


def unit(context: Context, job: Job) -> str:
    """The unit tests with their coverage."""
    tools = training_env.ensure("test")
    report = context.training_copy.path / "training-coverage.json"
    # A file stays in one process: what its tests share is made once. In the order of their names the two end at about the same time.
    spread = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    note = pytest(context, job, tools, *spread, "-m", "not slow and not models", "--cov", "--cov-report=")
    argv = [tools.python, "-m", "coverage", "json", "-q", "-o", str(report)]  # pytest-cov would read all sources twice
    job.must(argv, cwd=folder(context), env=training_env.settings(tools), what="the coverage cannot be read")
    return "%s; %s" % (note, coverage(report))


def integration(context: Context, job: Job) -> str:
    """What takes minutes: real processes, every kill point, exports, notebooks, the blocks of the documentation; then the play."""
    tools = training_env.ensure("test")
    note = pytest(context, job, tools, "-n", "2", "-m", "slow", "--durations=10")
    settings = {"MAD_DEV_HOME": str(context.home), "TRAINING_PYTHON": tools.python}
    if job.call([sys.executable, "-m", "pytest", "-q", "-rfEs", PLAY], env=settings):
        raise Failed("mad.engine.run with the tag training: %s" % line_with(job.tail(300), " passed", " failed", " error"))
    return "%s; mad.engine.run with the tag training" % note


def pytest(context: Context, job: Job, tools: Environment, *arguments: str) -> str:
    """Run a part of the suite; return its last line. In this environment nothing is missing, so a skipped test is one that hides something."""
    argv = [tools.python, "-m", "pytest", "-q", "-rfEs", *arguments]
    status = job.call(argv, cwd=folder(context), env=training_env.settings(tools))
    note = line_with(job.tail(300), " passed", " failed", " error", "no tests ran")
    if status:
        raise Failed(note or "pytest ended with %d" % status)
    if " skipped" in note and context.strict:
        raise Failed("%s: what is missing stands in the log" % note)
    return note


def coverage(report: Path) -> str:
    """Return the coverage; a failure where lines or branches are below their least."""
    totals = json.loads(report.read_text("utf-8"))["totals"]
    lines = 100.0 * totals["covered_lines"] / totals["num_statements"]
    branches = 100.0 * totals["covered_branches"] / totals["num_branches"]
    text = "coverage %.1f %% of lines, %.1f %% of branches" % (lines, branches)
    if lines < LEAST_LINES or branches < LEAST_BRANCHES:
        raise Failed("%s; at least %g and %g are asked for" % (text, LEAST_LINES, LEAST_BRANCHES))
    return text
