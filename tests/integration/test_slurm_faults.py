# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clusters do to runs, on a real one: each fault ends as the right class, every planned run has its record, nothing stays in the queue."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_client, slurm_steps, slurm_watch
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.tests.support.registry import PASSWORD, USER, Registry
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.slurm_campaign import GOOD, SlurmCampaign

SLEEPS = "echo begun; trap 'exit 143' TERM; sleep 300 & wait\n"
Make = Callable[..., SlurmCampaign]


@pytest.fixture()
def make(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Give a maker of campaigns on the shared cluster."""
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    yield lambda **options: SlurmCampaign(slurm, tmp_path, Options(**{"exclusive": False, **options}))
    slurm.call("scancel", "--me")
    slurm.wait_for_none()


@pytest.fixture()
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Give a small cluster of its own, to be broken."""
    with Cluster(nodes=2, settings={"SlurmdTimeout": "10", "SlurmctldTimeout": "10"}) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        yield cluster


def test_what_models_do(make: Make) -> None:
    campaign = make()
    campaign.add(1, GOOD)
    campaign.add(2, GOOD + "exit 1\n")
    campaign.add(3, "echo 'Traceback (most recent call last):'\n" + GOOD)
    campaign.add(4, SLEEPS, timeout=2)
    campaign.add(5, "echo nothing\n", model="dir/it's a \"name\" $(date)")
    hostile = "$(touch %s)\nb `id` 'x' \"y\" \\" % (campaign.shared / "pwned")
    campaign.add(6, GOOD + 'test "$HOSTILE" = "$WANTED" || exit 9\n', env={"HOSTILE": hostile}, secret_env=["WANTED"])
    campaign.secrets = {"%016x" % 6: {"WANTED": hostile}}
    campaign.add(7, skip_model_run=True, keep={"alive": False, "model_dir": True})
    campaign.add(8, "exit 93\n", card={"resumable": True}, retries=3)
    campaign.add(9, env={"NOT=A NAME": "x"})
    campaign.stage()
    answer = campaign.start()
    assert set(answer["acknowledged"]) == set(campaign.runs) - {"%016x" % 9}, "what cannot be put into a job holds up no other"
    campaign.finish()
    assert campaign.classes() == {
        "m1": ("SUCCESS", ""),
        "m2": ("FAILURE", "crash"),
        "m3": ("FAILURE", "error_pattern"),
        "m4": ("FAILURE", "timeout"),
        "dir/it's a \"name\" $(date)": ("FAILURE", "no_metric"),
        "m6": ("SUCCESS", ""),
        "m7": ("SKIPPED", ""),
        "m8": ("FAILURE", "crash"),
        "m9": ("FAILURE", "invalid"),
    }
    assert campaign.results["%016x" % 8]["attempt"] == 1 and "cannot help" in campaign.results["%016x" % 8]["reason"]
    kept = [number for number in range(1, 10) if os.path.exists(campaign.folder.attempt("%016x" % number, 1).file("work"))]
    assert kept == [7], "mad_keep_model_dir keeps the work folder, nothing else does"
    assert not (campaign.shared / "pwned").exists() and not list(Path(campaign.folder.path).rglob("env.sh"))
    good = campaign.results["%016x" % 1]
    assert good["target"]["job"] and good["target"]["nodes"][0] in campaign.cluster.nodes and good["host"]["hostname"] in campaign.cluster.nodes
    assert 0 <= good["timings"]["run"] < 60 and good["timings"]["queue"] >= 0 and abs(good["timings"]["started"] - time.time()) < 600
    campaign.cluster.wait_for_none()
    # The lock, an array, and two that ask for something else: another time limit, to be requeued.
    assert len(os.listdir(campaign.folder.file("submissions"))) == 4
    assert slurm_steps.absent(campaign.job(keep_days=None))["removed"]


def test_nodes_pull_from_a_registry_with_the_controllers_login(make: Make, tiny_image: str, docker_host: str, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry").start()
    name = "%s/boxed:1" % registry.address
    (tmp_path / "login").mkdir()
    docker = ["docker", "--config", str(tmp_path / "login")]
    campaign = make()
    call = campaign.cluster.call
    try:
        digest = call("docker", "image", "inspect", "--format", "{{.Id}}", tiny_image)
        call("docker", "tag", tiny_image, name)
        call(*docker, "login", "--username", USER, "--password-stdin", registry.address, stdin=PASSWORD)
        call(*docker, "push", "--quiet", name)
        call("docker", "rmi", name)
        other = {"name": name, "registry_image": name, "digest": "", "given": True}
        for number, image in ((1, dict(other, digest=digest)), (2, other)):
            campaign.add(number, GOOD, runtime="docker", image=image)
        campaign.credentials = registry.credentials()
        campaign.stage()
        config = Path(campaign.folder.file("logins", "config.json"))
        assert config.stat().st_mode & 0o777 == 0o600 and PASSWORD not in config.read_text()
        campaign.start()
        campaign.finish()
        assert set(campaign.classes().values()) == {("SUCCESS", "")}, [found["reason"] for found in campaign.results.values()]
        assert {found["image"]["digest"] for found in campaign.results.values()} == {digest}, "what a name stood for says the node"
        assert not config.parent.exists(), "as long as runs need them"
    finally:
        registry.stop()
        call("sh", "-c", "docker rmi %s >/dev/null 2>&1 || :" % name)


def test_a_refusal_has_slurms_words(make: Make) -> None:
    campaign = make(partition="nowhere")
    campaign.add(1)
    campaign.add(2)
    campaign.stage()
    campaign.start()
    for document in campaign.finish().values():
        assert (document["failure_class"], document["launched"]) == ("launch", False)
        assert "invalid partition" in document["reason"].lower()


def test_cancelled_by_somebody_and_by_us(make: Make) -> None:
    campaign = make()
    for number in (1, 2):
        campaign.add(number, SLEEPS)
    campaign.add(3, SLEEPS, timeout=3600)  # another shape: a job of its own
    campaign.stage()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1) and campaign.begun(2) and campaign.begun(3) and "begun" in campaign.live)
    with pytest.raises(MadError, match="was started and has no record yet"):
        if not slurm_steps.absent(campaign.job(keep_days=None))["removed"]:
            raise MadError(slurm_steps.absent(campaign.job(keep_days=None))["kept"][0]["reason"])
    number = next(entry.job for entry in slurm_steps.Follower(campaign.folder, slurm_client.Slurm()).submissions.entries() if entry.submission.array)
    campaign.cluster.call("scancel", "%d_0" % number)
    campaign.wait(lambda: len(campaign.results) == 1)
    assert campaign.classes() == {"m1": ("FAILURE", "cancelled")}
    answer = slurm_steps.cancelled(campaign.job(reason="enough"))
    campaign._keep(answer)
    assert campaign.classes() == dict.fromkeys(("m1", "m2", "m3"), ("FAILURE", "cancelled"))
    assert {campaign.results["%016x" % number]["reason"] for number in (2, 3)} == {"enough"}
    campaign.cluster.wait_for_none()


