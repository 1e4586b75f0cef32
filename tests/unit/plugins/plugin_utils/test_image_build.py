# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of builds: which requests, which secrets, which outcomes, which manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleError

from ansible_collections.mad.engine.plugins.action.image_build import ActionModule
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building.arguments import ARGUMENTS
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import host_builds, planning

SECRET = "hunter2-hunter2"
DIGEST = "sha256:" + "1a" * 32


class World:
    """A repository, a campaign whose plan can be changed, and options."""

    def __init__(self, folder: Path) -> None:
        self.repo = folder / "repo"
        (self.repo / "docker").mkdir(parents=True)
        (self.repo / "docker" / "x.Dockerfile").write_text("FROM quay.io/base:1\n")
        self.folder = folder / "results" / "c1"
        self.folder.mkdir(parents=True)
        self.plan = {"campaign": "c1", "repo": {"path": str(self.repo)}, "options": {}, "hosts": {}, "builds": [], "runs": []}
        self.options = {name: spec.get("default", "") for name, spec in ARGUMENTS.items()}

    def wants(self, image: str, host: str = "n1", **more) -> dict:
        request = {
            "image": image, "model": "m/" + image, "dockerfile": "docker/x.Dockerfile", "dockercontext": "./docker", "build_args": {},
            "secret_build": [], "cred": "", "gpu_vendor": "", "gpu_architecture": "", "hosts": [host], "build_host": host, **more,
        }  # fmt: skip
        self.plan["builds"].append(request)
        return request

    def host(self, name: str = "n1", arguments_of=None, **options) -> host_builds.HostBuilds:
        self.plan["options"]["credential_file"] = planning.credential_file({"credential_file": ""}, str(self.repo))
        (self.folder / "plan.json").write_text(json.dumps(self.plan))
        return host_builds.HostBuilds(Campaign(str(self.folder)), name, {**self.options, **options}, arguments_of)

    def manifest(self) -> dict:
        return json.loads((self.folder / "build_manifest.json").read_text())


@pytest.fixture()
def world(tmp_path: Path, monkeypatch) -> World:
    for name in [name for name in os.environ if name.startswith("MAD_")]:
        monkeypatch.delenv(name)
    return World(tmp_path)


def built(image: str, status: str = "SUCCESS", duration: float = 3.5, **more) -> dict:
    record = {"model": "m/" + image, "docker_image": image, "digest": DIGEST, "build_duration": duration, "log_file": image + ".log"}
    return {
        "image": image, "model": "m/" + image, "status": status, "seconds": 4.0, "reason": "", "failure_class": "", "record": record, **more
    }  # fmt: skip


def failed(image: str, reason: str = "it failed") -> dict:
    return {
        "image": image,
        "model": "m/" + image,
        "status": "FAILURE",
        "seconds": 1.0,
        "reason": reason,
        "failure_class": "image",
        "record": None,
    }


def test_a_host_gets_its_own_builds(world: World) -> None:
    world.wants("ci-a"), world.wants("ci-b", "n2")
    requests, _secrets = world.host("n2").prepare()
    assert [request["image"] for request in requests] == ["ci-b"]
    assert requests[0]["source"]["images"] == ["quay.io/base:1"]


def test_what_cannot_be_asked_for_is_a_failure_of_that_image(world: World) -> None:
    world.wants("ci-good")
    world.wants("ci-none", dockerfile="docker/none")
    world.wants("ci-cred", cred="absent")
    world.wants("ci-secret", secret_build=["HF_TOKEN"])
    world.wants("ci-" + "x" * 200)
    (world.repo / "credential.json").write_text(json.dumps({"localhost:5000": {"repository": "r"}}))
    mine = world.host(registry="localhost:5000")
    requests, _secrets = mine.prepare()
    reasons = {outcome["image"]: outcome["reason"] for outcome in mine.failed}
    assert [request["image"] for request in requests] == ["ci-good"]
    assert "does not exist" in reasons["ci-none"]
    assert "cred 'absent' is not in the credential file" in reasons["ci-cred"]
    assert "the build secret HF_TOKEN has no value here" in reasons["ci-secret"]
    assert "cannot be pushed" in reasons["ci-" + "x" * 200]


def test_where_secret_values_come_from(world: World, monkeypatch) -> None:
    (world.repo / "credential.json").write_text(json.dumps({"my_git": {"username": "u", "password": "p"}}))
    monkeypatch.setenv("MAD_SECRETS_A", "from-environment")
    monkeypatch.setenv("HF_TOKEN", "environment loses")
    world.wants("ci-a", cred="my_git", secret_build=["MAD_SECRETS_A", "HF_TOKEN", "OTHER_TOKEN"])
    asked = []

    def arguments_of(hosts):
        asked.append(list(hosts))
        return {"HF_TOKEN": "from-context", "OTHER_TOKEN": "context loses"}

    _requests, secrets = world.host(arguments_of=arguments_of, secrets={"OTHER_TOKEN": "from-task"}).prepare()
    assert secrets.build == {
        "ci-a": {
            "my_git_USERNAME": "u", "my_git_PASSWORD": "p", "MAD_SECRETS_A": "from-environment", "HF_TOKEN": "from-context",
            "OTHER_TOKEN": "from-task",
        }
    }  # fmt: skip
    assert asked == [["n1"]]


