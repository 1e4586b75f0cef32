# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""container_run as plays over SSH: staging, images by archive and registry, results home, another user, lost folders, check mode."""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.plugins.module_utils.containers import image_archive, image_engine
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.bench_host import PRINT, BenchHost, MakeHost, image_id, make_host
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.registry import PASSWORD, Registry
from ansible_collections.mad.engine.tests.support.sshd import Fleet

__all__ = ["make_host"]  # a fixture
POLL = {"register": "poll", "until": "poll.counts.done == poll.counts.total", "retries": 60, "delay": 0.5}


class Control:
    """A controller: a campaign folder, an inventory, and plays of single states."""

    def __init__(self, folder: Path, host: BenchHost, inventory: Path) -> None:
        self.folder, self.host, self.inventory = folder, host, inventory
        self.campaign = Campaign(str(folder / "results" / host.campaign)).make()

    def plan(self) -> None:
        """Write plan.json of what the host has planned."""
        more = {"wanted": True, "skip_gpu_arch": []}
        runs = [dict(run, launcher=dict(run["launcher"], port=29500), **more) for run in self.host.planned.values()]
        facts = {"hostname": "node", "gpu": {"vendor": "NONE", "count": 0}, "engines": {}}
        document = {"schema": 1, "campaign": self.campaign.name, "repo": {"path": str(self.host.repo)}, "runs": runs, "options": {}}
        self.campaign.save_plan(dict(document, hosts={self.host.host: {"facts": facts}}))

    def play(self, *states: str, arguments: tuple[str, ...] = (), **options: Any) -> Played:
        """Run these states one after the other."""
        common = {"campaign_dir": self.campaign.folder, "work_dir": self.host.work}
        tasks = []
        for state in states:
            lock = {"host_lock": self.host.lock} if state == "started" else {}
            own = {**common, **lock, **options, "state": state}
            tasks.append({"name": state, "mad.engine.container_run": own, **(POLL if state == "polled" else {})})
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return play(str(path), self.folder, inventory=self.inventory, arguments=arguments)

    def result(self, run_id: str) -> dict[str, Any]:
        """The record on the controller."""
        return self.campaign.result(run_id) or {}


@pytest.fixture()
def control(make_host: MakeHost, fleet: Fleet, tmp_path: Path) -> Iterator[Any]:
    """Give a function that makes a controller with one SSH host."""

    def make(runtime: str = "host", python: str = "", **variables: Any) -> Control:
        host = make_host(runtime)
        fleet.add("n1")
        if python:
            fleet.python = python
        folder = tmp_path / "controller"
        folder.mkdir()
        return Control(folder, host, fleet.write_inventory(folder / "inventory.json", **variables))

    yield make


@pytest.fixture()
def own_image(tiny_image: str, tmp_path: Path) -> Iterator[str]:
    """Give an image that nobody else has; it is gone afterwards."""
    name = "mad-test-own-%s" % os.urandom(4).hex()
    (tmp_path / "Dockerfile").write_text("FROM %s\nRUN echo %s > /own\n" % (tiny_image, name))
    subprocess.run(["docker", "build", "--network", "host", "-q", "-t", name, str(tmp_path)], check=True, capture_output=True)
    digest = image_id(name)
    yield name
    for _try in range(20):  # the last container may still be going
        if subprocess.run(["docker", "rmi", "-f", digest], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.2)


def test_from_staging_to_logs(control: Any) -> None:
    """The whole way over SSH with the oldest Python; the second time nothing is done."""
    old = sorted(glob.glob("/root/.pyenv/versions/3.8.*/bin/python3"))
    this = control(python=old[0] if old else "")
    good = this.host.run("echo hello from $MAD_MODEL_NAME; echo 1 > x_output.csv; echo $MY_TOKEN\n" + PRINT, secret_env=["MY_TOKEN"])
    bad = this.host.run("exit 7\n")
    this.plan()
    states = ("staged", "started", "polled", "collected")
    played = this.play(*states, live=True, secrets={"MY_TOKEN": "a-secret-value"}, arguments=("-v",))
    assert played.status == 0, played.output
    assert "n1 m1 | hello from m1" in played.output and "a-secret-value" not in played.output
    assert this.result(good)["status"] == "SUCCESS" and this.result(bad)["reason"].startswith("exit code 7")
    assert this.result(good)["host"]["hostname"] == "node"
    folder = Path(this.campaign.run_dir(good))
    assert "hello from m1" in (folder / "run.log").read_text() and (folder / "artifacts" / "x_output.csv").read_text() == "1\n"
    assert json.loads((folder / "attempt-1.json").read_text())["launch"]["host"] == "n1"
    assert (
        subprocess.run(["grep", "-rl", "a-secret-value", this.campaign.folder, this.host.work], capture_output=True, check=False).stdout
        == b""
    )
    assert os.listdir(os.path.join(this.host.work, "outbox")) == []
    again = this.play(*states)
    assert again.recap()["n1"]["changed"] == 0, again.output


