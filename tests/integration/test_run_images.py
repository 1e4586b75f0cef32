# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mad.engine.run and images: from a registry, as archives, from manifests of ours and of madengine, on hosts with engines of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.engine import OwnEngine
from ansible_collections.mad.engine.tests.support.mad_repo import NUMBER, MadRepo, mad_repo
from ansible_collections.mad.engine.tests.support.podman import OwnPodman
from ansible_collections.mad.engine.tests.support.registry import PASSWORD, Registry
from ansible_collections.mad.engine.tests.support.sshd import PATH, Fleet

__all__ = ["mad_repo"]  # a fixture
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def other_engine(docker_host: str) -> Iterator[str]:
    """Give DOCKER_HOST of a second engine, which shares nothing with the first."""
    components.require("root")
    own = OwnEngine()
    try:
        yield own.start().host
    finally:
        own.stop()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Give a registry with a login."""
    components.require("registry")
    found = Registry(tmp_path_factory.mktemp("registry")).start()
    yield found
    found.stop()


@pytest.fixture()
def two(mad_repo: MadRepo, fleet: Fleet, other_engine: str) -> MadRepo:
    """Give a repository for two SSH hosts, each with an engine of its own."""
    fleet.add("n1")
    fleet.add("n2", environment={"DOCKER_HOST": other_engine})
    mad_repo.inventory = fleet.write_inventory(mad_repo.home / "fleet.json")
    mad_repo.also_on(["docker", "--host", other_engine])
    return mad_repo


def docker(*words: str, host: str = "") -> str:
    """What a docker command prints that must succeed."""
    argv = ["docker", *(["--host", host] if host else []), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def has(image: str, host: str = "") -> bool:
    """Whether an engine has an image."""
    return bool(docker("images", "--quiet", "--no-trunc", image, host=host))


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def credentials(repo: MadRepo, registry: Registry, **words: str) -> str:
    """Write a credential file for a registry."""
    path = repo.home / ("credential-%s.json" % hashlib.sha256(repr(words).encode()).hexdigest()[:6])
    path.write_text(json.dumps(registry.credentials(**words)), "utf-8")
    return str(path)


def test_from_the_manifest_alone_with_a_registry(two: MadRepo, registry: Registry, other_engine: str, tmp_path: Path) -> None:
    """Built and pushed once; then no discovery, no build: pulled by id where it is not, run, with the digest in the row."""
    two.model("pushed", "cat /own\n" + NUMBER, "RUN echo inside %s > /own" % two.mark)
    login = credentials(two, registry)
    output = two.home / "build_manifest.json"
    built = two.build(mad_registry=registry.address, mad_credential_file=login, mad_manifest_output=str(output), mad_build_host="n1")
    assert built.status == 0, built.output
    record = json.loads(output.read_text())["built_images"][two.image("pushed")]
    assert record["registry_image"] == "%s/%s" % (registry.address, two.image("pushed"))
    docker("rmi", "--force", record["digest"])
    two.write("models.json", "this is not read any more")
    before = checksum(output)
    played = two.run("", mad_manifest=str(output), mad_credential_file=login, campaign="c2")
    assert played.status == 0, played.output
    for host in ("n1", "n2"):
        found = two.record("pushed", host, "c2")
        assert (found["status"], found["image"]["digest"]) == ("SUCCESS", record["digest"]), found
        assert "inside " + two.mark in two.log(found)
    assert has(record["registry_image"]) and has(record["registry_image"], other_engine)
    assert checksum(output) == before and PASSWORD not in played.output
    assert not (two.results / "c2" / "build_manifest.json").exists()
    elsewhere = _move_to_another_registry(two, record, tmp_path)
    try:
        docker("rmi", "--force", record["digest"], host=other_engine)
        moved = two.run("", "--limit", "n2", mad_manifest=str(output), mad_registry=elsewhere.address, campaign="c3")
        assert moved.status == 0, moved.output
        assert two.record("pushed", "n2", "c3")["image"]["digest"] == record["digest"]
        assert has("%s/%s" % (elsewhere.address, two.image("pushed")), other_engine) and not has(record["registry_image"], other_engine)
        assert checksum(output) == before
    finally:
        elsewhere.stop()


def _move_to_another_registry(repo: MadRepo, record: dict[str, Any], folder: Path) -> Registry:
    """The same image in a registry that the manifest does not name."""
    found = Registry(folder / "elsewhere", login=False).start()
    name = "%s/%s" % (found.address, repo.image("pushed"))
    docker("tag", record["registry_image"], name)
    docker("push", "--quiet", name)
    return found


def test_a_refused_push_is_class_image_and_code_2(two: MadRepo, registry: Registry) -> None:
    """The wrong password: the manifest says so; the host that built it has the image and runs it, the other one has a row of class image."""
    two.model("refused")
    login = credentials(two, registry, password="wrong-password-1234")
    played = two.run(mad_registry=registry.address, mad_credential_file=login, mad_build_host="n1")
    manifest = two.read("build_manifest.json")
    assert played.status == 2, played.output
    assert [entry["image"] for entry in manifest["push_failures"]] == [two.image("refused")]
    assert two.read("summary.json")["exit_code"] == 2
    assert two.record("refused", "n1")["status"] == "SUCCESS"
    found = two.record("refused", "n2")
    assert (found["status"], found["failure_class"], found["launched"]) == ("FAILURE", "image", False), found
    assert "refused the login" in found["reason"], found["reason"]
    assert "wrong-password-1234" not in played.output + json.dumps(manifest)


def test_without_a_registry_archives_travel(two: MadRepo, other_engine: str) -> None:
    """Loaded on the host that lacks it, its id verified; a later campaign from the manifest alone finds the archive again."""
    two.model("carried", "cat /own\n" + NUMBER, "RUN echo inside %s > /own" % two.mark)
    played = two.run(mad_build_host="n1")
    assert played.status == 0, played.output
    digest = two.read("build_manifest.json")["built_images"][two.image("carried")]["digest"]
    for host in ("n1", "n2"):
        assert two.record("carried", host)["image"]["digest"] == digest
        assert "inside " + two.mark in two.log(two.record("carried", host))
    assert docker("images", "--quiet", "--no-trunc", two.image("carried"), host=other_engine) == digest
    docker("rmi", "--force", digest, host=other_engine)
    manifest = two.results / "c1" / "build_manifest.json"
    before = checksum(manifest)
    again = two.run("", mad_manifest=str(manifest), campaign="c2")
    assert again.status == 0, again.output
    assert two.record("carried", "n2", "c2")["status"] == "SUCCESS"
    assert checksum(manifest) == before


def test_a_damaged_or_another_archive_is_refused(two: MadRepo, other_engine: str) -> None:
    """Neither is ever started; the host that has the image goes on, and so does the model whose archive is good."""
    for name in ("damaged", "another", "good"):
        two.model(name, NUMBER, "RUN echo %s > /own" % name)
    built = two.build(mad_build_host="n1")
    assert built.status == 0, built.output
    images = two.read("build_manifest.json")["built_images"]
    archives = {
        name: two.results / "c1" / "images" / (images[two.image(name)]["digest"][7:] + ".tar") for name in ("damaged", "another", "good")
    }
    with archives["damaged"].open("r+b") as stream:
        stream.seek(4000)
        stream.write(b"damaged on its way")
    archives["another"].write_bytes(archives["good"].read_bytes())
    known = json.loads(Path(str(archives["good"]) + ".json").read_text())
    Path(str(archives["another"]) + ".json").write_text(json.dumps(dict(known, digest=images[two.image("another")]["digest"])))
    played = two.run()
    assert played.status == 2, played.output
    assert two.read("summary.json")["exit_code"] == 2
    for name in ("damaged", "another"):
        found = two.record(name, "n2")
        assert (found["failure_class"], found["launched"]) == ("image", False), found
        assert name != "damaged" or "damaged on its way" in found["reason"], found["reason"]
        assert two.record(name, "n1")["status"] == "SUCCESS"
    assert two.record("good", "n2")["status"] == "SUCCESS"


COUNTING = """\
#!/bin/sh
# One after the other: who looks for an image while somebody else does?
if [ "$1 $2" = "image inspect" ]; then
  mkdir {folder}/$$; ls {folder} | wc -l >> {log}; sleep 0.7; rmdir {folder}/$$