def test_contexts_are_asked_only_when_needed(world: World) -> None:
    world.wants("ci-a")
    world.host(arguments_of=lambda hosts: pytest.fail("nobody needs it")).prepare()


def test_only_the_logins_that_are_needed_travel(world: World) -> None:
    entry = {"username": "u", "password": SECRET}
    (world.repo / "credential.json").write_text(json.dumps({"localhost:5000": entry, "quay.io": entry, "ghcr.io": entry, "my_git": entry}))
    world.wants("ci-a")
    _requests, secrets = world.host(registry="localhost:5000").prepare()
    assert sorted(secrets.logins) == ["localhost:5000", "quay.io"]


def test_a_job_holds_no_secret(world: World) -> None:
    (world.repo / "credential.json").write_text(json.dumps({"localhost:5000": {"username": "u", "password": SECRET}}))
    world.wants("ci-a", secret_build=["HF_TOKEN"])
    mine = world.host(registry="localhost:5000", secrets={"HF_TOKEN": SECRET})
    requests, secrets = mine.prepare()
    assert SECRET not in json.dumps(mine.job(requests))
    assert SECRET in host_builds.sealed(secrets)


def test_archives_are_for_others_and_only_without_a_registry(world: World) -> None:
    world.wants("ci-own")
    world.wants("ci-shared", hosts=["n1", "n2"])
    requests, _secrets = world.host().prepare()
    assert world.host().job(requests)["save"] == ["ci-shared"]
    assert world.host(registry="localhost:5000").job(requests)["save"] == []


def test_archives_of_other_campaigns_are_known(world: World) -> None:
    other = world.folder.parent / "c0" / "images"
    other.mkdir(parents=True)
    (other / ("1a" * 32 + ".tar")).write_text("x")
    (other / "noise.tar").write_text("x")
    world.wants("ci-a")
    assert world.host().job(world.host().prepare()[0])["have"] == [DIGEST]


def test_the_registry_of_the_plan_counts_when_the_task_names_none(world: World) -> None:
    world.plan["options"] = {"registry": "https://localhost:5000/"}
    assert world.host().registry == "localhost:5000"
    assert world.host(registry="dockerhub").registry == "docker.io"
    with pytest.raises(InvalidInput, match="mad_registry"):
        world.host(registry="no registry")


def test_an_unchanged_image_keeps_what_it_took_to_build(world: World) -> None:
    world.wants("ci-a")
    world.host().keep([built("ci-a")])
    world.host().keep([built("ci-a", "SKIPPED", 0.0)])
    assert world.host().write_manifest({})[0]
    assert world.manifest()["built_images"]["ci-a"]["build_duration"] == 3.5
    assert not world.host().write_manifest({})[0]


def test_the_manifest_holds_what_all_build_hosts_said(world: World) -> None:
    world.wants("ci-a"), world.wants("ci-b", "n2"), world.wants("ci-c", "n3")
    world.host("n1").keep([built("ci-a")])
    world.host("n2").keep([failed("ci-b")])
    world.host().write_manifest({"n3": "it is unreachable"})
    document = world.manifest()
    assert list(document["built_images"]) == ["ci-a"]
    assert [entry["image"] for entry in document["summary"]["failed_builds"]] == ["ci-b", "ci-c"]
    assert document["summary"]["failed_builds"][1]["error"].endswith("it is unreachable")


def test_builds_of_earlier_plays_stay_in_the_manifest(world: World) -> None:
    world.wants("ci-a"), world.wants("ci-b")
    world.host().keep([built("ci-a"), failed("ci-b")])
    world.plan["builds"] = []
    world.wants("ci-c", "n2")
    world.host("n2").keep([built("ci-c")])
    world.host("n2").write_manifest({})
    document = world.manifest()
    assert list(document["built_images"]) == ["ci-c", "ci-a"]
    assert [entry["image"] for entry in document["summary"]["failed_builds"]] == ["ci-b"]


def test_another_build_host_replaces_the_first(world: World) -> None:
    request = world.wants("ci-a")
    world.host("n1").keep([failed("ci-a")])
    request["build_host"] = "n2"
    world.host("n2").keep([built("ci-a")])
    world.host("n2").write_manifest({})
    assert world.manifest()["summary"]["failed_builds"] == []
    request["build_host"] = "n1"
    world.host("n1").write_manifest({})
    assert world.manifest()["built_images"] == {}


