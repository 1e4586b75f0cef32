# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that only read: linters, types, documentation, sanity, packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner import Absent, Job, Step, line_with

if TYPE_CHECKING:
    from context import Context

# Names under which ansible-test of core 2.18 to 2.21 looks for its get-pip.py.
GET_PIP = ("20_3_4", "21_3_1", "24_2", "24_3_1", "25_0", "25_2", "25_3")

# Sanity tests that only read and find nearly the same on every ansible-core; those that take more than half of the time run in the step next-core,
# those that install tools of their own for seconds of work here.
THERE, HERE = ("pylint", "pep8"), ("changelog", "pslint", "shellcheck", "yamllint")


def steps(context: Context) -> list[Step]:
    """Return the quick ones; `sanity`, which takes minutes, is one of test_steps."""

    def tool(name: str, about: str, *argv: str) -> Step:
        return Step(name, about, lambda job: job.must(argv, cwd=context.copy.path, env=in_copy(context)))

    return [
        tool("ansible-lint", "ansible-lint, profile production", "ansible-lint", "--offline", "--profile", "production"),
        Step("types", "mypy: strict for the core, sensible for the rest", lambda job: types(context, job)),
        Step("docs", "antsibull-docs and antsibull-changelog", lambda job: docs(context, job)),
        tool("yamllint", "yamllint", "yamllint", "--strict", "."),
        tool("ruff", "ruff", "ruff", "check", "--no-cache", "."),
        Step("shellcheck", "shellcheck on every shell file", lambda job: shellcheck(context, job)),
        Step("source", "headers, sizes, requirements, role arguments", lambda job: source(context, job)),
    ]


def in_copy(context: Context) -> dict[str, str]:
    """Return what makes the tools see the copy and no other mad.engine."""
    tree = str(context.copy.tree)
    return {"ANSIBLE_COLLECTIONS_PATH": tree, "PYTHONPATH": tree, "NO_COLOR": "1"}


def prepare_ansible_test(context: Context) -> dict[str, str]:
    """Give ansible-test a home of its own, with the stand-in for the file it would fetch; caches stay where they are."""
    home = context.home / ".dev" / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in GET_PIP:
        shutil.copyfile(context.root / "dev" / "get_pip.py", cache / ("get_pip_%s.py" % version))
    pip_cache = os.environ.get("PIP_CACHE_DIR") or os.path.expanduser("~/.cache/pip")
    # Real interpreters first: a shim that cannot run python3.9 makes ansible-test stop.
    path = os.pathsep.join([*{str(Path(python).parent): 1 for python in context.pythons.values()}])
    env = {**in_copy(context), "HOME": str(home), "PIP_CACHE_DIR": pip_cache, "LC_ALL": "C.UTF-8"}
    env["PATH"] = os.pathsep.join([os.environ["PATH"].split(os.pathsep)[0], path, os.environ["PATH"]])
    return env


def sanity(context: Context, job: Job) -> str:
    """Everything on this Python (but what the next ansible-core runs, where it is here); what runs on hosts also on the oldest Python that is here."""
    ignores = sorted(path.name for path in (context.root / "tests" / "sanity").glob("ignore-*.txt") if path.read_text().strip())
    if ignores:
        job.say("ignore files: " + " ".join(ignores))
    env, here = prepare_ansible_test(context), "%d.%d" % current()
    elsewhere = without(THERE) if context.next_python else []
    job.must(["ansible-test", "sanity", *elsewhere, "--python", here, "--color", "no"], cwd=context.copy.path, env=env)
    note = "Python %s%s" % (here, "; %s: next-core" % ", ".join(THERE) if elsewhere else "")
    if (3, 8) in context.pythons:
        argv = ["ansible-test", "sanity", "--test", "import", "--test", "compile", "--python", "3.8", "--color", "no"]
        job.must(argv, cwd=context.copy.path, env=env)
        return note + "; import and compile on 3.8"
    return note + "; no 3.8 here"


def without(names: Sequence[str]) -> list[str]:
    """Return the options that leave out these sanity tests."""
    return [word for name in names for word in ("--skip-test", name)]


def current() -> tuple[int, int]:
    """Return the Python that runs this."""
    import sys

    return sys.version_info[:2]


def types(context: Context, job: Job) -> str:
    """The core strictly; controller code, tools and test support with the settings of pyproject.toml."""
    base = ["mypy", "--no-error-summary", "--cache-dir", str(context.home / ".dev" / "mypy")]
    name = "ansible_collections.mad.engine.plugins."
    env = {**in_copy(context), "MYPYPATH": str(context.copy.tree)}
    config = ["--config-file", str(context.root / "pyproject.toml")]
    kinds = ("module_utils", "plugin_utils", "action", "callback", "filter", "inventory", "modules")
    packages = [kind for kind in kinds if has_python(context, kind)]
    argv = [*base, *config, *(word for kind in packages for word in ("-p", name + kind))]
    job.must(argv, cwd=context.copy.tree, env=env, what="mypy found type errors in plugins")
    env["MYPYPATH"] = os.pathsep.join([str(context.copy.tree), str(context.copy.path / "dev")])
    job.must([*base, *config, "dev"], cwd=context.copy.path, env=env, what="mypy found type errors in dev")
    return ", ".join(packages) + ", dev"


def has_python(context: Context, kind: str) -> bool:
    """Tell whether there is any plugin of this kind."""
    return any((context.copy.path / "plugins" / kind).rglob("*.py"))


def docs(context: Context, job: Job) -> str:
    """Every page, every option, every changelog fragment."""
    env = in_copy(context)
    job.must(["antsibull-docs", "lint-collection-docs", "--plugin-docs", "."], cwd=context.copy.path, env=env)
    job.must(["antsibull-changelog", "lint"], cwd=context.copy.path, env=env)
    return ""


def shellcheck(context: Context, job: Job) -> str:
    """Every file that begins as a shell script or ends in .sh."""
    shells = (b"#!/bin/sh", b"#!/usr/bin/env bash", b"#!/bin/bash")
    scripts = [p for p in sorted(context.copy.path.rglob("*")) if p.is_file() and ".git" not in p.relative_to(context.copy.path).parts]
    scripts = [p for p in scripts if p.suffix == ".sh" or p.open("rb").read(20).startswith(shells)]
    if not shutil.which("shellcheck"):
        raise Absent("no shellcheck")
    job.must(["shellcheck", "-x", "--source-path=SCRIPTDIR", "-e", "SC1091", *scripts], cwd=context.copy.path)
    return "%d files" % len(scripts)


def source(context: Context, job: Job) -> str:
    """Our own rules."""
    job.must(["python", "dev/check_source.py", "."], cwd=context.copy.path, what="see the log")
    job.must(["python", "dev/check_arguments.py", "."], cwd=context.copy.path, what="role arguments and defaults differ")
    return line_with(job.tail(), "arguments:")
