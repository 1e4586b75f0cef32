# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign on the cluster stand-in: real containers (processes in namespaces), every fault that a cluster has for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.tests.support.k8s_cluster import Cluster, Fault
from ansible_collections.mad.engine.tests.support.k8s_host import IMAGE, ClusterHost, k8s, k8s_host

FIXTURES = (k8s, k8s_host)
PRINT = 'echo "performance: 12.5 things_per_second"\n'
LONG = "echo begun; for i in $(seq 600); do sleep 0.1; done\n"
pytestmark = pytest.mark.real


def test_a_campaign_of_several_runs(k8s_host: ClusterHost, k8s: Cluster) -> None:
    good = k8s_host.run("echo hello; echo secret is $TOKEN; " + PRINT, secret_env=["TOKEN"])
    crash = k8s_host.run("echo oops; exit 3\n")
    silent = k8s_host.run("echo nothing to say\n")
    results = k8s_host.run("printf 'model,performance,metric\\na,1,x\\nb,2,y\\n' > out.csv\n", multiple_results="out.csv")
    slow = k8s_host.run(LONG, timeout=2)
    prepared = k8s_host.run(PRINT, skip_model_run=True)
    k8s_host.stage({"TOKEN": "hunter2-and-more"})
    assert set(k8s_host.start()["acknowledged"]) == set(k8s_host.planned)
    records = k8s_host.wait(300)
    assert (records[good]["status"], records[good]["metrics"][0]["value"]) == ("SUCCESS", 12.5)
    assert records[good]["target"]["kind"] == "k8s" and records[good]["host"]["kubelet"] == "v1.36.0"
    assert records[good]["timings"]["run"] is not None and records[good]["timings"]["model"] is not None
    assert "hunter2" not in k8s_host.log(good) and "secret is ****" in k8s_host.log(good)
    assert (records[crash]["failure_class"], records[crash]["exit_code"]) == ("crash", 3)
    assert records[crash]["log_excerpt"] == ["oops"]
    assert records[silent]["failure_class"] == "no_metric"
    assert [metric["row"] for metric in records[results]["metrics"]] == ["a", "b"] and records[results]["files"]["artifacts"] == ["out.csv"]
    assert records[slow]["failure_class"] == "timeout"
    assert records[prepared]["status"] == "SKIPPED"
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")
    assert not list(Path(k8s_host.folder.path).glob("runs/*/objects-*")) and not k8s_host.folder.secret_values()
    asked = [one for one in k8s.api.requests if "accessreviews" not in one.path and "/nodes/" not in one.path and "watch=" not in one.query]
    lists = [one for one in asked if one.method == "GET" and one.path.endswith(("/jobs", "/pods"))]
    assert len(asked) - len(lists) <= 6 * len(records)
    assert sum("watch=" in one.query for one in k8s.api.requests) == 2


def test_several_nodes(k8s_host: ClusterHost, k8s: Cluster) -> None:
    script = 'echo "rank $JOB_COMPLETION_INDEX of $MASTER_ADDR"; getent hosts "$MASTER_ADDR"\n'
    script += 'echo "performance: $((10 + JOB_COMPLETION_INDEX)) tokens_per_second"\n'
    run = k8s_host.run(script, nodes=3, launcher="torchrun")
    k8s_host.go()
    record = k8s_host.wait(120)[run]
    assert record["status"] == "SUCCESS", record
    assert record["metrics"][0]["value"] == 33
    assert len(record["target"]["pods"]) == 3
    assert "rank 0 of" in k8s_host.log(run) and {"node-1.model.log", "node-2.model.log"} <= set(record["files"]["artifacts"])


def test_one_of_several_nodes_fails(k8s_host: ClusterHost, k8s: Cluster) -> None:
    run = k8s_host.run('[ "$JOB_COMPLETION_INDEX" != 1 ] || { echo Traceback of one; exit 7; }\n' + LONG, nodes=2, launcher="torchrun")
    k8s_host.go()
    record = k8s_host.wait(120)[run]
    assert (record["failure_class"], record["exit_code"]) == ("crash", 7), record
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")