def test_a_given_manifest_is_never_written(world: World, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_text('{"built_images": {}, "summary": {"failed_builds": [1]}}')
    world.plan["options"] = {"manifest": str(given)}
    with pytest.raises(InvalidInput, match="which is never written"):
        world.host(manifest_output=str(given)).write_manifest({})
    copy = tmp_path / "copy.json"
    changed, document = world.host(manifest_output=str(copy)).write_manifest({})
    assert changed
    assert json.loads(copy.read_text()) == json.loads(given.read_text())
    assert document["summary"] == {}
    assert not (world.folder / "build_manifest.json").exists()


def test_the_context_of_the_manifest_is_what_the_hosts_share_with_what_was_detected(world: World) -> None:
    """A manifest is the lowest layer of every host that runs from it: one host's own words must not reach the others."""
    own = {"encapsulate_script": "numactl -m0", "docker_env_vars": {"A": "1", "NCCL_SOCKET_IFNAME": "ib0"}}
    world.plan["hosts"] = {
        "n1": {"context": own, "facts": {"gpu": {"vendor": "NVIDIA"}}},
        "n2": {"context": {"gpu_vendor": "AMD", "docker_env_vars": {"A": "1", "NCCL_SOCKET_IFNAME": "eth0"}}},
    }
    world.host().write_manifest({})
    found = world.manifest()["context"]
    assert (found["gpu_vendor"], found["guest_os"], found["docker_env_vars"]) == ("NVIDIA", "UBUNTU", {"A": "1"})
    assert not found.get("encapsulate_script")


def test_what_a_task_returns_is_small_and_complete() -> None:
    push = {"name": "localhost:5000/ci-a", "digest": "sha256:2", "sent": True}
    answer = host_builds.shown(
        [built("ci-a", push=push), built("ci-b", "SKIPPED", push={"name": "x", "error": "no"}), failed("ci-c", "x" * 9999)]
    )
    assert [entry["status"] for entry in answer["built"]] == ["SUCCESS", "SKIPPED", "FAILURE"]
    assert set(answer["built"][0]) == {"image", "model", "status", "seconds", "reason"}
    assert len(answer["built"][2]["reason"]) < 2100
    assert answer["unchanged"] == ["ci-b"]
    assert answer["failed_images"] == ["ci-c"]
    assert answer["pushed"] == ["ci-a"]
    assert answer["images"]["ci-a"] == {
        "digest": DIGEST,
        "registry_image": push["name"],
        "registry_digest": "sha256:2",
        "status": "SUCCESS",
    }
    assert answer["images"]["ci-b"]["registry_image"] == ""


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (built("ci-a"), "built ci-a (m/ci-a) in 4.0 s"),
        (built("ci-a", "SKIPPED"), "unchanged ci-a (m/ci-a) in 4.0 s"),
        (failed("ci-a", "why\nmore"), "FAILED ci-a (m/ci-a): why\nmore"),
        (built("ci-a", push={"name": "r/ci-a", "digest": "d", "sent": True}), "built ci-a (m/ci-a) in 4.0 s, pushed as r/ci-a"),
        (built("ci-a", push={"name": "r/ci-a", "error": "no"}), "built ci-a (m/ci-a) in 4.0 s, push FAILED: no"),
    ],
)
def test_lines_for_people(outcome: dict, text: str) -> None:
    assert host_builds.line(outcome) == text


class Broken(ActionModule):
    """A build host whose answers come, and whose files do not."""

    def _execute_module(self, **dummy) -> dict:
        archive = {"digest": DIGEST, "path": "/outbox/x.tar", "bytes": 1, "sha256": "0" * 64}
        return {
            "outcomes": [built("ci-a", archive=archive), built("ci-b")],
            "logs": {"path": "/outbox/x", "sha256": "0" * 64},
            "notes": ["a note"],
        }

    def _fetch(self, remote: str, local: str) -> None:
        raise AnsibleError("failed to transfer file from %s" % remote)


def test_what_was_built_is_built_though_its_log_and_its_archive_do_not_come(world: World) -> None:
    world.wants("ci-a", hosts=["n1", "n2"])
    world.wants("ci-b")
    world.host()
    task = MagicMock(args={"campaign_dir": str(world.folder)}, check_mode=False, async_val=0)
    answer = Broken(task, *(MagicMock() for dummy in range(5))).run(task_vars={"inventory_hostname": "n1"})
    assert [entry["status"] for entry in answer["built"]] == ["SUCCESS", "SUCCESS"] and answer["exit_code"] == 0
    images = world.manifest()["built_images"]
    assert "/outbox/x.tar" in images["ci-a"]["archive_error"] and "archive_error" not in images["ci-b"]
