# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One campaign over a machine, a real Slurm cluster and the Kubernetes stand-in: the example inventory as it stands, one table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster as KubernetesCluster
from ansible_collections.mad.engine.tests.support.k8s_host import k8s
from ansible_collections.mad.engine.tests.support.play import DEMO, ROOT, play
from ansible_collections.mad.engine.tests.support.slurm import Cluster

FIXTURES = (k8s,)
INVENTORY = ROOT / "inventories" / "mixed.example"
HOSTS = {"kubernetes": "k8s", "machine": "local", "slurm": "slurm"}
COLUMN = {"kubernetes": "kubernetes", "machine": "local", "slurm": "slurm"}  # madengine's words


def test_one_campaign_on_three_kinds_of_hosts(slurm: Cluster, k8s: KubernetesCluster, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # ~/mad-engine is Slurm's work folder unless another is named.
    env = {**slurm.env, "KUBECONFIG": str(k8s.kubeconfig), "HOME": str(home)}
    variables = {"mad_repo": str(DEMO), "mad_tags": "hash_sha256", "mad_campaign": "mixed", "mad_results": str(tmp_path / "results")}
    variables.update(mad_work_dir="", mad_host_lock=str(tmp_path / "lock"))
    played = play("mad.engine.run", tmp_path, inventory=INVENTORY, variables=variables, env=env, timeout=600)
    assert played.status == 0, played.output
    with open(tmp_path / "results" / "mixed" / "perf.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["host"]: row["deployment_type"] for row in rows} == COLUMN and len(rows) == len(HOSTS)
    assert {(row["model"], row["status"], row["metric"]) for row in rows} == {("hash_sha256", "SUCCESS", "MB_per_second")}
    records = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "results" / "mixed" / "runs").glob("*/result.json")]
    kinds = {record["place"]["host"]: record["target"] for record in records}
    assert {host: target["kind"] for host, target in kinds.items()} == HOSTS
    assert kinds["slurm"]["job"] and kinds["slurm"]["nodes"] and kinds["kubernetes"]["pods"]
    k8s.wait(lambda: not k8s.store.list("jobs") and not k8s.store.list("configmaps"), "nothing is left in the cluster")
