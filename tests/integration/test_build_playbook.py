# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook mad.engine.build as a person runs it: from tags to images, a manifest and an exit code."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.tests.support.play import Played, play

pytestmark = pytest.mark.real


class Repo:
    """A MAD repository whose model names nobody else has."""

    def __init__(self, folder: Path, base: str) -> None:
        self.home, self.folder, self.base = folder, folder / "repo", base
        self.mark = "t" + uuid.uuid4().hex[:8]
        self.models: list[dict[str, Any]] = []
        (self.folder / "docker").mkdir(parents=True)
        (self.folder / "scripts").mkdir()
        (self.folder / "scripts" / "run.sh").write_text("echo performance: 1 x\n")

    def model(self, name: str, *tags: str, **more: Any) -> str:
        """Add a model; returns its name."""
        full = "%s_%s" % (self.mark, name)
        card = {
            "name": full,
            "dockerfile": "docker/" + name,
            "scripts": "scripts/run.sh",
            "n_gpus": "0",
            "args": "",
            "tags": [*tags, "all_of_them"],
        }
        self.models.append({**card, **more})
        (self.folder / "models.json").write_text(json.dumps(self.models))
        return full

    def dockerfile(self, name: str, *lines: str, context: str = "{'guest_os': 'UBUNTU'}") -> None:
        """Write a Dockerfile with a CONTEXT header."""
        head = ["# CONTEXT " + context, "ARG BASE_DOCKER=" + self.base, "FROM $BASE_DOCKER"]
        (self.folder / "docker" / name).write_text("\n".join([*head, *lines, ""]))

    def image(self, name: str) -> str:
        """Return the name of the image of `<name>.ubuntu.Dockerfile`."""
        return "ci-%s_%s_%s.ubuntu" % (self.mark, name, name)

    def build(self, tags: str = "all_of_them", *arguments: str, **variables: Any) -> Played:
        """Run the playbook on this machine, without an inventory."""
        known = {
            "mad_repo": str(self.folder),
            "mad_results": str(self.home / "results"),
            "mad_work_dir": str(self.home / "work"),
            "mad_campaign": "c1",
        }
        inventory = variables.pop("inventory", None)
        env = variables.pop("env", None)
        tagged = {"mad_tags": tags} if tags else {}
        return play(
            "mad.engine.build", self.home, inventory=inventory, variables={**known, **tagged, **variables}, arguments=arguments, env=env
        )

    def read(self, name: str) -> Any:
        """Return a JSON file of the campaign."""
        return json.loads((self.home / "results" / "c1" / name).read_text())


@pytest.fixture()
def repo(tmp_path: Path, tiny_image: str) -> Iterator[Repo]:
    found = Repo(tmp_path, tiny_image)
    yield found
    names = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in [name for name in names if found.mark in name]:
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)


def test_good_images(repo: Repo) -> None:
    repo.model("plain", "first")
    repo.dockerfile("plain.ubuntu.Dockerfile", "ARG VALUE", 'RUN test "$VALUE" = "it\'s \\"q\\""')
    output = repo.home / "copy.json"
    context = {"docker_build_arg": {"VALUE": 'it\'s "q"'}, "docker_env_vars": {"FOO": "bar baz"}}
    played = repo.build("first", mad_context=context, mad_manifest_output=str(output))
    assert played.status == 0, played.output
    document = manifest.read(str(output))
    assert [image["name"] for image in document["images"]] == [repo.image("plain")]
    assert document["images"][0]["base_docker"] == repo.base
    assert document["context"]["docker_env_vars"] == {"FOO": "bar baz"}
    assert document["models"][repo.image("plain")]["name"] == "%s_plain" % repo.mark
    assert repo.read("summary.json")["exit_code"] == 0
    again = repo.build("first", mad_context=context, mad_manifest_output=str(output))
    assert again.status == 0, again.output
    assert "unchanged " + repo.image("plain") in again.output


def test_a_bad_image_fails_the_play_with_code_2_and_the_others_are_built(repo: Repo) -> None:
    repo.model("good")
    repo.model("bad")
    repo.model("lost")
    repo.dockerfile("good.ubuntu.Dockerfile", "RUN true")
    repo.dockerfile("bad.ubuntu.Dockerfile", "RUN echo the reason; false")
    repo.dockerfile("lost.centos.Dockerfile", context="{'guest_os': 'CENTOS'}")
    played = repo.build()
    document = repo.read("build_manifest.json")
    assert played.status == 2, played.output
    assert list(document["built_images"]) == [repo.image("good")]
    assert "the reason" in document["summary"]["failed_builds"][0]["error"]
    assert repo.read("summary.json")["exit_code"] == 2
    assert "docker/lost.centos.Dockerfile has CONTEXT {guest_os: CENTOS}" in json.dumps(repo.read("summary.json"))
    assert (repo.home / "results" / "c1" / "build" / ("%s_bad_bad.ubuntu.build.live.log" % repo.mark)).exists()


