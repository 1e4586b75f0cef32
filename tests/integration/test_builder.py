# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images built by a real engine."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import build_host, builder
from ansible_collections.mad.engine.plugins.module_utils.containers import image_engine
from ansible_collections.mad.engine.plugins.module_utils.containers.build_log import Commands
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.build_repo import (
    HOSTILE,
    SECRET,
    build,
    docker,
    inside,
    make_engine,
    make_options,
    make_registry,
    make_repo,
)

pytestmark = pytest.mark.real
FIXTURES = (make_engine, make_options, make_registry, make_repo)  # pytest finds them here


def test_a_model_becomes_an_image(repo, engine, options, tmp_path) -> None:
    request = repo.request(
        "plain", "ARG VALUE", 'RUN printf %s "$VALUE" > /value', "COPY data.txt /data.txt", build_args={"VALUE": HOSTILE}
    )
    done = build(repo, request, engine, options)
    record = done["record"]
    assert done["changed"]
    assert inside(request["image"], "cat", "/value") == HOSTILE
    assert inside(request["image"], "cat", "/data.txt") == "data"
    assert record["digest"] == docker("image", "inspect", "--format", "{{.Id}}", request["image"])
    assert record["base_docker"] == repo.base
    assert record["docker_sha"] == docker("image", "inspect", "--format", "{{.Id}}", repo.base)
    assert record["build_duration"] > 0
    assert record["log_file"] == "tests_plain_plain.ubuntu.build.live.log"
    assert record["build_command"].startswith("docker build --network=host ")
    assert record["build_command"].endswith(" ./docker")
    assert "Successfully" in (tmp_path / "logs" / record["log_file"]).read_text() or engine.builder.buildkit


def test_what_is_unchanged_is_not_built_again(repo, engine, options) -> None:
    repo.write("docker/.dockerignore", "*.tmp\n")
    request = repo.request("same", "COPY . /all", build_args={"A": "1"})
    first = build(repo, request, engine, options)
    repo.write("docker/noise.tmp", "ignored")
    os.utime(repo.folder / "docker/data.txt", (1, 1))
    again = build(repo, request, engine, options)
    assert first["changed"]
    assert not again["changed"]
    assert again["record"]["digest"] == first["record"]["digest"]
    assert again["record"]["build_duration"] == 0.0


@pytest.mark.parametrize("what", ["file", "mode", "argument", "architecture", "dockerfile", "no_cache", "removed"])
def test_what_changed_is_built_again(repo, engine, options, what) -> None:
    request = repo.request("changing", "COPY . /all")
    build(repo, request, engine, options)
    assert not build(repo, request, engine, options)["changed"]
    if what == "file":
        repo.write("docker/data.txt", "other")
    elif what == "mode":
        (repo.folder / "docker/data.txt").chmod(0o755)
    elif what == "argument":
        request = {**request, "build_args": {"A": "2"}}
    elif what == "architecture":
        request = {**request, "gpu_architecture": "gfx942"}
    elif what == "dockerfile":
        repo.request("changing", "COPY . /all", "RUN true")
    elif what == "no_cache":
        options = options._replace(no_cache=True)
    else:
        docker("rmi", request["image"])
    assert build(repo, request, engine, options)["changed"]


def test_another_base_image_under_the_same_name_is_another_content(repo, engine, options) -> None:
    base = repo.request("base", "RUN echo one > /one")
    build(repo, base, engine, options)
    child = repo.request("child", "RUN cat /one", base=base["image"])
    build(repo, child, engine, options)
    build(repo, repo.request("base", "RUN echo two > /one"), engine, options)
    assert build(repo, child, engine, options)["changed"]
    assert inside(child["image"], "cat", "/one") == "two"


def test_a_failure_shows_the_last_lines_and_stops_nobody(repo, engine, options) -> None:
    good = repo.request("good", "RUN true")
    bad = repo.request("bad", "RUN echo the reason why; exit 7")
    before = docker("ps", "-aq")
    outcomes = builder.build_all([bad, good], lambda request: build(repo, request, engine, options), 2)
    assert [outcome["status"] for outcome in outcomes] == ["FAILURE", "SUCCESS"]
    reason = outcomes[0]["reason"]
    assert outcomes[0]["failure_class"] == "image"
    for part in (bad["image"], "tests/bad", bad["dockerfile"], "on n1", "the reason why", "tests_bad_bad.ubuntu.build.live.log"):
        assert part in reason
    assert docker("ps", "-aq") == before


def test_builds_run_side_by_side(repo, engine, options) -> None:
    requests = [repo.request("side%d" % number, "RUN sleep 2; echo %s%d" % (repo.mark, number)) for number in range(2)]
    started = time.monotonic()
    outcomes = builder.build_all(requests, lambda request: build(repo, request, engine, options), 2)
    side_by_side = time.monotonic() - started
    assert [outcome["status"] for outcome in outcomes] == ["SUCCESS", "SUCCESS"]
    assert side_by_side < sum(outcome["seconds"] for outcome in outcomes) - 1.5


def test_a_base_image_that_is_nowhere_is_named(repo, engine, options) -> None:
    request = repo.request("nobase", "RUN true", base="localhost:1/mad-test/absent:1")
    with pytest.raises(ImageError, match="base image localhost:1/mad-test/absent:1 is not on the build host and cannot be pulled"):
        build(repo, request, engine, options)


def test_pull_always_without_a_registry_uses_what_is_here_and_says_so(repo, engine, options, tmp_path) -> None:
    docker("tag", repo.base, "localhost:1/%s:1" % repo.mark)
    request = repo.request("stale", "RUN true", base="localhost:1/%s:1" % repo.mark)
    done = build(repo, request, engine, options._replace(pull="always"))
    assert done["changed"]
    assert "cannot be refreshed, the local image sha256:" in (tmp_path / "logs" / done["record"]["log_file"]).read_text()


