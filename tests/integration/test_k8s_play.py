# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole campaigns through ansible-playbook on the Kubernetes stand-in: check mode, detached and killed plays, cancelling, cleaning."""

from __future__ import annotations

import csv
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster
from ansible_collections.mad.engine.tests.support.k8s_host import k8s
from ansible_collections.mad.engine.tests.support.play import ROOT
from ansible_collections.mad.engine.tests.support.sites import QUICK, SLOW, Site

FIXTURES = (k8s,)


class KubernetesSite(Site):
    """A person whose machine reaches the API."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        env = {"KUBECONFIG": str(cluster.kubeconfig)}
        super().__init__(home, "k8s", {}, env, MAD_CONTAINER_IMAGE="busybox:1")
        self.cluster, self.work = cluster, home / "work"

    def variables(self, *given: object, **more: object) -> dict[str, object]:
        """With a work folder of its own."""
        return super().variables(*given, **{"mad_work_dir": str(self.work), **more})  # type: ignore[arg-type]

    def made(self, plural: str) -> Counter[str]:
        """How often an object was created for each model."""
        found = [change.value["metadata"] for change in self.cluster.store.history if (change.plural, change.kind) == (plural, "ADDED")]
        return Counter(str(metadata["annotations"]["mad.engine/model"]) for metadata in found)

    def left(self) -> list[str]:
        """What is in the cluster."""
        kinds = ("jobs", "pods", "secrets", "configmaps", "services")
        return [value["metadata"]["name"] for kind in kinds for value in self.cluster.store.list(kind)]

    def wait_for_nothing(self) -> None:
        """Until everything of ours is gone."""
        self.cluster.wait(lambda: not self.left(), "an empty cluster")


@pytest.fixture()
def site(k8s: Cluster, tmp_path: Path) -> KubernetesSite:
    return KubernetesSite(k8s, tmp_path)


def test_detached_then_killed_then_cancelled(site: KubernetesSite) -> None:
    slow = "dir/it's \"slow\" $(x)"
    site.model("quick", QUICK)
    site.model(slow, SLOW)
    checked = site.play("run", arguments=("--check", "--diff"))
    assert checked.status == 0 and "quick" in checked.output, checked.output
    assert not site.left() and not site.work.exists() and site.cluster.api.count("POST") == 0, "check mode makes and asks nothing"
    left = site.play("run", mad_wait=False)
    assert left.status == 0 and site.made("jobs"), left.output
    playing = site.playing("run", mad_live_output=True)
    site.cluster.wait(lambda: "begun" in playing.output(), "live output", 300)
    playing.kill()  # the controller's machine loses its power while it waits
    cancelled = site.play("cancel")
    assert cancelled.status == 0 and site.rows() == {"quick": ("SUCCESS", ""), slow: ("FAILURE", "cancelled")}, cancelled.output
    site.wait_for_nothing()
    assert site.made("jobs") == site.made("pods") == {"quick": 1, slow: 1}, "nothing ran twice"


def test_killed_while_it_starts_then_kept_then_cleaned(site: KubernetesSite) -> None:
    names = ["m%d" % number for number in range(4)]
    for name in names:
        site.model(name, "sleep 2; " + QUICK)
    playing = site.playing("run", mad_keep_alive=True)
    site.cluster.wait(lambda: site.cluster.store.list("jobs"), "the first Job", 300)
    playing.kill()
    joined = site.play("run", mad_keep_alive=True)
    assert joined.status == 0 and site.rows() == dict.fromkeys(names, ("SUCCESS", "")), joined.output
    assert site.made("jobs") == site.made("pods") == dict.fromkeys(names, 1)
    assert len(site.cluster.store.list("jobs")) == len(names), "mad_keep_alive leaves them"
    checked = site.play("clean", arguments=("--check", "--diff"), mad_keep_days=0)
    assert checked.status == 0 and "-job " in checked.output and len(site.cluster.store.list("jobs")) == len(names), checked.output
    cleaned = site.play("clean", mad_keep_days=0)
    assert cleaned.status == 0 and not list(site.work.glob("campaigns/*")), cleaned.output
    site.wait_for_nothing()


def test_stopped_by_a_failure_then_the_rest(site: KubernetesSite) -> None:
    """Above mad_max_failures nothing more begins: what runs may end, each planned run has its row, and the next play runs the rest."""
    site.model("a-crash", "exit 3\n")
    site.model("b-going", "sleep 10; " + QUICK)
    site.model("c-last", QUICK)
    stopped = site.play("run", {"max_jobs": 1}, mad_max_failures=0)
    assert stopped.status == 2 and "1 runs failed, mad_max_failures accepts 0" in stopped.output, stopped.output
    assert site.rows()["a-crash"] == ("FAILURE", "crash") and site.rows()["c-last"] == ("SKIPPED", ""), site.rows()
    assert len(site.rows()) == 3 and "c-last" not in site.made("jobs")
    site.wait_for_nothing()
    rest = site.play("run")
    assert site.rows() == {"a-crash": ("FAILURE", "crash"), "b-going": ("SUCCESS", ""), "c-last": ("SUCCESS", "")}, rest.output
    assert site.made("jobs")["c-last"] == 1
    site.wait_for_nothing()


def test_further_rounds_until_it_is_decided(site: KubernetesSite) -> None:
    site.model("steady", QUICK)
    before = site.play("run", mad_campaign="before", mad_repeats=4)
    assert before.status == 0, before.output
    after = site.play("run", mad_repeats=2, mad_repeats_max=6, mad_baseline="before", mad_fail_on="regressed")
    assert after.status == 0 and "1 same" in after.output, after.output
    with open(site.results / "c" / "perf.csv", encoding="utf-8", newline="") as stream:
        rows = [(row["repeat"], row["status"]) for row in csv.DictReader(stream)]
    assert rows == [(str(number), "SUCCESS") for number in range(1, 5)], "two, and two more that decide"
    assert site.made("jobs") == site.made("pods") == {"steady": 8}
    site.wait_for_nothing()


def test_the_stand_in_for_people_starts_from_a_checkout_and_ends() -> None:
    program = [str(ROOT / "tests" / "support" / "k8s-cluster"), "start"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        name, dummy, value = process.stdout.readline().strip().removeprefix("export ").partition("=")
        assert name == "KUBECONFIG" and Path(value).is_file()
        process.terminate()
        assert process.wait(60) == 0 and not Path(value).exists()
