# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build hosts: pushes to a real registry, sources and archives, podman."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_file
from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError
from ansible_collections.mad.engine.plugins.module_utils.building import build_host, build_source, builder
from ansible_collections.mad.engine.plugins.module_utils.containers import image_archive, image_engine
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
    run_job,
)
from ansible_collections.mad.engine.tests.support.podman import OwnPodman
from ansible_collections.mad.engine.tests.support.registry import PASSWORD

pytestmark = pytest.mark.real
FIXTURES = (make_engine, make_options, make_registry, make_repo)  # pytest finds them here


# -- registry --------------------------------------------------------------------------------------------------------------------


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
        components.absent("mount: this root may not mount a tmpfs")
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


def test_an_image_that_was_there_already_is_pushed_by_another_campaign(repo, docker_host, registry, tmp_path) -> None:
    request = repo.request("there", "RUN true")
    assert run_job(repo, tmp_path / "one", [request])["outcomes"][0]["status"] == "SUCCESS"
    secrets = build_host.Secrets(logins=registry.credentials())
    again = run_job(repo, tmp_path / "two", [request], secrets, registry=registry.address)["outcomes"][0]
    assert again["status"] == "SKIPPED" and again["push"]["digest"] == registry.digest(request["image"], "latest"), again


# -- podman ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def podman(tmp_path_factory) -> Iterator[image_engine.ImageEngine]:
    """Podman with storage and settings of its own."""
    components.require("podman", "root")
    own = OwnPodman()
    yield image_engine.find("podman", own.environment)
    own.close()


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