def test_stopped_in_the_middle_leaves_nothing(repo, engine, options) -> None:
    request = repo.request("long", "RUN echo started %s; sleep 60" % repo.mark)
    before, commands = docker("ps", "-aq"), Commands()
    stopper = threading.Timer(2.5, commands.stop)
    stopper.start()
    started = time.monotonic()
    with pytest.raises(ImageError, match="was killed by signal 15|ended with"):
        build(repo, request, engine, options, commands=commands)
    stopper.join()
    assert time.monotonic() - started < 30
    deadline = time.monotonic() + 120
    while docker("ps", "-aq") != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert docker("ps", "-aq") == before
    assert engine.image(request["image"]) is None


def test_a_time_limit_ends_a_build(repo, engine, options) -> None:
    request = repo.request("late", "RUN sleep 61")
    with pytest.raises(ImageError, match="did not end in 2 s"):
        build(repo, request, engine, options._replace(timeout=2))


def test_an_engine_that_is_gone_is_said_for_every_image(repo, tmp_path) -> None:
    requests = [repo.source(repo.request(name, "RUN true")) for name in ("a", "b")]
    job = build_host.Job(requests, "x", "c1", "n1", work_dir=str(tmp_path / "work"), engine="docker")
    environment = dict(os.environ)
    os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    try:
        result = build_host.run(job, build_host.Secrets())
    finally:
        os.environ.clear()
        os.environ.update(environment)
    assert [outcome["status"] for outcome in result["outcomes"]] == ["FAILURE", "FAILURE"]
    assert "no container engine can build images here" in result["outcomes"][0]["reason"]


# -- secrets ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["MAD_SECRETS_TOKEN", "my_git_PASSWORD", "HF_TOKEN=default"])
def test_a_secret_as_argument_is_refused_with_the_form_to_use(repo, engine, options, argument) -> None:
    request = repo.request("leak", "ARG " + argument, "RUN true", secret_build=["HF_TOKEN"], cred="my_git")
    name = argument.partition("=")[0]
    with pytest.raises(InvalidInput, match="mad_allow_secret_build_args") as caught:
        build(repo, request, engine, options, secrets={name: SECRET})
    assert "RUN --mount=type=secret,id=%s" % name in caught.value.message
    assert SECRET not in caught.value.message


def test_an_allowed_secret_argument_stands_in_no_command_log_or_record(repo, engine, options, tmp_path) -> None:
    request = repo.request(
        "allowed", "ARG HF_TOKEN", 'RUN echo "token $HF_TOKEN"; printf %s "$HF_TOKEN" | wc -c > /size', secret_build=["HF_TOKEN"]
    )
    done = build(repo, request, engine, options._replace(allow_secret_build_args=True), secrets={"HF_TOKEN": SECRET})
    assert inside(request["image"], "cat", "/size") == str(len(SECRET))
    assert "--build-arg HF_TOKEN" in done["record"]["build_command"]
    log = (tmp_path / "logs" / done["record"]["log_file"]).read_text()
    assert "token ********" in log
    assert SECRET not in log + json.dumps(done)


def test_an_argument_that_would_steer_the_client_is_refused(repo, engine, options) -> None:
    request = repo.request("steer", "ARG DOCKER_HOST", "RUN true", secret_build=["DOCKER_HOST"])
    with pytest.raises(InvalidInput, match="DOCKER_HOST would change"):
        build(repo, request, engine, options._replace(allow_secret_build_args=True), secrets={"DOCKER_HOST": "tcp://evil:1"})


def buildkit_engine() -> image_engine.ImageEngine:
    """A docker whose client speaks BuildKit: several may be installed."""
    for folder in os.environ["PATH"].split(os.pathsep) + ["/usr/bin"]:
        program = os.path.join(folder, "docker")
        if os.access(program, os.X_OK):
            found = image_engine.ImageEngine("docker", program)
            if found.builder.buildkit:
                return found
    components.strict() and pytest.fail("ABSENT BuildKit: no docker client here has it")
    pytest.skip("ABSENT BuildKit: no docker client here has it")


def test_build_secrets_reach_the_build_and_nothing_else(repo, docker_host, options, tmp_path) -> None:
    engine = buildkit_engine()
    mount = "RUN --mount=type=secret,id=my_git_PASSWORD "
    lines = [mount + "echo %s; cat /run/secrets/my_git_PASSWORD; wc -c < /run/secrets/my_git_PASSWORD > /size" % repo.mark]
    request = repo.request("mounted", *lines, secret_build=["my_git_PASSWORD"], cred="my_git")
    done = build(repo, request, engine, options, secrets={"my_git_PASSWORD": SECRET, "DOCKER_HOST": "tcp://never-used:1"})
    assert inside(request["image"], "cat", "/size") == str(len(SECRET))
    log = (tmp_path / "logs" / done["record"]["log_file"]).read_text()
    history = docker("history", "--no-trunc", request["image"]) + docker("image", "inspect", request["image"])
    assert "********" in log
    assert SECRET not in log + history + json.dumps(done)
    assert not build(repo, request, engine, options, secrets={"my_git_PASSWORD": "another-value"})["changed"]


def test_the_classic_builder_says_what_it_lacks(repo, docker_host, options) -> None:
    engine = image_engine.ImageEngine("docker", shutil.which("docker"), {**os.environ, "DOCKER_BUILDKIT": "0"})
    request = repo.request("needs", "RUN --mount=type=secret,id=X true")
    with pytest.raises(ImageError, match="needs BuildKit .* install docker buildx or podman"):
        build(repo, request, engine, options)
