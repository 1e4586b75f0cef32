# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin `k8s_nodes` through ansible-inventory: the stand-in's nodes, recorded ones, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster
from ansible_collections.mad.engine.tests.support.play import ROOT, environment

RECORDED = ROOT / "tests" / "fixtures" / "k8s" / "nodes.json"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2, run_controllers=False) as made:
        for node in json.loads(RECORDED.read_text("utf-8"))["items"]:
            made.store.put("nodes", node)
        yield made


def ask(folder: Path, settings: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(the whole inventory, what was said beside it)."""
    source = folder / "cluster.k8s_nodes.yml"
    source.write_text(json.dumps({"plugin": "mad.engine.k8s_nodes", "timeout": 5, **settings}))
    argv = [sys.executable, "-m", "ansible", "inventory", "-i", str(source), "--list"]
    done = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=180, check=False)
    return json.loads(done.stdout or "{}"), done.stderr


def hosts(found: Mapping[str, Any], group: str) -> list[str]:
    return sorted((found.get(group) or {}).get("hosts") or [])


def test_nodes_states_and_gpus(cluster: Cluster, tmp_path: Path) -> None:
    zones = [{"key": "k8s_labels['topology.kubernetes.io/zone'] | default('none')", "prefix": "zone"}]
    constructed = {"groups": {"broken": "k8s_gpus < k8s_gpus_present"}, "keyed_groups": zones}
    found, said = ask(tmp_path, {"kubeconfig": str(cluster.kubeconfig), **constructed})
    assert hosts(found, "k8s_nodes") == ["bare", "cpu-1", "gpu-1", "gpu-2", "node-1", "node-2"], said
    assert hosts(found, "k8s_vendor_amd") == ["gpu-1", "node-1", "node-2"] and hosts(found, "broken") == ["gpu-2"]
    assert hosts(found, "k8s_state_cordoned") == ["gpu-2"] and hosts(found, "k8s_state_not_ready") == ["bare", "cpu-1"]
    assert hosts(found, "k8s_gpu_AMD_Instinct_MI300X_OAM") == ["gpu-1", "node-1", "node-2"]
    variables = found["_meta"]["hostvars"]
    assert all(one["mad_skip"] is True for one in variables.values()) and hosts(found, "zone_a") == ["gpu-1"]
    assert (variables["gpu-1"]["k8s_gpus"], variables["gpu-2"]["k8s_gpus"], variables["cpu-1"]["k8s_gpus"]) == (8, 7, 0)


def test_only_some_nodes(cluster: Cluster, tmp_path: Path) -> None:
    found, said = ask(
        tmp_path, {"kubeconfig": str(cluster.kubeconfig), "label_selector": "topology.kubernetes.io/zone", "usable_only": True}
    )
    assert hosts(found, "k8s_nodes") == ["gpu-1"], said


def test_a_missing_right_and_a_missing_cluster_are_named(cluster: Cluster, tmp_path: Path) -> None:
    few = cluster.user("few", [("list", "pods")])
    for settings, words in (({"kubeconfig": str(few)}, ("nodes", "forbidden")), ({"kubeconfig": "/nowhere"}, ("/nowhere", "kubeconfig"))):
        dummy, said = ask(tmp_path, settings)
        plain = " ".join(said.split()).lower()
        assert all(word in plain for word in words), said
