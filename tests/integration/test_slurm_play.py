# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole campaigns through ansible-playbook on a real cluster: containers, detached and killed plays, cancelling, what the plan refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.mad_repo import MadRepo, mad_repo
from ansible_collections.mad.engine.tests.support.sites import QUICK, SLOW, Site
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.sshd import Fleet

__all__ = ["mad_repo"]  # a fixture


class SlurmSite(Site):
    """A person on the login node."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        section = {"exclusive": False, "runtime": "host", "work_dir": str(home / "shared")}
        super().__init__(home, "slurm", section, cluster.env)
        self.cluster = cluster


@pytest.fixture()
def site(slurm: Cluster, tmp_path: Path) -> Iterator[SlurmSite]:
    yield SlurmSite(slurm, tmp_path)
    slurm.call("scancel", "--me")
    slurm.wait_for_none()


def test_submit_and_leave_then_killed_then_cancelled(site: SlurmSite) -> None:
    site.model("quick", QUICK)
    site.model("dir/it's \"slow\" $(x)", SLOW)
    checked = site.play("run", arguments=("--check", "--diff"))
    assert checked.status == 0 and site.cluster.queue("PENDING", "RUNNING") == [] and not (site.home / "shared").exists(), checked.output
    left = site.play("run", {"output_dir": str(site.home / "scripts")}, mad_wait=False)
    assert left.status == 0, left.output
    assert [path.read_text("utf-8").startswith("#!") for path in (site.home / "scripts" / "c").glob("mad-*.sh")] == [True], "one array"
    assert len(site.cluster.call("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()) >= 2
    numbers = set(site.cluster.call("squeue", "-h", "-r", "-o", "%i").split())
    playing = site.playing("run", mad_live_output=True)
    site.cluster.wait_for(lambda: "begun" in playing.output(), "live output", 600)
    playing.kill()  # the controller's machine loses its power while it waits
    assert set(site.cluster.queue("PENDING", "RUNNING")) <= numbers, "a play that goes on submits nothing again"
    cancelled = site.play("cancel")
    assert site.rows() == {"quick": ("SUCCESS", ""), "dir/it's \"slow\" $(x)": ("FAILURE", "cancelled")}, cancelled.output
    site.cluster.wait_for_none()
    again = site.play("run")
    assert again.status != 0 and site.cluster.queue("PENDING", "RUNNING") == [], "a cancelled run stays cancelled"
    assert "begun" in site.logs(), "logs came home all the same"


def test_what_sbatch_refuses_has_rows_and_fails_the_play(site: SlurmSite) -> None:
    site.model("one", QUICK)
    site.model("two", QUICK)
    played = site.play("run", {"partition": "nowhere"})
    assert played.status != 0 and "nvalid partition" in played.output
    assert site.rows() == dict.fromkeys(("one", "two"), ("FAILURE", "launch"))


def test_the_login_node_is_another_host(slurm: Cluster, fleet: Fleet, tmp_path: Path) -> None:
    """Named in the context only: no inventory has it, so SSH's own configuration says where it is."""
    login = fleet.add("login", slurm.env)
    fleet.write_inventory(tmp_path / "unused")  # and with it the known hosts
    known = "HostKeyAlias [%s]:%d\nUserKnownHostsFile %s" % (login.address, login.port, fleet.folder / "known_hosts")
    words = "Host hpc\nHostName %s\nPort %d\nIdentityFile %s\n%s\n" % (login.address, login.port, fleet.key, known)
    (tmp_path / "ssh_config").write_text(words, "utf-8")
    site = SlurmSite(slurm, tmp_path)
    site.env = {"ANSIBLE_SSH_ARGS": "-F %s" % (tmp_path / "ssh_config")}  # nothing of Slurm's: this machine is no login node
    site.section["login_node"] = "hpc"
    site.model("slow", SLOW)
    left = site.play("run", mad_wait=False)
    assert left.status == 0 and slurm.queue("PENDING", "RUNNING"), left.output
    cancelled = site.play("cancel")
    assert cancelled.status == 0 and site.rows() == {"slow": ("FAILURE", "cancelled")}, cancelled.output
    slurm.wait_for_none()
    cleaned = site.play("clean", mad_keep_days=0)
    assert cleaned.status == 0 and not list((tmp_path / "shared" / "campaigns").iterdir()), cleaned.output


def test_containers_from_an_image_that_was_built_here(slurm: Cluster, mad_repo: MadRepo, tmp_path: Path) -> None:
    model = mad_repo.model("boxed", QUICK + "test -e /.dockerenv && echo in a container\n")
    site = SlurmSite(slurm, tmp_path)
    site.repo = mad_repo.folder
    played = site.play("run", {"runtime": ""}, mad_tags="boxed")
    assert played.status == 0 and site.rows() == {model: ("SUCCESS", "")}, played.output
    (log,) = (site.results / "c" / "runs").glob("*/run.log")
    (result,) = (json.loads(path.read_text("utf-8")) for path in (site.results / "c" / "runs").glob("*/result.json"))
    assert "in a container" in log.read_text("utf-8")
    assert result["target"]["runtime"] == "docker" and result["image"]["digest"].startswith("sha256:") and result["timings"]["stage"] > 0
    assert [path.suffix for path in (tmp_path / "shared" / "images").iterdir()] == [".tar"], "one archive for all nodes"
