# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Job waits for outside of its pods: a quota of the namespace, Kueue. It is said while it lasts, and then the model runs, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster
from ansible_collections.mad.engine.tests.support.k8s_controller import event
from ansible_collections.mad.engine.tests.support.k8s_host import ClusterHost, k8s

FIXTURES = (k8s,)
PRINT = 'echo "performance: 12.5 things_per_second"\n'
pytestmark = pytest.mark.real


def wait_for(host: ClusterHost, *words: str) -> None:
    """Until each of these is what some run is said to wait for, at the same time."""

    def told() -> bool:
        waits = [str(entry.get("waits")) for entry in host.poll()["running"]]
        return all(any(word in said for said in waits) for word in words)

    host.until(told, 300)


def test_runs_wait_for_a_quota_and_then_run(tmp_path: Path, k8s: Cluster) -> None:
    """Of Jobs, of what a Job owns, of pods; nothing is made twice meanwhile."""
    k8s.store.quotas = {"jobs": 1, "configmaps": 0}
    k8s.controllers.quota = "exceeded quota: team, requested: pods=1, used: pods=0, limited: pods=0"
    host = ClusterHost(tmp_path, k8s, pending_timeout=600)
    runs = [host.run(PRINT), host.run(PRINT)]
    try:
        host.go()
        wait_for(host, "exceeded quota: team, requested: count/jobs.batch=1", "exceeded quota: team, requested: count/configmaps=1")
        assert len(k8s.store.list("jobs")) == 1 and not k8s.pods()
        k8s.store.quotas = {"jobs": 1}
        wait_for(host, "count/jobs.batch=1", "exceeded quota: team, requested: pods=1")
        k8s.controllers.quota = ""
        records = host.wait(300)
        assert [records[run]["status"] for run in runs] == ["SUCCESS"] * 2, records
        made = [change.plural for change in k8s.store.history if change.kind == "ADDED" and change.plural in ("jobs", "pods")]
        assert sorted(made) == ["jobs", "jobs", "pods", "pods"]
        k8s.wait(lambda: not host.left(), "everything in the cluster is gone")
    finally:
        host.close()


def test_the_reason_of_kueue_is_told(tmp_path: Path, k8s: Cluster) -> None:
    """It stands in events of the Workload that Kueue makes of the Job; what it is called stands in an event of the Job."""
    host = ClusterHost(tmp_path, k8s, queue_name="gpus", pending_timeout=600)
    run = host.run(PRINT)
    try:
        host.go()
        wait_for(host, "queue gpus (k8s.queue_name) has not admitted it yet")
        job = k8s.store.list("jobs")[0]
        workload = {"kind": "Workload", "metadata": {"name": "job-%s-1a2b3" % job["metadata"]["name"], "namespace": "default", "uid": "w"}}
        event(k8s.store, job, "Normal", "CreatedWorkload", "Created Workload: default/" + workload["metadata"]["name"])  # type: ignore[index]
        event(k8s.store, workload, "Warning", "Pending", "couldn't assign flavors to pod set main: insufficient quota for amd.com/gpu")
        wait_for(host, "has not admitted it yet: Pending (couldn't assign flavors to pod set main: insufficient quota for amd.com/gpu)")
        k8s.store.update("jobs", "default", job["metadata"]["name"], lambda value: value["spec"].update(suspend=False))
        record = host.wait(300)[run]
        assert record["status"] == "SUCCESS", record
        asked = k8s.api.count("GET", "/events$")
        assert 2 <= asked < 30, "the events are looked at now and then"
    finally:
        host.close()
