# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_job on real clusters: idempotent by name, found again, waited for, cancelled; with and without accounting; controller gone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import LaunchError
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_client, slurm_states
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.slurm import Cluster

HEAD = "#!/bin/bash\n"


class Site:
    """A cluster and plays that use it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder, self.count = cluster, folder, 0

    def client(self) -> slurm_client.Slurm:
        return slurm_client.Slurm(self.cluster.environment())

    def play(self, tasks: list[dict[str, Any]], *arguments: str) -> tuple[Played, list[dict[str, Any]]]:
        """Run slurm_job with each of these arguments, on one after the other; (how the play ended, what each task returned)."""
        self.count += 1
        name = "play%d" % self.count
        results = self.folder / (name + ".results")
        listed: list[dict[str, Any]] = []
        for index, task in enumerate(tasks):
            task = {"chdir": str(self.folder), "output": str(self.folder / "%x-%j.out"), **task}
            listed.append({"mad.engine.slurm_job": task, "register": "r%d" % index, "ignore_errors": True})
        copy = {"content": "{{ [%s] | to_json }}" % ", ".join("r%d" % index for index in range(len(tasks))), "dest": str(results)}
        listed.append({"ansible.builtin.copy": copy, "check_mode": False, "diff": False})
        document = [{"hosts": "localhost", "gather_facts": False, "tasks": listed}]
        (self.folder / (name + ".yml")).write_text(json.dumps(document))
        played = play(name + ".yml", self.folder, arguments=arguments, env=self.cluster.env)
        assert results.exists(), played.output
        return played, json.loads(results.read_text())


@pytest.fixture(params=["slurm", "slurm_accounting"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    cluster: Cluster = request.getfixturevalue(request.param)
    yield Site(cluster, tmp_path)
    cluster.call("scancel", "--me")
    cluster.wait_for_jobs()


def test_submitted_once_waited_for_and_done(site: Site) -> None:
    job = {"name": "once-%d" % time.time_ns(), "script": HEAD + "echo hello\nsleep 1\n", "wait": True}
    _played, (first, again, more) = site.play([job, job, dict(job, again=True)])
    assert first["changed"] and first["submitted"] and not first["failed"]
    assert [entry["phase"] for entry in first["jobs"]] == ["ended"] and first["jobs"][0]["nodes"]
    assert (site.folder / ("%s-%d.out" % (job["name"], first["job"]))).read_text() == "hello\n"
    assert not again["changed"] and again["job"] == first["job"], "a job that has ended is done"
    assert more["changed"] and more["job"] != first["job"], "unless another one is asked for"


def test_check_mode_and_diff_touch_nothing(site: Site) -> None:
    job = {"name": "checked", "script": HEAD + 'echo "it\'s $HOME"\n', "options": {"comment": "it's", "time": 7200}, "nodes": 2}
    played, (told,) = site.play([job], "--check", "--diff")
    assert told["changed"] and not told["submitted"] and site.cluster.queue() == []
    for line in ("+#SBATCH --job-name=checked", "+#SBATCH --nodes=2", "+#SBATCH --time=02:00:00", '+echo "it\'s $HOME"'):
        assert line in played.output


def test_an_array_is_one_job_and_is_cancelled_by_its_name_alone(site: Site) -> None:
    other = site.cluster.submit(HEAD + "sleep 600\n", "--job-name=somebody-elses")
    array = {"name": "array", "script": HEAD + "sleep 600\n", "array": "0-4"}
    gone = {"name": "array", "state": "absent", "wait": True}
    _played, (first, again, cancelled, nothing) = site.play([array, array, gone, gone])
    assert first["changed"] and not again["changed"] and again["job"] == first["job"]
    assert len(cancelled["jobs"]) == 5 and cancelled["changed"] and not nothing["changed"]
    site.cluster.wait_for(lambda: site.cluster.queue() == [other], "queue with somebody else's job alone")


def test_what_does_not_end_well_fails_the_task(site: Site) -> None:
    bad = {"name": "bad", "script": HEAD + "exit 3\n", "wait": True, "again": True}
    slow = {"name": "slow", "script": HEAD + "sleep 600\n", "wait": True, "wait_timeout": 2}
    _played, (failed, late) = site.play([bad, slow])
    assert failed["failed"] and "did not end well" in failed["msg"] and "not 0" in failed["msg"]
    assert late["failed"] and "not done after 2 s" in late["msg"] and len(site.cluster.queue("RUNNING", "PENDING")) == 1


def test_what_slurm_refuses_is_said_in_its_words(site: Site) -> None:
    wrong = [
        ({"options": {"partition": "nowhere"}}, "invalid partition"),
        ({"options": {"constraint": "nowhere"}}, "Invalid feature"),
        ({"nodes": 0}, "at least 1"),
        ({"options": {"partiton": "x"}}, "did you mean partition"),
        ({"script": "echo\n"}, "first line must name an interpreter"),
        ({"array": "0;id"}, "array"),
        ({"name": "a b"}, "name"),
    ]
    _played, answers = site.play([{"name": "refused", "script": HEAD, **more} for more, dummy_words in wrong])
    for (more, words), answer in zip(wrong, answers, strict=True):
        assert answer["failed"] and words in answer["msg"], (more, answer)
    assert site.cluster.queue() == []


def test_quotes_and_substitutions_reach_slurm_as_they_are(site: Site) -> None:
    comment = 'it\'s "$(touch hacked)"; `id` x'
    _played, (answer,) = site.play([{"name": "hostile", "script": HEAD + "sleep 60\n", "options": {"comment": comment}}])
    assert answer["submitted"], answer
    assert site.cluster.call("squeue", "-h", "-o", "%k", "--name=hostile") == comment
    assert not (site.folder / "hacked").exists()


def test_one_command_for_all_jobs_of_a_poll(slurm: Cluster, tmp_path: Path) -> None:
    client = slurm_client.Slurm(slurm.environment())
    names = ["mad-%012x" % number for number in range(3)]
    for name in names:
        client.submit(name, HEAD + "sleep 1\n", ["--job-name=" + name, "--output=/dev/null"])
    before = client.calls
    pauses: list[float] = []
    found = slurm_client.wait(client, names, 60, lambda seconds: (pauses.append(seconds), time.sleep(seconds))[0])
    assert client.calls - before == len(pauses) + 1
    assert {job.name for job in found} == set(names) and all(job.state.good for job in found)


def test_a_short_job_is_found_although_accounting_knows_another_name(slurm_accounting: Cluster) -> None:
    client = slurm_client.Slurm(slurm_accounting.environment())
    number = client.submit("quick", HEAD, ["--job-name=quick", "--output=/dev/null"])
    (job,) = slurm_client.wait(client, ["quick"], 300)
    assert job.job == number and job.state.phase == slurm_states.ENDED


def test_a_controller_that_is_gone_for_a_while() -> None:
    components.require("slurm")
    with Cluster(nodes=1, settings={"MessageTimeout": "2"}) as cluster:
        client = slurm_client.Slurm(cluster.environment())
        client.submit("patient", HEAD + "sleep 20\n", ["--job-name=patient", "--output=/dev/null"])
        cluster.wait_for(lambda: cluster.call("squeue", "-h", "-o", "%T") == "RUNNING", "running job")
        found: list[Any] = []
        waiter = threading.Thread(target=lambda: found.extend(slurm_client.wait(client, ["patient"], 120)))
        saved, began = cluster.folder / "state" / "job_state", time.time()
        cluster.wait_for(lambda: saved.exists() and saved.stat().st_mtime > began - 1, "saved state")  # slurmctld writes it a moment later
        waiter.start()
        cluster.kill_controller()
        with pytest.raises(slurm_client.Silent):
            slurm_client.Slurm(cluster.environment()).jobs(["patient"])
        cluster.start_controller()
        waiter.join(120)
        assert [job.state.good for job in found] == [True]


def test_without_slurm_the_error_says_where_to_go(tmp_path: Path) -> None:
    client = slurm_client.Slurm({"PATH": str(tmp_path)})
    client.environ["PATH"] = str(tmp_path)
    with pytest.raises(slurm_client.MadError, match="login node"):
        client.call("no-such-command-of-slurm")


def test_a_refusal_is_a_launch_error(slurm: Cluster) -> None:
    with pytest.raises(LaunchError, match="sbatch refused x: .*[Ii]nvalid"):
        slurm_client.Slurm(slurm.environment()).submit("x", HEAD, ["--partition=nowhere"])


def test_a_job_inherits_neither_ansible_nor_secrets() -> None:
    given = {"PATH": "/bin", "ANSIBLE_X": "1", "HF_TOKEN": "s", "SLURM_JOB_ID": "5", "SLURM_CONF": "/c", "SSH_CLIENT": "x"}
    assert slurm_client.job_environment(given) == {"PATH": "/bin", "SLURM_CONF": "/c"}
