# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks compare, diagnose and release_host as a person calls them: real campaigns, and bad nodes of a real Slurm cluster
and of the stand-in of a Kubernetes cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_client import MERGE, Api, Connection
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_cordon import AT, BY, CAMPAIGN, REASON
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.plugin_utils import store
from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster as KubernetesCluster
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.records import FACTS, make_campaign, make_metric, make_outcome, make_parsed, make_run
from ansible_collections.mad.engine.tests.support.slurm import Cluster

# Numbers that scatter by one percent without chance: what is tested here is the way, not the statistics.
SCATTER = (1.0, 1.004, 0.996, 1.002, 0.998, 1.001)


def campaign(results: Path, name: str, speeds: dict[str, float]) -> None:
    """A campaign of six repeats, as a run leaves it."""
    runs, found = [], []
    for model, speed in speeds.items():
        for repeat, part in enumerate(SCATTER, 1):
            run = dict(make_run(len(runs) + 1, model=model, repeat=repeat), campaign=name)
            metric = make_metric(value=speed * part, text="%.6g" % (speed * part))
            found.append(records.make_record(run, make_outcome(), make_parsed(metrics=[metric]), FACTS))
            runs.append(run)
    made = make_campaign(results, runs, name)
    for record in found:
        made.save_result(record)
    store.store(made, store.Options(hosts={}))


def test_two_campaigns_one_of_them_slower(tmp_path: Path) -> None:
    campaign(tmp_path / "results", "before", {"steady": 20000.0, "slowed": 20000.0})
    campaign(tmp_path / "results", "after", {"steady": 20000.0, "slowed": 15000.0})
    words = {"mad_baseline": "before", "mad_candidate": "after", "mad_output": str(tmp_path / "verdicts.json"), "mad_fail_on": "regressed"}
    looked = play("mad.engine.compare", tmp_path, variables=words, arguments=["--check", "--diff"])
    assert looked.status == 2 and not (tmp_path / "verdicts.json").exists()
    played = play("mad.engine.compare", tmp_path, variables=words)
    assert played.status == 2
    assert "mad_fail_on=regressed: 1 of 2 comparisons: slowed --a 1 -25" in played.output
    found = {entry["model"]: entry for entry in json.loads((tmp_path / "verdicts.json").read_text())}
    assert {name: entry["verdict"] for name, entry in found.items()} == {"slowed": "regressed", "steady": "same"}
    assert 0.74 < found["slowed"]["low"] < 0.75 < found["slowed"]["high"] < 0.76
    assert found["slowed"]["hardware"]
    assert ",-0.2" in (tmp_path / "results" / "after" / "perf.csv").read_text()
    del words["mad_fail_on"], words["mad_candidate"]
    again = play("mad.engine.compare", tmp_path, variables=words)
    assert again.status == 0 and again.recap()["localhost"]["changed"] == 0


# -- the fleet ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture()
def out(slurm: Cluster) -> Iterator[Cluster]:
    """A cluster whose n8 somebody has drained; afterwards all nodes are in again."""
    slurm.call("scontrol", "update", "NodeName=n8", "State=DRAIN", "Reason=fan broken")
    yield slurm
    for node in slurm.nodes:
        if "drain" in slurm.call("scontrol", "show", "node", node).lower():
            slurm.call("scontrol", "update", "NodeName=" + node, "State=RESUME")


def reasons(cluster: Cluster) -> dict[str, str]:
    """{node: reason} of those that are out."""
    lines = cluster.call("sinfo", "-h", "-N", "-R", "-o", "%N|%E").splitlines()
    return dict(line.split("|", 1) for line in lines)


def table_of(nodes: list[str], slow: dict[str, float]) -> str:
    """A perf.csv of four runs on each node, of which some are slow."""
    head = "model,performance,metric,host,n_gpus,gpu_architecture,status\n"
    speeds = [(node, (100.0 + n / 10 + k / 10) * slow.get(node, 1.0)) for n, node in enumerate(nodes, 1) for k in range(4)]
    return head + "".join("m,%r,img/s,%s,8,gfx942,SUCCESS\n" % (speed, node) for node, speed in speeds)