def test_one_image_and_one_log_for_each_architecture(repo: Repo) -> None:
    repo.model("arch")
    repo.dockerfile("arch.ubuntu.Dockerfile", "ARG MAD_SYSTEM_GPU_ARCHITECTURE", "RUN echo for $MAD_SYSTEM_GPU_ARCHITECTURE")
    played = repo.build(mad_target_archs="gfx90a,mi300x")
    document = repo.read("build_manifest.json")
    assert played.status == 0, played.output
    assert sorted(document["built_images"]) == [repo.image("arch") + "_gfx90a", repo.image("arch") + "_gfx942"]
    for architecture in ("gfx90a", "gfx942"):
        log = repo.home / "results" / "c1" / "build" / ("%s_arch_arch.ubuntu_%s.build.live.log" % (repo.mark, architecture))
        assert "for " + architecture in log.read_text()
        assert document["built_images"]["%s_%s" % (repo.image("arch"), architecture)]["gpu_architecture"] == architecture


def test_a_push_that_fails_is_a_failure(repo: Repo) -> None:
    repo.model("pushed")
    repo.dockerfile("pushed.ubuntu.Dockerfile")
    played = repo.build(mad_registry="localhost:1")
    assert played.status == 2
    assert repo.read("summary.json")["exit_code"] == 2
    assert repo.read("build_manifest.json")["push_failures"][0]["image"] == repo.image("pushed")
    assert "was not pushed as localhost:1/" in played.output


def test_a_secret_of_the_context_as_argument_is_refused_unless_allowed(repo: Repo) -> None:
    repo.model("secret")
    repo.dockerfile("secret.ubuntu.Dockerfile", "ARG HF_TOKEN", 'RUN test -n "$HF_TOKEN"')
    context = {"docker_build_arg": {"HF_TOKEN": "hunter2-hunter2"}}
    refused = repo.build(mad_context=context)
    assert refused.status == 2
    assert "RUN --mount=type=secret,id=HF_TOKEN" in refused.output
    allowed = repo.build(mad_context=context, mad_allow_secret_build_args=True)
    assert allowed.status == 0, allowed.output
    assert "hunter2" not in refused.output + allowed.output
    for path in (repo.home / "results").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_neither_tags_nor_manifest_is_code_4(repo: Repo) -> None:
    repo.model("plain")
    assert repo.build("").status == 2
    assert json.loads((repo.home / "results" / "last-summary.json").read_text())["exit_code"] == 4


def test_check_mode_changes_nothing(repo: Repo) -> None:
    repo.model("plain")
    repo.dockerfile("plain.ubuntu.Dockerfile")
    played = repo.build("all_of_them", "--check", "--diff")
    assert played.status == 0, played.output
    assert repo.image("plain") in played.output
    assert not (repo.home / "results").exists()
    assert not (repo.home / "work").exists()


def test_the_controller_builds_for_another_host(repo: Repo, fleet: Any) -> None:
    repo.model("far")
    repo.dockerfile("far.ubuntu.Dockerfile", "RUN echo " + repo.mark)
    fleet.add("n1")
    played = repo.build(inventory=fleet.write_inventory(repo.home / "fleet.json"), mad_build_host="localhost")
    document = repo.read("build_manifest.json")
    assert played.status == 0, played.output
    assert document["built_images"][repo.image("far")]["build_host"] == "localhost"
    digest = document["built_images"][repo.image("far")]["digest"]
    assert (repo.home / "results" / "c1" / "images" / (digest[7:] + ".tar")).exists()


def test_a_build_host_that_hangs_is_given_up(repo: Repo, fleet: Any) -> None:
    """Its machine takes the task and never answers: after all its builds' time the play goes on, and the manifest says which host it was."""
    repo.model("stuck")
    repo.dockerfile("stuck.ubuntu.Dockerfile", "RUN true")
    fleet.add("n1")
    # The interpreter answers gpu_info and hangs on the builder: as a disk that no longer answers would have it.
    hanging = repo.home / "python3"
    hanging.write_text("#!/bin/sh\ncase $* in *image_build*) exec sleep 600 ;; esac\nexec /usr/bin/python3 \"$@\"\n")
    hanging.chmod(0o755)
    inventory = fleet.write_inventory(repo.home / "fleet.json", ansible_python_interpreter=str(hanging))
    played = repo.build(inventory=inventory, mad_build_timeout=3, mad_transfer_timeout=5)
    assert played.status == 2 and repo.read("summary.json")["exit_code"] == 2, played.output
    failed = repo.read("build_manifest.json")["summary"]["failed_builds"]
    assert [entry["image"] for entry in failed] == [repo.image("stuck")] and "imed out" in failed[0]["error"], failed