def test_check_mode_changes_nothing(control: Any) -> None:
    this = control()
    large = this.host.run("head -c 9000000 /dev/zero | tr '\\0' x; echo\n" + PRINT)
    this.plan()
    played = this.play("staged", "started", arguments=("--check",))
    assert played.status == 0 and played.recap()["n1"]["changed"] == 2, played.output
    assert not os.path.exists(this.host.work) and this.campaign.run_ids() == []
    assert this.play("staged", "started", "polled").status == 0
    asked = this.play("staged", "started", "polled", "cancelled", arguments=("--check",))
    assert asked.status == 0 and asked.recap()["n1"]["changed"] == 0, asked.output
    shown = this.play("collected", "absent", arguments=("--check", "--diff"))
    assert shown.recap()["n1"]["changed"] == 2, shown.output
    assert "-" + this.host.folder.path in shown.output and this.host.folder.exists()
    assert not os.path.exists(this.campaign.log_path(large))


def test_staged_and_started_in_one_step(control: Any) -> None:
    """What is not large comes home with the last poll, of earlier plays too; what is large waits for the step that collects."""
    this = control()
    small, large = this.host.run(PRINT), this.host.run("head -c 9000000 /dev/zero | tr '\\0' x; echo\n" + PRINT)
    this.plan()
    assert this.play("started", stage=True).status == 0
    this.play("polled", patience=60)
    assert {run["status"] for run in map(this.result, (small, large))} == {"SUCCESS"}
    assert not os.path.exists(this.campaign.log_path(small)), "together they are too large for a poll"
    assert this.play("collected").recap()["n1"]["changed"] == 1 and os.path.getsize(this.campaign.log_path(large)) > 9000000
    assert this.play("started", "polled", "collected", stage=True).recap()["n1"]["changed"] == 0

    fresh = this.host.run("echo of the second plan\n" + PRINT)
    this.plan()
    played = this.play("started", "polled", stage=True, patience=60)
    assert played.status == 0 and "of the second plan" in Path(this.campaign.log_path(fresh)).read_text(), played.output


def test_a_start_that_fails_keeps_what_staging_said(control: Any) -> None:
    """An image that is nowhere is its runs' class image, also where the start of the others fails in the same step."""
    this = control("docker")
    lost, good = this.host.run(PRINT, "docker"), this.host.run(PRINT, "docker")
    this.host.planned[lost]["image"]["digest"] = "sha256:" + "0" * 64
    this.plan()
    (this.folder / "lock").mkdir()
    played = this.play("started", stage=True, host_lock=str(this.folder / "lock"))
    assert played.status == 2 and "lock" in played.output.partition("fatal")[2], played.output
    assert this.result(lost)["failure_class"] == "image" and not this.result(good)


def test_image_by_archive(control: Any, own_image: str) -> None:
    """Neither engine nor registry has it: the campaign's archive is brought, loaded, verified by its id."""
    this = control("docker")
    this.host.image = own_image
    run_id = this.host.run("cat /own\n" + PRINT, "docker")
    digest = this.host.planned[run_id]["image"]["digest"]
    image_archive.save(image_engine.find("docker"), own_image, digest, this.campaign.images_dir)
    subprocess.run(["docker", "rmi", "-f", digest], check=True, capture_output=True)
    this.plan()
    played = this.play("staged", "started", "polled", "collected", arguments=("-v",))
    assert played.status == 0 and '"how": "loaded"' in played.output, played.output
    assert this.result(run_id)["status"] == "SUCCESS" and this.result(run_id)["image"]["digest"] == digest
    assert own_image in Path(this.campaign.log_path(run_id)).read_text()


def test_image_that_is_nowhere_or_another(control: Any, own_image: str) -> None:
    """No archive, no registry: class image for these runs alone; a name that means another image does not help."""
    this = control("docker")
    this.host.image = own_image
    lost = this.host.run(PRINT, "docker")
    good = this.host.run(PRINT, "docker")
    this.host.planned[lost]["image"]["digest"] = "sha256:" + "0" * 64
    this.plan()
    played = this.play("staged", "started", "polled")
    assert played.status == 0, played.output
    assert this.result(lost)["failure_class"] == "image" and not this.result(lost)["launched"]
    assert this.result(good)["status"] == "SUCCESS"


