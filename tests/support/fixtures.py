# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the integration tests; tests/conftest.py brings them into force."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from . import base_image, components
from .browser import Browser
from .engine import find_or_start
from .postgres import Postgres
from .slurm import Cluster
from .sshd import Fleet


@pytest.fixture(scope="session")
def docker_host() -> Iterator[str]:
    """Give DOCKER_HOST of an engine that answers ("" is the default socket) and put it in force; fail or skip loudly without one."""
    before = os.environ.get("DOCKER_HOST")
    try:
        host, own = find_or_start()
    except RuntimeError:
        components.require("docker")
        raise
    if host:
        os.environ["DOCKER_HOST"] = host
    components.missing.cache_clear()
    yield host
    if own:
        own.stop()
        os.environ.pop("DOCKER_HOST", None)
        if before is not None:
            os.environ["DOCKER_HOST"] = before


@pytest.fixture(scope="session")
def tiny_image(docker_host: str) -> str:
    """Give an image with busybox and bash."""
    components.require("busybox")
    return base_image.make("tiny", host=docker_host)


@pytest.fixture(scope="session")
def python_image(docker_host: str) -> str:
    """Give an image with Python 3, bash and coreutils."""
    return base_image.make("host", host=docker_host)


@pytest.fixture()
def fleet() -> Iterator[Fleet]:
    """Give an empty SSH fleet: `fleet.add("n1")` starts a host."""
    components.require("sshd", "ssh")
    with Fleet() as hosts:
        yield hosts


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give a PostgreSQL server."""
    components.require("postgresql")
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """Give a cluster of eight nodes without accounting. Tests that break it start their own."""
    components.require("slurm")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_accounting() -> Iterator[Cluster]:
    """Give a cluster whose sacct is real."""
    components.require("slurm", "slurmdbd")
    with Cluster(nodes=4, accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give one browser to all tests."""
    components.require("chromium")
    with Browser() as found:
        yield found