def test_what_happens_to_pods(k8s_host: ClusterHost, k8s: Cluster) -> None:
    def mark_deleted(value: Dict[str, Any]) -> None:
        value["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=20)

    faults: Dict[str, Tuple[Callable[[Dict[str, Any]], Any], str]] = {
        "evicted": (k8s.evict, "preempted"),
        "evicted, exits 0": (k8s.evict, "preempted"),
        "node lost": (k8s.lose_node, "infra"),
        "out of memory": (k8s.out_of_memory, "oom"),
        "deleted": (lambda pod: k8s.store.update("pods", "default", pod["metadata"]["name"], mark_deleted), "preempted"),
        "job deleted": (lambda pod: k8s.store.delete("jobs", "default", pod["metadata"]["labels"]["job-name"]), "infra"),
    }
    runs = {}
    for name in faults:
        trap = "trap 'exit 0' TERM\n" if "exits 0" in name else ""
        runs[name] = k8s_host.run(trap + "echo begun; " + PRINT + LONG)
    k8s_host.go()
    k8s_host.until(lambda: all(k8s_host.folder.attempts(run) and "begun" in k8s_host.log(run) for run in runs.values()), 300)
    pods = {pod["metadata"]["labels"]["mad.engine/run"]: pod for pod in k8s.pods("Running")}
    for name, (act, dummy) in faults.items():
        act(pods[runs[name]])
    records = k8s_host.wait(300)
    for name, (dummy2, expected) in faults.items():
        record = records[runs[name]]
        assert record["failure_class"] == expected, (name, record["reason"])
        assert record["launched"] and "begun" in k8s_host.log(runs[name])
    assert len(k8s_host.jobs_made()) == len(faults)
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")


def test_a_retry_is_a_new_job(k8s_host: ClusterHost, k8s: Cluster) -> None:
    run = k8s_host.run("echo begun; " + PRINT + "[ $MAD_TEST = x ] || sleep 5\n", retries=1, env={"MAD_MODEL_NAME": "m", "MAD_TEST": "y"})
    k8s_host.go()
    k8s_host.says("begun")
    k8s.evict(k8s_host.pod())
    record = k8s_host.wait(120)[run]
    assert (record["status"], record["attempt"]) == ("SUCCESS", 2), record
    assert (k8s_host.folder.attempt(run, 1).result() or {})["failure_class"] == "preempted"


def test_a_container_is_started_again_in_its_pod(tmp_path: Path, k8s: Cluster) -> None:
    host = ClusterHost(tmp_path, k8s, restart_in_place=True)
    script = 'test -f /myworkspace/again || { touch /myworkspace/again; echo "performance: 1 things_per_second"; exit 69; }\n' + PRINT
    card = {"name": "m", "resumable": True}
    run = host.run(script, card=card)
    lost = host.run("exit 93\n", card=card)
    try:
        k8s.api.restarts_in_place = False
        with pytest.raises(MadError) as refused:
            host.stage()
        assert "k8s.restart_in_place: this cluster has no restartPolicyRules" in refused.value.message and not host.folder.exists()
        k8s.api.restarts_in_place = True
        host.go()
        records = host.wait(300)
    finally:
        host.close()
    record = records[run]
    assert (record["status"], record["attempt"], [metric["value"] for metric in record["metrics"]]) == ("SUCCESS", 1, [12.5]), record
    assert "started again in place, 1 times (k8s.restart_in_place); the last time after exit status 69" in "\n".join(record["notes"])
    assert (records[lost]["status"], records[lost]["exit_code"], records[lost]["notes"]) == ("FAILURE", 93, [])
    assert len({one.path for one in k8s.api.requests if one.path.endswith("/log")}) == 2  # the pod is the same one


@pytest.mark.parametrize(("fault", "failure"), [("image", "image"), ("unschedulable", "placement"), ("quota", "placement")])
def test_a_wait_without_an_end_is_explained_and_ended(tmp_path: Path, k8s: Cluster, fault: str, failure: str) -> None:
    options = {"pending_timeout": 4}
    if fault == "unschedulable":
        options["node_selector"] = {"zone": "nowhere"}  # type: ignore[assignment]
    host = ClusterHost(tmp_path, k8s, **options)
    if fault == "image":
        k8s.kubelet.absent_images.append("registry.example/bench:1")
    if fault == "quota":
        k8s.controllers.quota = "exceeded quota: gpus, requested: requests.amd.com/gpu=8, used: 8, limited: 8"
    run = host.run(PRINT)
    host.go()
    try:
        polls = [host.poll()]  # a slow machine may see the wait, or only its end
        host.until(
            lambda: polls.append(host.poll()) or polls[-1]["results"] or any(entry.get("waits") for entry in polls[-1]["running"]), 90
        )
        record = host.wait(60)[run]
    finally:
        host.close()
    assert record["failure_class"] == failure and not record["launched"], record
    words = {"image": "ErrImagePull", "unschedulable": "didn't match Pod's node affinity", "quota": "exceeded quota"}
    assert words[fault] in record["reason"] or "ImagePullBackOff" in record["reason"], record["reason"]
    k8s.wait(lambda: not host.left(), "everything in the cluster is gone")


def test_a_queue_takes_a_job_back(tmp_path: Path, k8s: Cluster) -> None:
    """Kueue admits a Job by its `suspend`, and takes it back by it: what had begun does not begin again, and the record says why."""
    host = ClusterHost(tmp_path, k8s, queue_name="gpus", grace_seconds=5)
    run = host.run("echo begun; " + LONG)

    def suspend(wanted: bool) -> None:
        k8s.store.update("jobs", "default", k8s.store.list("jobs")[0]["metadata"]["name"], lambda job: job["spec"].update(suspend=wanted))

    try:
        host.go()
        host.until(lambda: any("queue gpus (k8s.queue_name)" in str(entry.get("waits")) for entry in host.poll()["running"]), 300)
        assert not k8s.pods() and k8s.store.list("configmaps")
        suspend(False)
        host.says("begun")
        suspend(True)
        k8s.wait(lambda: not k8s.pods("Running"), "the pod is taken away")
        suspend(False)
        record = host.wait(120)[run]
        assert record["failure_class"] == "preempted" and "suspended after its model had begun" in record["reason"], record
        k8s.wait(lambda: not host.left(), "everything in the cluster is gone")
    finally:
        host.close()


def test_the_api_server_has_a_bad_day(k8s_host: ClusterHost, k8s: Cluster) -> None:
    runs = [k8s_host.run("echo begun; sleep %d; %s" % (2 + number, PRINT)) for number in range(4)]
    k8s.api.faults += [
        Fault("POST", "/jobs", 2, 500),
        Fault("PATCH", "/configmaps", 2, 429),
        Fault("PATCH", "/jobs/", 1),
        Fault("DELETE", "/jobs/", 1, 503),
    ]
    k8s_host.go()
    k8s_host.says("begun")
    k8s.api.drop()
    k8s.store.compact()  # what the watches would go on from is gone
    k8s.api.faults += [Fault("GET", "/pods$", 2, 500), Fault("GET", "/log$", 2, 502)]
    k8s.api.go_away()
    time.sleep(5)
    k8s.api.come_back()
    records = k8s_host.wait(300)
    assert [records[run]["status"] for run in runs] == ["SUCCESS"] * 4, records
    created = [change for change in k8s.store.history if change.plural == "jobs" and change.kind == "ADDED"]
    assert not created or len(created) <= 4
    assert len(k8s_host.jobs_made()) == 4 + 2  # two of them were refused by a 500
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")


def test_a_large_log_whose_stream_breaks(k8s_host: ClusterHost, k8s: Cluster) -> None:
    lines = 60000
    script = 'for i in $(seq %d); do echo "line $i of many, and some more text to make it long enough"; done\n' % lines
    run = k8s_host.run(script + 'printf "no end of line"; echo\n' + PRINT)
    k8s.api.faults += [Fault("GET", "/log$", 1, cut=100_000), Fault("GET", "/log$", 1, cut=1_000_001), Fault("GET", "/log$", 1, cut=65_536)]
    k8s_host.go()
    record = k8s_host.wait(120)[run]
    assert record["status"] == "SUCCESS", record
    text = k8s_host.log(run)
    assert text.count("\n") == lines + 2 and all("line %d of" % number in text for number in (1, 777, lines))
    assert record["files"]["log_bytes"] == len(text)
    assert k8s.api.count("GET", "/log$") >= 4


def test_a_killed_runner_is_followed_by_another(k8s_host: ClusterHost, k8s: Cluster) -> None:
    runs = [k8s_host.run("echo begun; sleep %d; %s" % (number % 4, PRINT)) for number in range(6)]
    k8s_host.go()
    for pause in (0.0, 0.15, 0.3, 0.1, 0.6, 1.2, 0.2):
        time.sleep(pause)
        k8s_host.kill_runner()
        k8s_host.poll()
    records = k8s_host.wait(300)
    assert [records[run]["status"] for run in runs] == ["SUCCESS"] * len(runs), [record["reason"] for record in records.values()]
    created = {}
    for change in k8s.store.history:
        if change.plural == "jobs" and change.kind == "ADDED":
            created[change.value["metadata"]["name"]] = created.get(change.value["metadata"]["name"], 0) + 1
    assert len(created) == len(runs) and set(created.values()) == {1}
    pods = {change.value["metadata"]["uid"] for change in k8s.store.history if change.plural == "pods" and change.kind == "ADDED"}
    assert len(pods) == len(runs)


def test_cancel_removes_what_runs_and_nothing_else(k8s_host: ClusterHost, k8s: Cluster, tmp_path: Path) -> None:
    foreign = {"metadata": {"name": "foreign", "namespace": "default", "labels": {"app": "other"}}, "data": {"a": "b"}}
    k8s.store.create("configmaps", "default", foreign)
    run, other = k8s_host.run("echo begun; " + LONG), k8s_host.run(LONG)
    k8s_host.go()
    k8s_host.says("begun")
    answer = k8s_host.cancel(reason="a person said so")
    assert {record["failure_class"] for record in answer["results"]} == {"cancelled"} and len(answer["results"]) == 2
    assert "begun" in k8s_host.log(run) and (k8s_host.result(other) or {})["reason"] == "a person said so"
    k8s.wait(lambda: k8s_host.left() == {"configmaps": 1}, "only the foreign ConfigMap is left")


def test_stop_lets_nothing_more_begin(k8s_host: ClusterHost, k8s: Cluster) -> None:
    """What runs may end; a retry and a run that wait in the cluster are taken out of it; each planned run has its row, and a later start runs them."""
    crash, going = k8s_host.run("echo begun; sleep 3; exit 3\n", retries=1), k8s_host.run("echo begun; sleep 8; " + PRINT, image={**IMAGE, "name": "slow:1"})
    waiting = k8s_host.run(PRINT, image={**IMAGE, "name": "absent:1"})
    k8s.kubelet.absent_images.append("absent:1")
    k8s_host.go()
    k8s_host.until(lambda: all(k8s_host.folder.attempts(run) and "begun" in k8s_host.log(run) for run in (crash, going)), 300)
    k8s.kubelet.absent_images.append(IMAGE["name"])  # the retry finds no image
    k8s_host.until(lambda: len(k8s_host.jobs_made()) == 4 and len(k8s.pods("Pending")) == 2, 300)
    stop = "stopped: 1 runs failed, mad_max_failures accepts 0"
    k8s_host.poll(stop=stop)
    records = k8s_host.wait(300)
    assert (records[crash]["status"], records[crash]["attempt"], records[crash]["exit_code"]) == ("FAILURE", 1, 3), records[crash]
    assert records[crash]["notes"][-1] == "it was not tried again: " + stop
    assert (records[waiting]["status"], records[waiting]["reason"], records[waiting]["launched"]) == ("SKIPPED", stop, False)
    assert records[going]["status"] == "SUCCESS"
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")
    k8s_host.until(lambda: not k8s_host.folder.supervised())
    k8s.kubelet.absent_images.clear()
    for run_id in (crash, waiting):
        k8s_host.planned[run_id].update(attempt=2, retries=0)
    k8s_host.go()
    again = k8s_host.wait(300)
    assert [(again[run]["status"], again[run]["attempt"]) for run in (crash, waiting, going)] == [("FAILURE", 2), ("SUCCESS", 2), ("SUCCESS", 1)]
    k8s.wait(lambda: not k8s_host.left(), "everything in the cluster is gone")


def test_a_missing_right_is_one_error(tmp_path: Path, k8s: Cluster) -> None:
    allowed = [("*", "jobs"), ("list", "pods"), ("watch", "pods"), ("*", "configmaps"), ("create", "secrets")]
    host = ClusterHost(tmp_path, k8s, kubeconfig=str(k8s.user("poor", allowed)))  # type: ignore[arg-type]
    host.run(PRINT)
    with pytest.raises(MadError) as caught:
        host.stage()
    host.close()
    assert "may not get pods/log, patch secrets in namespace default" in str(caught.value)
    assert not host.jobs_made()


def test_a_namespaced_service_account_is_enough(tmp_path: Path, k8s: Cluster) -> None:
    rules = [(verb, "jobs") for verb in ("create", "list", "watch", "get", "patch", "delete")]
    rules += [("list", "pods"), ("watch", "pods"), ("get", "pods/log")]
    rules += [(verb, kind) for verb in ("create", "patch") for kind in ("configmaps", "secrets")]
    host = ClusterHost(tmp_path, k8s, kubeconfig=str(k8s.user("runner", rules)))
    run = host.run(PRINT)
    host.stage({"TOKEN": "hunter2-and-more"})
    host.start()
    record = host.wait(60)[run]
    host.close()
    assert record["status"] == "SUCCESS" and record["host"]["hostname"].startswith("node-"), record
    assert not json.dumps(record).count("hunter2")