def test_no_more_is_started_after_a_stop(make: Make) -> None:
    campaign = make(max_jobs=1)
    for number in (1, 2, 3):
        campaign.add(number, "echo begun; sleep 3\n" + GOOD)
    campaign.stage()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1))
    assert len(campaign.cluster.queue("PENDING", "RUNNING")) == 1, "slurm.max_jobs bounds what waits or runs"
    campaign.poll(stop="stopped: enough failed")
    campaign.finish()
    assert campaign.classes() == {"m1": ("SUCCESS", ""), "m2": ("SKIPPED", ""), "m3": ("SKIPPED", "")}


def test_several_nodes_make_one_result(make: Make) -> None:
    campaign = make(node_check=True)
    for number, unit in ((1, "tokens_per_second"), (3, "strange")):
        campaign.add(number, "echo performance: $((NODE_RANK + 1)) %s\n" % unit, nodes=3, launcher="torchrun", processes=1)
    last = "echo node $NODE_RANK; [ $NODE_RANK = 1 ] && exit 3; " + GOOD
    campaign.add(2, last, nodes=2, launcher="torchrun", processes=1)
    campaign.cluster.call("scontrol", "update", "nodename=n8", "state=drain", "reason=broken fan")
    try:
        campaign.stage()
        campaign.start()
    finally:
        campaign.cluster.call("scontrol", "update", "nodename=n8", "state=resume")
    assert any("n8" in warning and "broken fan" in warning for warning in campaign.warnings), "the node check says what it found"
    campaign.finish()
    found, strange = campaign.results["%016x" % 1], campaign.results["%016x" % 3]
    assert [(metric["name"], metric["value"]) for metric in found["metrics"]] == [("tokens_per_second", 6.0)]
    assert [(metric["name"], metric["value"]) for metric in strange["metrics"]] == [("strange", 1.0)]
    assert len(set(found["target"]["nodes"])) == 3 and any("no rule" in note for note in strange["notes"])
    assert (campaign.classes()["m2"], campaign.results["%016x" % 2]["exit_code"]) == (("FAILURE", "crash"), 3)
    answer = slurm_steps.collected(dict(campaign.job(), runs=dict.fromkeys(campaign.runs, 1)))
    assert answer["runs"] == sorted(campaign.runs) and Path(answer["archive"]).exists()