fi
exec /usr/bin/docker "$@"
"""


@pytest.mark.parametrize("limit", [1, 3])
def test_so_many_hosts_are_staged_at_the_same_time(mad_repo: MadRepo, fleet: Fleet, limit: int) -> None:
    folder, log, program = mad_repo.home / "looking", mad_repo.home / "looking.log", mad_repo.home / "bin" / "docker"
    folder.mkdir()
    program.parent.mkdir()
    program.write_text(COUNTING.format(folder=folder, log=log))
    program.chmod(0o755)
    for name in ("n1", "n2", "n3"):
        fleet.add(name, environment={"PATH": "%s:%s" % (program.parent, PATH)})
    mad_repo.inventory = fleet.write_inventory(mad_repo.home / "fleet.json")
    mad_repo.model("staged")
    context = {"MAD_CONTAINER_IMAGE": mad_repo.base}
    played = mad_repo.run(mad_context=context, mad_stage_parallel=limit, mad_runtime="docker")
    assert played.status == 0, played.output
    most = max(int(line) for line in log.read_text().split())
    assert most == 1 if limit == 1 else most > 1, log.read_text()


def test_a_manifest_of_madengine_runs(mad_repo: MadRepo) -> None:
    """As madengine writes it: no ids, variables of the machine that built in the context, a card that only the manifest has, secrets in both."""
    name = mad_repo.model("old", "echo $FOO $MAD_SYSTEM_GPU_ARCHITECTURE $ONLY_HERE ${#HF_TOKEN} ${#CARD_TOKEN}\n" + NUMBER)
    image = mad_repo.image("old")
    subprocess.run(
        ["docker", "build", "--quiet", "--network=host", "--tag", image, "-"],
        input="FROM %s\n" % mad_repo.base,
        text=True,
        check=True,
        capture_output=True,
    )
    record = {
        **{"model": name, "docker_image": image, "dockerfile": "docker/old.ubuntu.Dockerfile", "base_docker": mad_repo.base},
        **{"docker_sha": "Error: no such manifest", "build_duration": 0.297, "build_command": "docker build ./docker"},
        **{"log_file": "old.build.live.log", "gpu_vendor": ""},
    }
    document = {
        "built_images": {image: record},
        "built_models": {image: {**mad_repo.cards[0], "tags": ["dummies"], "args": "", "env_vars": {"ONLY_HERE": "card", "CARD_TOKEN": "123456789"}}},
        "context": {
            "docker_env_vars": {"ROCM_PATH": "/opt/rocm", "FOO": "bar baz", "HF_TOKEN": "12345678", "MAD_SYSTEM_GPU_ARCHITECTURE": "gfx942"},
            **{"docker_mounts": {}, "docker_build_arg": {}, "gpu_vendor": "AMD", "guest_os": "UBUNTU", "docker_gpus": ""},
        },
        "credentials_required": [],
        "summary": {
            "successful_builds": [record],
            "failed_builds": [],
            "total_build_time": 0.297,
            "successful_pushes": [],
            "failed_pushes": [],
        },
        "deployment_config": {"target": "local", "env_vars": {}, "debug": False},
    }
    path = mad_repo.home / "build_manifest.json"
    path.write_text(json.dumps(document))
    (mad_repo.folder / "models.json").unlink()
    before = checksum(path)
    played = mad_repo.run("", mad_manifest=str(path))
    assert played.status == 0, played.output
    found = mad_repo.record("old")
    assert found["image"]["digest"] == docker("image", "inspect", "--format", "{{.Id}}", image)
    assert mad_repo.log(found).startswith("bar baz card 8 9\n")
    assert found["image"]["docker_sha"] == "" and checksum(path) == before


@pytest.fixture(scope="module")
def podman() -> Iterator[OwnPodman]:
    """Give podman with its own storage."""
    components.require("podman", "root")
    own = OwnPodman()
    yield own
    own.close()


def test_docker_podman_and_no_engine_in_one_campaign(mad_repo: MadRepo, fleet: Fleet, podman: OwnPodman) -> None:
    """Docker builds, podman loads the archive, the third needs neither; the same id on both."""
    fleet.add("n1", mad_runtime="docker")
    fleet.add("n2", environment=podman.settings, mad_runtime="podman")
    fleet.add("n3", mad_runtime="host")
    mad_repo.inventory = fleet.write_inventory(mad_repo.home / "fleet.json")
    mad_repo.model("anywhere", "cat /own 2>/dev/null\n" + NUMBER, "RUN echo inside %s > /own" % mad_repo.mark)
    played = mad_repo.run()
    assert played.status == 0, played.output
    found = {host: mad_repo.record("anywhere", host) for host in ("n1", "n2", "n3")}
    assert {host: one["target"]["runtime"] for host, one in found.items()} == {"n1": "docker", "n2": "podman", "n3": "host"}
    assert found["n1"]["image"]["digest"] == found["n2"]["image"]["digest"] and found["n3"]["image"] is None
    assert [("inside " + mad_repo.mark) in mad_repo.log(one) for one in found.values()] == [True, True, False]
    listed = subprocess.run(["podman", "ps", "--all", "--quiet"], env=podman.environment, capture_output=True, text=True, check=True)
    assert listed.stdout == ""


def test_podman_builds_and_runs(mad_repo: MadRepo, podman: OwnPodman, tmp_path: Path) -> None:
    """The whole way with podman alone, its build secret included."""
    podman.load(mad_repo.base, tmp_path)
    lines = ["RUN --mount=type=secret,id=HF_TOKEN sh -c 'wc -c < /run/secrets/HF_TOKEN > /size'"]
    mad_repo.model("pod", "cat /size; echo $HF_TOKEN | wc -c\n" + NUMBER, *lines)
    context = {"docker_build_arg": {"HF_TOKEN": "build-secret-1"}, "docker_env_vars": {"HF_TOKEN": "run-secret-22"}}
    played = mad_repo.run(mad_runtime="podman", mad_context=context, env=podman.settings)
    assert played.status == 0, played.output
    found = mad_repo.record("pod")
    assert found["target"]["runtime"] == "podman" and mad_repo.log(found).split()[:2] == ["14", "14"], mad_repo.log(found)
    assert "build-secret-1" not in played.output and "run-secret-22" not in played.output
