# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model repository to build images from, and the steps of a build host as the controller takes them."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_file
from ansible_collections.mad.engine.plugins.module_utils.building import build_host, build_source, builder
from ansible_collections.mad.engine.plugins.module_utils.containers import image_engine

from . import components
from .registry import Registry

SECRET = "hunter2-hunter2"
HOSTILE = 'it\'s "q" $(id) `id` ; rm -rf / \\ \n second line é'


def docker(*words: str, program: str = "docker") -> str:
    """Output of a docker command that must succeed."""
    return subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout.strip()


class Repo:
    """A model repository with Dockerfiles on the tiny image, and the names of what is built from it."""

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self.base = folder, base
        self.mark = uuid.uuid4().hex[:10]
        self.digests: set[str] = set()
        self.write("docker/data.txt", "data\n")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def request(self, name: str, *lines: str, base: str = "", **more: Any) -> dict[str, Any]:
        """Write a Dockerfile and return the build request for it."""
        dockerfile = "docker/%s.ubuntu.Dockerfile" % name
        self.write(
            dockerfile,
            "\n".join(["# CONTEXT {'guest_os': 'UBUNTU'}", "ARG BASE_DOCKER=%s" % (base or self.base), "FROM $BASE_DOCKER", *lines, ""]),
        )
        image = "ci-mad-test-%s-%s" % (self.mark, name)
        request = {
            "image": image, "model": "tests/" + name, "dockerfile": dockerfile, "dockercontext": "./docker", "build_args": {},
            "secret_build": [], "cred": "", "gpu_vendor": "AMD", "gpu_architecture": "", "hosts": ["n1"], "build_host": "n1",
        }  # fmt: skip
        return {**request, **more}

    def source(self, request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "source": build_source.describe(request, str(self.folder))}


@pytest.fixture(name="repo")
def make_repo(tmp_path: Path, tiny_image: str) -> Iterator[Repo]:
    repo = Repo(tmp_path / "repo", tiny_image)
    yield repo
    known = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in [name for name in known if repo.mark in name] + sorted(repo.digests):
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)


@pytest.fixture(name="engine", scope="module")
def make_engine(docker_host: str) -> image_engine.ImageEngine:
    return image_engine.find("docker")


@pytest.fixture(name="options")
def make_options(tmp_path: Path) -> builder.Options:
    return builder.Options(str(tmp_path / "logs"), host="n1")


def build(repo: Repo, request: dict[str, Any], engine: image_engine.ImageEngine, options: builder.Options, **more: Any) -> dict[str, Any]:
    done = builder.build(request, str(repo.folder), engine, options, **more)
    repo.digests.add(done["record"]["digest"])
    return done


def inside(image: str, *command: str, program: str = "docker") -> str:
    return docker("run", "--rm", "--network", "none", image, *command, program=program)


@pytest.fixture(name="registry", scope="module")
def make_registry(tmp_path_factory) -> Iterator[Registry]:
    components.require("registry")
    found = Registry(tmp_path_factory.mktemp("registry")).start()
    yield found
    found.stop()


def run_job(
    repo: Repo, work: Path, requests: list[dict[str, Any]], secrets: build_host.Secrets | None = None, **more: Any
) -> dict[str, Any]:
    """Ask the build host, send the sources when it wants them, ask again: as the action plugin does."""
    described = [request if "source" in request else repo.source(request) for request in requests]
    sources = [request["source"] for request in described]
    job = build_host.Job(
        described, build_source.archive_id(sources), "c1", "n1", work_dir=str(work), engine=more.pop("engine", "docker"), **more
    )
    result = build_host.run(job, secrets or build_host.Secrets())
    if result["missing_source"]:
        archive = work / "sent.tar.gz"
        build_source.pack(sources, str(repo.folder), str(archive))
        result = build_host.run(job._replace(archive=str(archive), archive_sha256=hash_file(str(archive))), secrets or build_host.Secrets())
    return result