def test_a_time_limit_and_a_node_that_dies_which_costs_an_attempt_and_is_avoided(own: Cluster, tmp_path: Path) -> None:
    campaign = SlurmCampaign(own, tmp_path, Options(exclusive=True, time=1))  # Slurm counts whole minutes
    campaign.add(1, "echo begun on $SLURMD_NODENAME; [ -e %s ] && sleep 300; " % (tmp_path / "slow") + GOOD, retries=1)
    campaign.add(2, SLEEPS)
    (tmp_path / "slow").touch()
    campaign.stage()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1) and campaign.begun(2))
    jobs = {line.split()[0]: line.split()[1:] for line in own.call("squeue", "-h", "-r", "-o", "%K %i %N").splitlines()}
    own.call("scontrol", "update", "JobId=" + jobs["1"][0], "EndTime=now")  # its limit is reached: Slurm looks twice a minute
    node = jobs["0"][1]
    (tmp_path / "slow").unlink()
    own.kill_node(node)
    document = campaign.finish(240)["%016x" % 1]
    assert campaign.classes()["m2"] == ("FAILURE", "timeout") and "time limit" in campaign.results["%016x" % 2]["reason"]
    assert (document["status"], document["attempt"]) == ("SUCCESS", 2)
    assert document["target"]["nodes"] != [node]
    first = campaign.folder.attempt("%016x" % 1, 1).result() or {}
    assert first["failure_class"] == "infra" and first["target"]["nodes"] == [node]


