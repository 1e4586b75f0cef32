# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""image_build in plays: on this machine, over SSH, pushed, in check mode, with hosts that do not answer."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_file
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.plugins.plugin_utils.planning import credential_file
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.registry import PASSWORD, Registry

pytestmark = pytest.mark.real

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - mad.engine.image_build:
        campaign_dir: "{{ campaign_dir }}"
        work_dir: "{{ work_dir }}"
        registry: "{{ registry | default('') }}"
        secrets: "{{ build_secrets | default({}) }}"
        allow_secret_build_args: "{{ allow | default(false) }}"
        manifest_output: "{{ copy | default('') }}"
      register: built
    - ansible.builtin.copy:
        content: "{{ built | to_json }}"
        dest: "{{ answers }}/{{ inventory_hostname }}.json"
      delegate_to: localhost
      check_mode: false
      vars:
        ansible_connection: local
"""


def docker(*words: str) -> str:
    """Output of a docker command that must succeed."""
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


class Campaign:
    """A campaign folder whose plan wants images, and a repository to build them from."""

    def __init__(self, folder: Path, base: str) -> None:
        self.home, self.base = folder, base
        self.mark = uuid.uuid4().hex[:10]
        self.repo = folder / "repo"
        self.folder = folder / "results" / "c1"
        self.work = folder / "work"
        self.builds: list[dict[str, Any]] = []
        self.hosts = ["localhost"]
        (self.repo / "docker").mkdir(parents=True)
        (self.repo / "docker" / "data.txt").write_text("data\n")
        (folder / "answers").mkdir()

    def wants(self, name: str, *lines: str, host: str = "localhost", **more: Any) -> str:
        """Plan one image; returns its name."""
        dockerfile = "docker/%s.Dockerfile" % name
        (self.repo / dockerfile).write_text("\n".join(["FROM " + self.base, *lines, ""]))
        image = "ci-mad-test-%s-%s" % (self.mark, name)
        request = {
            "image": image, "model": "tests/" + name, "dockerfile": dockerfile, "dockercontext": "./docker", "build_args": {},
            "secret_build": [], "cred": "", "gpu_vendor": "", "gpu_architecture": "", "hosts": [host], "build_host": host,
        }  # fmt: skip
        self.builds.append({**request, **more})
        return image

    def save(self) -> None:
        """Write plan.json."""
        runs = [
            {
                "id": uuid.uuid4().hex[:16], "model": build["model"], "card": {"name": build["model"], "args": "", "env_vars": {}},
                "image": {"name": build["image"]}, "launcher": {"name": "python", "nnodes": 1, "nproc_per_node": 1}, "secret_env": [],
            }
            for build in self.builds
        ]  # fmt: skip
        hosts = {name: {"target": "local", "reachable": True, "facts": None} for name in self.hosts}
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {"credential_file": credential_file({"credential_file": ""}, str(self.repo))}
        plan = {"campaign": "c1", "repo": {"path": str(self.repo)}, "options": options, "hosts": hosts, "builds": self.builds, "runs": runs}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def play(self, *arguments: str, inventory: Path | None = None, env: dict[str, str] | None = None, **variables: Any) -> Played:
        """Run the task once for all hosts."""
        (self.home / "build.yml").write_text(PLAYBOOK)
        if inventory is None:
            inventory = self.home / "hosts.json"
            local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
            inventory.write_text(json.dumps({"all": {"hosts": dict.fromkeys(self.hosts, local)}}))
        known = {"campaign_dir": str(self.folder), "work_dir": str(self.work), "answers": str(self.home / "answers"), **variables}
        self.played = play(str(self.home / "build.yml"), self.home, inventory=inventory, variables=known, arguments=arguments, env=env)
        return self.played

    def answer(self, host: str = "localhost") -> dict[str, Any]:
        """Return what the task returned for a host."""
        path = self.home / "answers" / (host + ".json")
        assert path.exists(), self.played.output
        return dict(json.loads(path.read_text()))

    def manifest(self) -> dict[str, Any]:
        """Return the campaign's manifest."""
        return dict(json.loads((self.folder / "build_manifest.json").read_text()))

    def everything(self) -> bytes:
        """Return all bytes that a play left in the results and in the host's work folder."""
        files = [path for top in (self.folder, self.work) if top.exists() for path in top.rglob("*")]
        return b"".join(path.read_bytes() for path in files if path.is_file() and not path.is_symlink())