def test_image_by_registry_with_login(control: Any, own_image: str, tmp_path: Path) -> None:
    """Pulled with the credential file's login, which stays nowhere; a wrong password is class image and is not shown."""
    components.require("registry")
    registry = Registry(tmp_path / "registry").start()
    try:
        name = "%s/%s" % (registry.address, own_image)
        config = tmp_path / "docker-config"
        words = ["docker", "--config", str(config)]
        subprocess.run(
            [*words, "login", "-u", "mad-tester", "--password-stdin", registry.address],
            input=PASSWORD,
            text=True,
            check=True,
            capture_output=True,
        )
        subprocess.run(["docker", "tag", own_image, name], check=True, capture_output=True)
        subprocess.run([*words, "push", "-q", name], check=True, capture_output=True)
        this = control("docker")
        this.host.image = own_image
        run_id = this.host.run("cat /own\n" + PRINT, "docker")
        image = this.host.planned[run_id]["image"]
        image["registry_image"] = name
        subprocess.run(["docker", "rmi", "-f", image["digest"]], check=True, capture_output=True)
        this.plan()
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps(registry.credentials(password="wrong-password-1234")))
        refused = this.play("staged", credential_file=str(wrong), arguments=("-vvv",))
        assert this.result(run_id)["failure_class"] == "image" and "wrong-password-1234" not in refused.output, refused.output
        this.host.planned[run_id]["attempt"] = 2
        this.plan()
        right = tmp_path / "right.json"
        right.write_text(json.dumps(registry.credentials()))
        played = this.play("staged", "started", "polled", "collected", credential_file=str(right), arguments=("-vvv",))
        assert this.result(run_id)["status"] == "SUCCESS", played.output
        assert PASSWORD not in played.output
        assert (
            subprocess.run(["grep", "-rl", PASSWORD, this.host.work, this.campaign.folder], capture_output=True, check=False).stdout == b""
        )
        subprocess.run(["docker", "rmi", "-f", name], check=False, capture_output=True)
    finally:
        registry.stop()


def test_another_user_by_become(control: Any, tmp_path: Path) -> None:
    """become_user without rights: files change hands both ways; with another user the folder's owner is named."""
    components.require("root")
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    this = control(ansible_become=True, ansible_become_method="su", ansible_become_user="nobody", ansible_become_flags="-s /bin/sh")
    this.host.work = "/var/tmp/mad-test-%s" % os.urandom(4).hex()
    this.host.lock = this.host.work + ".lock"
    run_id = this.host.run("id -un\n" + PRINT)
    this.plan()
    try:
        played = this.play("staged", "started", "polled", "collected")
        assert played.status == 0, played.output
        assert this.result(run_id)["status"] == "SUCCESS"
        assert Path(this.campaign.log_path(run_id)).read_text().startswith("nobody")
        assert os.stat(this.host.work).st_uid == 65534
        this.inventory.write_text(this.inventory.read_text().replace('"nobody"', '"root"'))
        this.host.run(PRINT)
        this.plan()
        refused = this.play("staged")
        assert refused.status != 0 and "belongs to user nobody" in refused.output, refused.output
    finally:
        shutil.rmtree(this.host.work, ignore_errors=True)
        Path(this.host.lock).unlink(missing_ok=True)


def test_a_folder_that_vanished_is_lost_contact(control: Any) -> None:
    """The host accepted the run and knows nothing of it any more: lost_contact, and it is not started again by itself."""
    this = control()
    run_id = this.host.run("sleep 300\n")
    this.plan()
    assert this.play("staged", "started").status == 0
    this.host.until_running(run_id)
    this.host.close()
    played = this.play("staged", "started", "polled")
    assert played.status == 0, played.output
    record = this.result(run_id)
    assert (record["failure_class"], record["source"], record["launched"]) == ("lost_contact", "target", True), record
    assert not os.path.exists(this.host.folder.file("runs", run_id))


def test_results_of_somebody_else_are_refused(control: Any) -> None:
    """A host that sends a record of a run that is not its own fails, and nothing is kept."""
    this = control()
    run_id = this.host.run("sleep 3\n" + PRINT)
    this.plan()
    assert this.play("staged", "started").status == 0
    assert this.campaign.result(run_id) is None
    this.host.wait()
    path = Path(this.host.folder.attempt(run_id, 1).file("result.json"))
    path.write_text(path.read_text().replace(run_id, "f" * 16))
    played = this.play("polled")
    assert played.status != 0 and this.campaign.result(run_id) is None and "not one of its runs" in played.output


def test_a_record_that_has_not_come_home_is_not_removed(control: Any) -> None:
    """A run that ends after the last poll (of a host that was given up, say): cleaning up would destroy the only copy of its result."""
    this = control(ansible_connection="local")
    run_id = this.host.run("sleep 1\n" + PRINT)
    this.plan()
    assert this.play("staged", "started").status == 0
    this.host.until(lambda: this.host.result(run_id) and not this.host.folder.supervised())
    kept = this.play("absent", arguments=("-v",))
    assert kept.recap()["n1"]["changed"] == 0 and "has not come home yet" in kept.output
    assert this.play("polled", "collected").status == 0
    assert this.result(run_id)["status"] == "SUCCESS"
    assert this.play("absent").recap()["n1"]["changed"] == 1


def test_cancel_and_absent(control: Any) -> None:
    """Cancelling ends what runs; then the folder goes."""
    this = control()
    run_id = this.host.run("sleep 300\n")
    this.plan()
    assert this.play("staged", "started").status == 0
    this.host.until_running(run_id)
    kept = this.play("absent", arguments=("-v",))
    assert kept.recap()["n1"]["changed"] == 0 and "supervisor works in it" in kept.output
    assert this.play("cancelled").recap()["n1"]["changed"] == 1
    assert this.result(run_id)["failure_class"] == "cancelled"
    this.host.until(lambda: not this.host.folder.supervised())
    assert this.play("absent").recap()["n1"]["changed"] == 1
    assert not os.path.exists(this.host.folder.path)
    assert work_folder.default_work_dir() == "/var/tmp/mad-%d" % os.geteuid()
