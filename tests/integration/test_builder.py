# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images built, pushed and saved by real engines and a real registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils import build_host, build_source, builder, image_archive, image_engine
from ansible_collections.mad.engine.plugins.module_utils.build_log import Commands
from ansible_collections.mad.engine.plugins.module_utils.canonical import hash_file
from ansible_collections.mad.engine.plugins.module_utils.errors import ImageError, InvalidInput
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.registry import PASSWORD, Registry

pytestmark = pytest.mark.real
SECRET = "hunter2-hunter2"


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


@pytest.fixture()
def repo(tmp_path: Path, tiny_image: str) -> Iterator[Repo]:
    repo = Repo(tmp_path / "repo", tiny_image)
    yield repo
    known = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in [name for name in known if repo.mark in name] + sorted(repo.digests):
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def engine(docker_host: str) -> image_engine.ImageEngine:
    return image_engine.find("docker")


@pytest.fixture()
def options(tmp_path: Path) -> builder.Options:
    return builder.Options(str(tmp_path / "logs"), host="n1")


def build(repo: Repo, request: dict[str, Any], engine: image_engine.ImageEngine, options: builder.Options, **more: Any) -> dict[str, Any]:
    done = builder.build(request, str(repo.folder), engine, options, **more)
    repo.digests.add(done["record"]["digest"])
    return done


def inside(image: str, *command: str, program: str = "docker") -> str:
    return docker("run", "--rm", "--network", "none", image, *command, program=program)


HOSTILE = 'it\'s "q" $(id) `id` ; rm -rf / \\ \n second line é'


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
    assert "Successfully" in (tmp_path / "logs" / record["log_file"]).read_text() or engine.buildkit


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
    deadline = time.monotonic() + 15
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
            if found.buildkit:
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


# -- registry --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[Registry]:
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


def test_push_with_a_login_and_run_by_digest(repo, registry, tmp_path) -> None:
    request = repo.request("pushed", "RUN echo pushed > /x")
    name = "%s/team/%s" % (registry.address, request["image"])
    secrets = build_host.Secrets(logins={registry.address + "/team": registry.credentials()[registry.address]})
    first = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address + "/team")["outcomes"][0]
    again = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address + "/team")["outcomes"][0]
    try:
        assert first["push"] == {"name": name, "digest": registry.digest("team/" + request["image"], "latest"), "sent": True}
        assert again["push"] == {**first["push"], "sent": False}
        assert again["status"] == "SKIPPED"
        docker("rmi", "--force", first["record"]["digest"])
        config = tmp_path / "other"
        login = ["docker", "--config", str(config), "login", "-u", "mad-tester", "--password-stdin", registry.address]
        subprocess.run(login, input=PASSWORD, text=True, check=True, capture_output=True)
        reference = "%s@%s" % (name, first["push"]["digest"])
        docker("--config", str(config), "pull", reference)
        assert docker("image", "inspect", "--format", "{{.Id}}", reference) == first["record"]["digest"]
    finally:
        subprocess.run(["docker", "rmi", "--force", first["record"]["digest"]], capture_output=True, check=False)


def test_with_a_repository_the_image_is_its_tag(repo, registry, tmp_path) -> None:
    request = repo.request("tagged", "RUN true")
    secrets = build_host.Secrets(logins=registry.credentials(repository="your-repository"))
    outcome = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address)["outcomes"][0]
    assert outcome["push"]["name"] == "%s/your-repository:%s" % (registry.address, request["image"])
    assert registry.digest("your-repository", request["image"]) == outcome["push"]["digest"]


def test_a_wrong_password_is_a_failed_push_of_a_built_image(repo, registry, tmp_path) -> None:
    request = repo.request("refused", "RUN true")
    secrets = build_host.Secrets(logins=registry.credentials(password="wrong-password"))
    outcome = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address)["outcomes"][0]
    assert outcome["status"] == "SUCCESS"
    assert "refused the login as mad-tester" in outcome["push"]["error"]
    assert "wrong-password" not in json.dumps(outcome)