@pytest.fixture()
def campaign(tmp_path: Path, tiny_image: str) -> Iterator[Campaign]:
    found = Campaign(tmp_path, tiny_image)
    yield found
    for name in docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if found.mark in name:
            subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)


def test_good_and_bad_images_on_this_machine(campaign: Campaign) -> None:
    good = campaign.wants("good", "COPY data.txt /data.txt", build_args={"A": 'it\'s $(id)\n"x"'})
    bad = campaign.wants("bad", "RUN echo the reason; false")
    none = campaign.wants("none", "RUN true")
    (campaign.repo / "docker" / "none.Dockerfile").unlink()
    campaign.save()
    copy = campaign.home / "copy.json"
    played = campaign.play(copy=str(copy))
    answer, document = campaign.answer(), campaign.manifest()
    assert played.status == 0, played.output
    assert answer["changed"]
    assert [entry["status"] for entry in answer["built"]] == ["SUCCESS", "FAILURE", "FAILURE"]
    assert sorted(answer["failed_images"]) == sorted([bad, none])
    assert answer["exit_code"] == 2
    assert answer["images"][good]["digest"] == docker("image", "inspect", "--format", "{{.Id}}", good)
    assert list(document["built_images"]) == list(document["built_models"]) == [good]
    assert document["built_images"][good]["execution"]["launcher"] == "python"
    failed = {entry["image"]: entry for entry in document["summary"]["failed_builds"]}
    assert "the reason" in failed[bad]["error"]
    assert "docker/none.Dockerfile' does not exist" in failed[none]["error"]
    assert json.loads(copy.read_text()) == document
    assert sorted(path.name for path in (campaign.folder / "build").glob("*.log")) == [
        "tests_bad_bad.build.live.log",
        "tests_good_good.build.live.log",
    ]
    assert manifest.read(str(campaign.folder / "build_manifest.json"))["images"][0]["digest"] == answer["images"][good]["digest"]
    assert not list((campaign.work / "outbox").iterdir())
    assert "built %s" % good in played.output


def test_check_mode_predicts_and_a_second_play_changes_nothing(campaign: Campaign) -> None:
    image = campaign.wants("same", "RUN true")
    campaign.save()
    played = campaign.play("--check")
    answer = campaign.answer()
    assert played.status == 0, played.output
    assert answer["changed"]
    assert answer["built"][0]["status"] == "SUCCESS"
    assert not campaign.work.exists()
    assert sorted(path.name for path in campaign.folder.iterdir()) == ["plan.json"]
    assert image not in docker("images", "--format", "{{.Repository}}")
    assert campaign.play().recap()["localhost"]["changed"] >= 1
    before = campaign.manifest()
    for arguments in (["--check"], []):
        campaign.play(*arguments)
        answer = campaign.answer()
        assert not answer["changed"]
        assert answer["unchanged"] == [image]
        assert campaign.manifest() == before
    assert before["built_images"][image]["build_duration"] > 0


def test_a_host_without_builds_is_not_asked(campaign: Campaign) -> None:
    campaign.wants("other", "RUN true", host="elsewhere")
    campaign.save()
    played = campaign.play()
    assert played.status == 0
    assert not campaign.work.exists()
    failed = campaign.manifest()["summary"]["failed_builds"]
    assert "build host 'elsewhere', which gave no result" in failed[0]["error"]


def test_images_for_other_hosts_come_home_as_archives(campaign: Campaign, fleet) -> None:
    fleet.add("n1", work_dir=str(campaign.work))
    fleet.add("n2", work_dir=str(campaign.home / "work2"))
    campaign.hosts = ["n1", "n2"]
    shared = campaign.wants("shared", "RUN echo %s > /x" % campaign.mark, host="n1", hosts=["n1", "n2"])
    campaign.wants("own", "RUN true", host="n1")
    campaign.save()
    inventory = fleet.write_inventory(campaign.home / "fleet.json")
    played = campaign.play(inventory=inventory)
    digest = campaign.answer("n1")["images"][shared]["digest"]
    archive = campaign.folder / "images" / (digest[7:] + ".tar")
    assert played.status == 0, played.output
    assert sorted(path.name for path in archive.parent.iterdir()) == [archive.name, archive.name + ".json"]
    assert json.loads(Path(str(archive) + ".json").read_text())["sha256"] == hash_file(str(archive))
    docker("rmi", "--force", digest)
    docker("load", "--input", str(archive))
    assert docker("image", "inspect", "--format", "{{.Id}}", shared) == digest
    assert not (campaign.home / "work2").exists()
    assert not list((campaign.work / "outbox").iterdir())

    following = campaign.folder.parent / "c2"  # another campaign takes the archive from beside it
    following.mkdir()
    plan = json.loads((campaign.folder / "plan.json").read_text())
    (following / "plan.json").write_text(json.dumps({**plan, "campaign": "c2"}))
    campaign.play(inventory=inventory, campaign_dir=str(following))
    assert os.path.samefile(archive, following / "images" / archive.name)


