# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts of the tests: installed by apt where that was asked for, and a Docker engine of our own where none answers."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import bootstrap
from runner import Absent, Failed, Job, Step

sys.path.insert(0, str(bootstrap.HOME / ".dev" / "tree"))
from ansible_collections.mad.engine.tests.support import components  # noqa: E402
from ansible_collections.mad.engine.tests.support.engine import OwnEngine, find_or_start  # noqa: E402

if TYPE_CHECKING:
    from context import Context

__all__ = ["NAMES", "OwnEngine", "engine_of_its_own", "steps"]
NAMES = ("install", "engine", "parts")
# What integration tests use; the engine has a step of its own.
WANTED = ("bash-static", "busybox", "chromium", "debootstrap", "podman", "postgresql", "registry", "slurm", "slurmdbd", "ssh", "sshd")
_SHARED = threading.Lock()


def steps(context: Context) -> list[Step]:
    """Return the steps that bring the parts."""
    return [
        Step("install", "real parts by apt", install, check=False),
        Step("engine", "a Docker engine that answers", lambda job: engine(context, job), check=False, after=("install",)),
        Step("parts", "registry, sshd and the other parts are here", lambda job: parts(), check=False, after=("install",)),
    ]


def install(job: Job) -> str:
    """Install the packages of missing components, if this machine may be changed."""
    missing = [name for name in (*WANTED, "docker") if components.missing(name)]
    packages = sorted({package for name in missing for package in components.COMPONENTS[name][1]})
    if not packages:
        return "everything is here"
    if not components.may_install():
        return "not asked for (MAD_TEST_INSTALL=1): %s" % " ".join(packages)
    job.must(["apt-get", "update", "-qq"], what="apt-get update failed")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    job.must(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet, what="apt-get install failed")
    components.missing.cache_clear()
    return "installed " + " ".join(packages)


def engine(context: Context, job: Job) -> str:
    """Find the engine that answers, or start our own; what runs later finds it by DOCKER_HOST."""
    try:
        host, context.own_engine = find_or_start()
    except RuntimeError as error:
        raise Absent("no Docker engine: %s" % error) from error
    if context.own_engine:
        os.environ["DOCKER_HOST"] = host
        components.missing.cache_clear()
        return "our own dockerd at " + host
    job.say("the engine at %s is used as it is" % (host or "the default socket"))
    return "one answers already; used as it is"


@contextlib.contextmanager
def engine_of_its_own(context: Context) -> Iterator[dict[str, str]]:
    """Give a step whose tests count, clean and remove an engine that nobody else uses; where somebody's engine is used as it is, one step at a time."""
    if not context.own_engine:
        with _SHARED:
            yield {}
        return
    own = OwnEngine()
    try:
        yield {"DOCKER_HOST": own.start().host}
    finally:
        own.stop()


def parts() -> str:
    """Name what is absent: integration tests that need it fail or skip on their own."""
    absent = ["%s (%s)" % (name, components.missing(name)) for name in WANTED if components.missing(name)]
    if absent:
        raise Absent("absent: " + "; ".join(absent))
    if components.missing("root"):
        raise Absent("tests that need root do not run", excusable=True)
    if not WANTED:
        raise Failed("nothing is wanted")
    return "all of %s" % ", ".join(WANTED)