def test_without_a_login_the_push_is_refused(repo, registry, tmp_path) -> None:
    outcome = run_job(repo, tmp_path / "work", [repo.request("nologin", "RUN true")], registry=registry.address)["outcomes"][0]
    assert "was not pushed as" in outcome["push"]["error"]


def test_a_registry_that_is_not_there(repo, tmp_path, docker_host) -> None:
    outcome = run_job(repo, tmp_path / "work", [repo.request("nowhere", "RUN true")], registry="localhost:1")["outcomes"][0]
    assert outcome["status"] == "SUCCESS"
    assert "was not pushed as localhost:1/" in outcome["push"]["error"]


def test_logins_leave_nothing_behind(repo, registry, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = tmp_path / "home" / ".docker"
    own.mkdir(parents=True)
    (own / "config.json").write_text('{"auths": {"kept.example.com": {}}, "credsStore": "does-not-exist"}')
    work = tmp_path / "work"
    (work / "builds" / "auth-999999999-stale").mkdir(parents=True)
    outcome = run_job(
        repo, work, [repo.request("clean", "RUN true")], build_host.Secrets(logins=registry.credentials()), registry=registry.address
    )["outcomes"][0]
    assert "error" not in outcome["push"]
    assert not [name for name in os.listdir(work / "builds") if name.startswith("auth-")]
    assert json.loads((own / "config.json").read_text()) == {"auths": {"kept.example.com": {}}, "credsStore": "does-not-exist"}
    for path in work.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_a_private_base_image_is_pulled_with_the_credential(repo, registry, tmp_path) -> None:
    base = repo.request("privatebase", "RUN echo base > /base")
    secrets = build_host.Secrets(logins=registry.credentials())
    pushed = run_job(repo, tmp_path / "work", [base], secrets, registry=registry.address)["outcomes"][0]
    docker("rmi", "--force", pushed["record"]["digest"])
    child = repo.request("privatechild", "RUN cat /base", base=pushed["push"]["name"])
    outcome = run_job(repo, tmp_path / "work", [child], secrets)["outcomes"][0]
    assert outcome["status"] == "SUCCESS", outcome["reason"]
    assert outcome["record"]["docker_sha"] == pushed["push"]["digest"]


# -- sources and archives --------------------------------------------------------------------------------------------------------


def test_sources_are_sent_once(repo, tmp_path, docker_host) -> None:
    work, request = tmp_path / "work", repo.source(repo.request("sent", "COPY data.txt /d", "COPY link /l"))
    os.symlink("data.txt", repo.folder / "docker" / "link")
    request = repo.source({key: value for key, value in request.items() if key != "source"})
    job = build_host.Job([request], build_source.archive_id([request["source"]]), "c1", "n1", work_dir=str(work), engine="docker")
    assert build_host.run(job, build_host.Secrets()) == {"missing_source": True}
    result = run_job(repo, work, [request])
    assert result["outcomes"][0]["status"] == "SUCCESS", result["outcomes"][0]["reason"]
    assert inside(request["image"], "cat", "/l") == "data"
    again = build_host.run(job, build_host.Secrets())
    assert again["outcomes"][0]["status"] == "SKIPPED"
    docker("rmi", request["image"])
    assert build_host.run(job, build_host.Secrets())["outcomes"][0]["status"] == "SUCCESS"


def test_an_unchanged_image_needs_no_sources_at_all(repo, tmp_path, docker_host) -> None:
    request = repo.source(repo.request("nosource", "RUN true"))
    assert run_job(repo, tmp_path / "one", [request])["outcomes"][0]["status"] == "SUCCESS"
    job = build_host.Job(
        [request], build_source.archive_id([request["source"]]), "c1", "n1", work_dir=str(tmp_path / "two"), engine="docker"
    )
    assert build_host.run(job, build_host.Secrets())["outcomes"][0]["status"] == "SKIPPED"
    assert not (tmp_path / "two" / "builds" / "source").exists()


def test_damaged_sources_are_not_built_from(repo, tmp_path, docker_host) -> None:
    request = repo.source(repo.request("damaged", "RUN true"))
    archive = tmp_path / "a.tar.gz"
    build_source.pack([request["source"]], str(repo.folder), str(archive))
    archive.write_bytes(archive.read_bytes()[:-3] + b"xyz")
    job = build_host.Job([request], "id", "c1", "n1", str(archive), "0" * 64, work_dir=str(tmp_path / "work"), engine="docker")
    with pytest.raises(ImageError, match="damaged on its way to n1"):
        build_host.run(job, build_host.Secrets())


def test_prediction_changes_nothing(repo, tmp_path, docker_host) -> None:
    request = repo.source(repo.request("predicted", "RUN true"))
    job = build_host.Job([request], "id", "c1", "n1", work_dir=str(tmp_path / "work"), engine="docker")
    assert build_host.predict(job)["outcomes"][0]["status"] == "SUCCESS"
    assert not (tmp_path / "work").exists()
    run_job(repo, tmp_path / "other", [request])
    assert build_host.predict(job)["outcomes"][0]["status"] == "SKIPPED"


def test_logs_come_as_one_file(repo, tmp_path, docker_host) -> None:
    requests = [repo.request("log1", "RUN echo one-%s" % repo.mark), repo.request("log2", "RUN echo two; false")]
    logs = run_job(repo, tmp_path / "work", requests)["logs"]
    assert logs["sha256"] == hash_file(logs["path"])
    paths = build_host.unpack_logs(logs["path"], str(tmp_path / "build"))
    assert sorted(os.path.basename(path) for path in paths) == [
        "tests_log1_log1.ubuntu.build.live.log",
        "tests_log2_log2.ubuntu.build.live.log",
    ]
    assert "one-" + repo.mark in Path(sorted(paths)[0]).read_text()


def test_an_archive_brings_the_same_image(repo, engine, options, tmp_path) -> None:
    request = repo.request("saved", "RUN echo saved > /x")
    record = build(repo, request, engine, options)["record"]
    saved = image_archive.save(engine, request["image"], record["digest"], str(tmp_path / "images"))
    assert saved["changed"]
    assert saved["path"].endswith(record["digest"][7:] + ".tar")
    assert saved["sha256"] == hash_file(saved["path"])
    assert not image_archive.save(engine, request["image"], record["digest"], str(tmp_path / "images"))["changed"]
    docker("rmi", "--force", record["digest"])
    docker("load", "--input", saved["path"])
    assert docker("image", "inspect", "--format", "{{.Id}}", request["image"]) == record["digest"]
    assert sorted(os.listdir(tmp_path / "images")) == [record["digest"][7:] + ".tar", record["digest"][7:] + ".tar.json"]


def test_only_the_image_that_was_built_is_saved(repo, engine, options, tmp_path) -> None:
    request = repo.request("replaced", "RUN echo 1")
    digest = build(repo, request, engine, options)["record"]["digest"]
    build(repo, repo.request("replaced", "RUN echo 2"), engine, options)
    with pytest.raises(ImageError, match="is no longer " + digest):
        image_archive.save(engine, request["image"], digest, str(tmp_path / "images"))


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    components.require("root")
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        components.strict() and pytest.fail("ABSENT mount: this root may not mount a tmpfs")
        pytest.skip("ABSENT mount: this root may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_in_one_sentence(repo, engine, options, tmp_path, small_disk) -> None:
    request = repo.request("full", "RUN echo full-%s" % repo.mark)
    digest = build(repo, request, engine, options)["record"]["digest"]
    with pytest.raises(ImageError, match="needs .* MB in .*small.*where only .* MB are free"):
        image_archive.save(engine, request["image"], digest, str(small_disk / "images"))
    assert not list((small_disk / "images").iterdir())
    (repo.folder / "docker" / "big").write_bytes(os.urandom(3 << 20))
    request = repo.source({key: value for key, value in request.items() if key != "source"})
    archive = tmp_path / "big.tar.gz"
    build_source.pack([request["source"]], str(repo.folder), str(archive))
    with pytest.raises(ImageError, match="cannot be unpacked to .*No space left"):
        build_source.unpack(str(archive), str(small_disk / "source" / "x"))
    assert not list((small_disk / "source").iterdir())


def test_a_log_on_a_full_disk_fails_that_image_only(repo, engine, options, small_disk) -> None:
    noisy = repo.request("noisy", "RUN head -c 3000000 /dev/urandom | od | head -c 4000000; echo %s" % repo.mark)
    outcome = builder.build_all(
        [noisy], lambda request: build(repo, request, engine, options._replace(log_dir=str(small_disk / "logs"))), 1
    )[0]
    assert outcome["status"] == "FAILURE"
    assert "No space left on device" in outcome["reason"]


# -- podman ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def podman(tmp_path_factory) -> Iterator[image_engine.ImageEngine]:
    """Podman with storage and settings of its own."""
    components.require("podman", "root")
    folder = Path("/var/tmp/mad-podman-" + uuid.uuid4().hex[:8])
    folder.mkdir(mode=0o700)
    (folder / "containers.conf").write_text(
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n'
    )
    (folder / "storage.conf").write_text('[storage]\ndriver="vfs"\ngraphroot="%s/graph"\nrunroot="%s/run"\n' % (folder, folder))
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
    yield image_engine.find("podman", environment)
    subprocess.run(["podman", "system", "reset", "--force"], env=environment, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture()
def podman_base(podman, repo, tmp_path) -> str:
    """The tiny image inside podman."""
    archive = tmp_path / "base.tar"
    docker("save", "--output", str(archive), repo.base)
    subprocess.run(["podman", "load", "--input", str(archive)], env=podman.environment, check=True, capture_output=True)
    return repo.base


def test_podman_builds_the_same_way(repo, podman, podman_base, options, tmp_path) -> None:
    repo.write("docker/common/tool.sh", "echo tool\n")
    lines = ["ARG VALUE", 'RUN printf %s "$VALUE" > /value', "COPY --from=tools tool.sh /tool.sh"]
    lines += ["RUN --mount=type=secret,id=HF_TOKEN cat /run/secrets/HF_TOKEN; wc -c < /run/secrets/HF_TOKEN > /size"]
    request = repo.request("pod", *lines, build_args={"VALUE": HOSTILE}, secret_build=["HF_TOKEN"])
    done = build(repo, request, podman, options, secrets={"HF_TOKEN": SECRET})
    record = done["record"]
    assert done["changed"]
    assert not build(repo, request, podman, options)["changed"]
    assert SECRET not in (tmp_path / "logs" / record["log_file"]).read_text() + json.dumps(record)
    saved = image_archive.save(podman, request["image"], record["digest"], str(tmp_path / "images"))
    docker("load", "--input", saved["path"])
    assert docker("image", "inspect", "--format", "{{.Id}}", request["image"]) == record["digest"]
    assert inside(request["image"], "cat", "/value") == HOSTILE
    assert inside(request["image"], "sh", "/tool.sh") == "tool"
    assert inside(request["image"], "cat", "/size") == str(len(SECRET))


def test_podman_pushes_with_a_login(repo, podman, podman_base, registry, tmp_path, monkeypatch) -> None:
    for name in ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"):
        monkeypatch.setenv(name, podman.environment[name])
    request = repo.request("podpush", "RUN true")
    secrets = build_host.Secrets(logins=registry.credentials())
    first = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address, engine="podman")["outcomes"][0]
    again = run_job(repo, tmp_path / "work", [request], secrets, registry=registry.address, engine="podman")["outcomes"][0]
    assert first["push"] == {
        "name": "%s/%s" % (registry.address, request["image"]), "digest": registry.digest(request["image"], "latest"), "sent": True,
    }  # fmt: skip
    assert again["status"] == "SKIPPED"
    wrong = build_host.Secrets(logins=registry.credentials(password="wrong-password"))
    assert (
        "refused the login"
        in run_job(repo, tmp_path / "work", [request], wrong, registry=registry.address, engine="podman")["outcomes"][0]["push"]["error"]
    )