def test_a_build_host_that_is_gone_is_written_down(campaign: Campaign, fleet) -> None:
    host = fleet.add("n1", work_dir=str(campaign.work))
    image = campaign.wants("lost", "RUN true", host="n1")
    campaign.save()
    inventory = fleet.write_inventory(campaign.home / "fleet.json")
    host.kill()
    played = campaign.play(inventory=inventory)
    assert played.recap()["n1"]["unreachable"] == 0  # ignored
    assert campaign.answer("n1")["unreachable"]
    failed = campaign.manifest()["summary"]["failed_builds"]
    assert failed[0]["image"] == image
    assert "n1 cannot be reached" in failed[0]["error"]


def test_push_with_the_credential_file_of_the_repository(campaign: Campaign, tmp_path: Path) -> None:
    components.require("registry")
    registry = Registry(tmp_path / "registry").start()
    try:
        image = campaign.wants("pushed", "RUN true")
        (campaign.repo / "credential.json").write_text(json.dumps(registry.credentials()))
        campaign.save()
        played = campaign.play("-vvv", registry=registry.address)
        record = campaign.manifest()["built_images"][image]
        assert played.status == 0, played.output
        assert campaign.answer()["pushed"] == [image]
        assert record["registry"] == registry.address
        assert record["registry_image"] == "%s/%s" % (registry.address, image)
        assert record["registry_digest"] == registry.digest(image, "latest")
        assert campaign.manifest()["built_models"][image]["env_vars"] == {"DOCKER_IMAGE_NAME": record["registry_image"]}
        assert PASSWORD not in played.output
        assert PASSWORD.encode() not in campaign.everything()
        campaign.play(registry=registry.address)
        assert not campaign.answer()["changed"]

        (campaign.repo / "credential.json").write_text(json.dumps(registry.credentials(password="wrong-password")))
        played = campaign.play(registry=registry.address)
        document = campaign.manifest()
        assert campaign.answer()["exit_code"] == 2
        assert "refused the login" in campaign.answer()["failed_pushes"][0]["error"]
        assert [entry["image"] for entry in document["push_failures"]] == [image]
        assert [entry["image"] for entry in document["summary"]["failed_pushes"]] == [image]
        assert "registry_image" not in document["built_images"][image]
    finally:
        registry.stop()


def test_secrets_stay_out_of_everything(campaign: Campaign) -> None:
    value = "hunter2-hunter2"
    lines = ["ARG HF_TOKEN", "ARG MAD_SECRETS_X", 'RUN echo "$HF_TOKEN $MAD_SECRETS_X %s"' % campaign.mark]
    image = campaign.wants("secret", *lines, secret_build=["HF_TOKEN", "MAD_SECRETS_X"])
    campaign.save()
    variables = {"build_secrets": {"HF_TOKEN": value}}
    assert "RUN --mount=type=secret,id=HF_TOKEN" in campaign.play(env={"MAD_SECRETS_X": value + "-2"}, **variables).output
    played = campaign.play("-vvv", env={"MAD_SECRETS_X": value + "-2"}, allow=True, **variables)
    assert campaign.answer()["images"][image]["status"] == "SUCCESS", played.output
    assert value not in played.output
    assert value.encode() not in campaign.everything()
    assert "******** ********" in (campaign.folder / "build" / "tests_secret_secret.build.live.log").read_text()
    assert campaign.manifest()["secrets_required"] == ["HF_TOKEN", "MAD_SECRETS_X"]
    missing = campaign.play(allow=True, **variables)
    assert "the build secret MAD_SECRETS_X has no value here" in campaign.answer()["built"][0]["reason"]
    assert value not in missing.output