@pytest.mark.real
def test_bad_nodes_are_drained_and_given_back(out: Cluster, tmp_path: Path) -> None:
    (tmp_path / "perf.csv").write_text(table_of(["n%d" % n for n in range(1, 9)], {"n3": 0.9, "n8": 0.8}))
    (tmp_path / "results").mkdir()
    words: dict[str, Any] = {"mad_candidate": "perf.csv", "mad_drain": "slurm"}

    def playing(playbook: str, *arguments: str, **more: Any) -> Played:
        return play(
            "mad.engine." + playbook,
            tmp_path,
            variables={**words, **more},
            arguments=arguments,
            env={**out.environment(), "LC_ALL": "C.UTF-8"},
        )

    looked = playing("diagnose", "--check", "--diff")
    assert looked.status == 0 and "n3: mad.engine: slow: m img/s -" in looked.output
    assert reasons(out) == {"n8": "fan broken"} and not (tmp_path / "results" / "quarantine.yml").exists()
    done = playing("diagnose")
    assert done.status == 0, done.output
    assert set(reasons(out)) == {"n3", "n8"} and reasons(out)["n8"] == "fan broken"
    assert reasons(out)["n3"].startswith("mad.engine: slow: m img/s -")
    group = yaml.safe_load((tmp_path / "results" / "quarantine.yml").read_text())["mad_quarantined"]
    assert sorted(group["hosts"]) == ["n3", "n8"]
    assert playing("diagnose").recap()["localhost"]["changed"] == 0
    # Whoever is in the group takes part in nothing; who is released does, but somebody else's drain stays.
    kept = playing("release_host", mad_release="n3,n8")
    assert kept.status == 0, kept.output
    assert reasons(out) == {"n8": "fan broken"}
    assert yaml.safe_load((tmp_path / "results" / "quarantine.yml").read_text())["mad_quarantined"]["hosts"] == {}
    unknown = playing("release_host", mad_release="n3")
    assert unknown.status == 2 and "n3: not in quarantine" in unknown.output


def test_bad_nodes_are_cordoned_and_given_back(tmp_path: Path) -> None:
    slow = {"node-3": 0.9, "node-8": 0.8}
    (tmp_path / "perf.csv").write_text(table_of(["node-%d" % n for n in range(1, 9)], slow))
    (tmp_path / "results").mkdir()
    with KubernetesCluster(nodes=8, run_controllers=False) as cluster:
        api = Api(Connection(kubeconfig=str(cluster.kubeconfig)))

        def set_by_hand(node: str, out: bool) -> None:
            body = {"spec": {"unschedulable": out or None}}
            api.call("PATCH", api.path("nodes", node), {"fieldManager": "kubectl-cordon"}, body, MERGE)

        def out() -> dict[str, str]:
            nodes = cluster.store.list("nodes")
            return {n["metadata"]["name"]: (n["metadata"].get("annotations") or {}).get(REASON, "") for n in nodes if n["spec"].get("unschedulable")}

        def playing(playbook: str, *arguments: str, **more: Any) -> Played:
            words = {"mad_candidate": "perf.csv", "mad_drain": "k8s", "mad_drain_kubeconfig": str(cluster.kubeconfig), **more}
            return play("mad.engine." + playbook, tmp_path, variables=words, arguments=arguments)

        set_by_hand("node-8", True)
        poor = playing("diagnose", mad_drain_kubeconfig=str(cluster.user("poor", [("list", "nodes"), ("get", "nodes")])))
        assert poor.status == 2 and "the credentials may not patch nodes; docs/kubernetes.md has the ClusterRole" in poor.output
        looked = playing("diagnose", "--check", "--diff")
        assert looked.status == 0 and "node-3: mad.engine: slow: m img/s -" in looked.output and out() == {"node-8": ""}
        assert playing("diagnose").recap()["localhost"]["changed"] == 1
        assert out()["node-8"] == "" and out()["node-3"].startswith("mad.engine: slow: m img/s -") and len(out()) == 2
        noted = cluster.store.get("nodes", "", "node-3")["metadata"]["annotations"]
        assert noted[CAMPAIGN] == "perf.csv" and "@" in noted[BY] and noted[AT].endswith("Z")
        kept = playing("release_host", mad_release="node-3,node-8")
        assert kept.status == 0 and out() == {"node-8": ""}, kept.output
        assert not cluster.store.get("nodes", "", "node-3")["metadata"].get("annotations")


def test_nobody_is_drained_by_what_nobody_knows(tmp_path: Path) -> None:
    played = play("mad.engine.diagnose", tmp_path, variables={"mad_drain": "nomad", "mad_candidate": "perf.csv"})
    assert played.status == 2 and "mad_drain=nomad is not supported by this release" in played.output
