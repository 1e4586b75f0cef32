# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole campaigns through ansible-playbook on a real cluster: containers, detached and killed plays, cancelling, what the plan refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support.campaigns import Playing
from ansible_collections.mad.engine.tests.support.mad_repo import MadRepo, mad_repo
from ansible_collections.mad.engine.tests.support.play import Played, command, play
from ansible_collections.mad.engine.tests.support.slurm import Cluster

__all__ = ["mad_repo"]  # a fixture

QUICK = 'echo "performance: 12.5 things_per_second"\n'
SLOW = "echo begun; sleep 300 & wait\n"


class Site:
    """A cluster, a repository, and plays on them."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self.cluster, self.home, self.repo, self.results = cluster, home, home / "repo", home / "results"
        self.cards: list[dict[str, Any]] = []

    def model(self, name: str, script: str, **card: Any) -> None:
        """Add a model that needs no image."""
        folder = self.repo / "scripts" / ("m%d" % len(self.cards))
        folder.mkdir(parents=True)
        (folder / "run.sh").write_text(script, "utf-8")
        entry = {"name": name, "scripts": "scripts/%s/run.sh" % folder.name, "dockerfile": "docker/x", "n_gpus": "0", "tags": ["all"], "args": ""}
        self.cards.append({**entry, **card})
        (self.repo / "models.json").write_text(json.dumps(self.cards), "utf-8")

    def variables(self, slurm: dict[str, Any], **more: Any) -> dict[str, Any]:
        """What a person says."""
        section = {"exclusive": False, "runtime": "host", "work_dir": str(self.home / "shared"), **slurm}
        context = {"gpu_vendor": "NONE", "guest_os": "UBUNTU", "slurm": section}
        known = {"mad_target": "slurm", "mad_context": context, "mad_repo": str(self.repo), "mad_results": str(self.results), "mad_campaign": "c"}
        return {**known, "mad_tags": "all", **more}

    def play(self, name: str, slurm: dict[str, Any] | None = None, arguments: tuple[str, ...] = (), **more: Any) -> Played:
        """Play one of the collection's playbooks."""
        return play("mad.engine." + name, self.home, variables=self.variables(slurm or {}, **more), arguments=arguments, env=self.cluster.env, timeout=900)

    def rows(self) -> dict[str, tuple[str, str]]:
        """{model: (status, class)} of perf.csv."""
        with open(self.results / "c" / "perf.csv", encoding="utf-8", newline="") as stream:
            return {row["model"]: (row["status"], row["failure_class"]) for row in csv.DictReader(stream)}


@pytest.fixture()
def site(slurm: Cluster, tmp_path: Path) -> Iterator[Site]:
    yield Site(slurm, tmp_path)
    slurm.call("scancel", "--me")
    slurm.wait_for_none()


def test_submit_and_leave_then_killed_then_cancelled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.model("quick", QUICK)
    site.model("dir/it's \"slow\" $(x)", SLOW)
    checked = site.play("run", arguments=("--check", "--diff"))
    assert checked.status == 0 and site.cluster.queue("PENDING", "RUNNING") == [] and not (site.home / "shared").exists(), checked.output
    left = site.play("run", mad_wait=False)
    assert left.status == 0, left.output
    assert len(site.cluster.call("squeue", "-h", "-r", "-t", "all", "-o", "%i").split()) >= 2
    numbers = set(site.cluster.call("squeue", "-h", "-r", "-o", "%i").split())
    monkeypatch.setenv("SLURM_CONF", site.cluster.env["SLURM_CONF"])
    argv = command("mad.engine.run", None, site.variables({}, mad_live_output=True))
    playing = Playing(argv, site.home, site.home / "second.log")
    site.cluster.wait_for(lambda: "begun" in playing.output(), "live output", 600)
    playing.kill()  # the controller's machine loses its power while it waits
    assert set(site.cluster.queue("PENDING", "RUNNING")) <= numbers, "a play that goes on submits nothing again"
    cancelled = site.play("cancel")
    assert site.rows() == {"quick": ("SUCCESS", ""), "dir/it's \"slow\" $(x)": ("FAILURE", "cancelled")}, cancelled.output
    site.cluster.wait_for_none()
    again = site.play("run")
    assert again.status != 0 and site.cluster.queue("PENDING", "RUNNING") == [], "a cancelled run stays cancelled"
    assert "begun" in "".join(path.read_text("utf-8") for path in (site.results / "c" / "runs").glob("*/run.log")), "logs came home all the same"


def test_what_sbatch_refuses_has_rows_and_fails_the_play(site: Site) -> None:
    site.model("one", QUICK)
    site.model("two", QUICK)
    played = site.play("run", {"partition": "nowhere"})
    assert played.status != 0 and "nvalid partition" in played.output
    assert site.rows() == dict.fromkeys(("one", "two"), ("FAILURE", "launch"))
    assert site.play("run", mad_keep_alive=True).output.count("mad_keep_alive is not supported for target slurm") >= 1


def test_containers_from_an_image_that_was_built_here(slurm: Cluster, mad_repo: MadRepo, tmp_path: Path) -> None:
    model = mad_repo.model("boxed", QUICK + "test -e /.dockerenv && echo in a container\n")
    site = Site(slurm, tmp_path)
    site.repo = mad_repo.folder
    played = site.play("run", {"runtime": ""}, mad_tags="boxed")
    assert played.status == 0 and site.rows() == {model: ("SUCCESS", "")}, played.output
    (log,) = (site.results / "c" / "runs").glob("*/run.log")
    (result,) = (json.loads(path.read_text("utf-8")) for path in (site.results / "c" / "runs").glob("*/result.json"))
    assert "in a container" in log.read_text("utf-8")
    assert result["target"]["runtime"] == "docker" and result["image"]["digest"].startswith("sha256:") and result["timings"]["stage"] > 0
    assert [path.suffix for path in (tmp_path / "shared" / "images").iterdir()] == [".tar"], "one archive for all nodes"