def test_preempted_drained_and_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preempted job costs an attempt, a drained node costs nothing, and exit status 75 of a resumable model is a job that waits again."""
    partitions = "PartitionName=main Nodes=ALL Default=YES PriorityTier=1 State=UP\nPartitionName=high Nodes=ALL PriorityTier=9 State=UP"
    with Cluster(nodes=3, settings={"PreemptType": "preempt/partition_prio", "PreemptMode": "CANCEL"}, partitions=partitions) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        campaign = SlurmCampaign(cluster, tmp_path, Options(exclusive=True))
        for name in ("wait-1", "wait-2"):
            (tmp_path / name).touch()
        waits = "echo $SLURMD_NODENAME >%(home)s/node-%(n)d; echo begun; while [ -e %(home)s/wait-%(n)d ]; do sleep 0.2; done; " + GOOD
        campaign.add(1, waits % {"home": tmp_path, "n": 1}, retries=1)
        campaign.add(2, waits % {"home": tmp_path, "n": 2})
        again = "echo x >>%(home)s/count; [ $(wc -l <%(home)s/count) -lt 2 ] && exit 75\n" % {"home": tmp_path}
        campaign.add(3, again + GOOD, card={"resumable": True})
        campaign.stage()
        campaign.start()
        campaign.wait(lambda: all(campaign.begun(number) for number in (1, 2)) and (tmp_path / "count").exists() and bool(cluster.queue("PENDING")))
        nodes = [(tmp_path / name).read_text().strip() for name in ("node-1", "node-2")]
        cluster.call("scontrol", "update", "nodename=" + nodes[1], "state=drain", "reason=a fan")
        cluster.submit("#!/bin/sh\nsleep 1\n", "--partition=high", "--exclusive", "--nodelist=" + nodes[0])
        for name in ("wait-1", "wait-2"):
            campaign.wait(lambda: len(campaign.folder.attempts("%016x" % 1)) == 2 or not cluster.queue("RUNNING"))
            (tmp_path / name).unlink()
        campaign.wait(lambda: len(campaign.results) == 2, 300)
        # Slurm lets a requeued job wait for two minutes (cred_expire), whatever one tells it.
        campaign._keep(slurm_steps.cancelled(campaign.job(reason="enough")))
        assert campaign.classes() == {"m1": ("SUCCESS", ""), "m2": ("SUCCESS", ""), "m3": ("FAILURE", "cancelled")}
        assert [campaign.results["%016x" % number]["attempt"] for number in (1, 2, 3)] == [2, 1, 1]
        first = campaign.folder.attempt("%016x" % 1, 1).result() or {}
        assert first["failure_class"] == "preempted" and first["target"]["nodes"] == nodes[:1]
        assert (tmp_path / "count").read_text() == "x\n"
        cluster.wait_for_none()


def test_a_job_whose_slurmd_is_killed_tells_its_end_itself(own: Cluster, tmp_path: Path) -> None:
    campaign = SlurmCampaign(own, tmp_path)
    campaign.add(1, "echo begun; sleep 2\n" + GOOD)
    campaign.stage()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1))
    own.kill_slurmd(own.call("squeue", "-h", "-o", "%N"))
    assert campaign.finish()["%016x" % 1]["status"] == "SUCCESS"


def test_a_scheduler_that_is_away_is_asked_again(own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_client, "ANSWER_SECONDS", 5.0)
    monkeypatch.setattr(slurm_watch, "LONGEST", 2.0)
    campaign = SlurmCampaign(own, tmp_path)
    campaign.add(1, "echo begun; sleep 20\n" + GOOD)
    campaign.add(2, SLEEPS, timeout=900)  # another shape: a job of its own
    campaign.stage()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1) and campaign.begun(2))
    for job in own.queue():
        own.save(job)
    own.kill_controller()
    killed = time.monotonic()
    campaign.wait(lambda: "m1" in campaign.classes())  # its own marker tells its end while nobody can be asked
    campaign.wait(lambda: bool(campaign.warnings) and time.monotonic() - killed > 60)
    assert campaign.classes() == {"m1": ("SUCCESS", "")}
    own.start_controller()
    campaign._keep(slurm_steps.cancelled(campaign.job(reason="done")))
    assert campaign.classes()["m2"] == ("FAILURE", "cancelled")
    own.wait_for_none()


def test_a_job_that_a_dying_scheduler_had_not_saved(own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """slurmctld comes back without the jobs of its last seconds, and its nodes end them: a cancel does not wait for them for ever."""
    monkeypatch.setattr(slurm_watch, "FORGOTTEN", 10.0)
    campaign = SlurmCampaign(own, tmp_path)
    campaign.add(1, SLEEPS)
    campaign.stage()
    own.save(own.submit("#!/bin/bash\nsleep 1000\n"))
    before = (own.folder / "state" / "job_state").read_bytes()
    campaign.start()
    campaign.wait(lambda: campaign.begun(1))
    own.kill_controller()
    (own.folder / "state" / "job_state").write_bytes(before)
    own.start_controller()
    campaign._keep(slurm_steps.cancelled(campaign.job(reason="done")))
    assert campaign.classes() == {"m1": ("FAILURE", "infra")}
    assert "neither squeue nor sacct nor scontrol knows the job" in campaign.results["%016x" % 1]["reason"]


def test_a_limit_on_the_number_of_jobs_makes_smaller_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What MaxSubmitJobs of the user keeps out is submitted in parts, each when there is room."""
    with Cluster(nodes=2, accounting=True, settings={"AccountingStorageEnforce": "associations,limits"}) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        user = getpass.getuser()
        for words in ("add account bench", "add user %s account=bench" % user, "modify user %s set maxsubmitjobs=3" % user):
            cluster.call("sacctmgr", "-i", *words.split())
        campaign = SlurmCampaign(cluster, tmp_path)
        for number in range(1, 9):
            campaign.add(number)
        campaign.stage()
        campaign.start()
        campaign.finish(300)
        assert set(campaign.classes().values()) == {("SUCCESS", "")}
        assert any("AssocMaxSubmitJobLimit" in warning and "arrays of 2 tasks" in warning for warning in campaign.warnings)
        assert len(campaign.warnings) > 1 and len(os.listdir(campaign.folder.file("submissions"))) == 5, "four arrays and the lock"
