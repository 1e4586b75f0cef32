# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster says of a Job: waits, disturbances, ends, each as the class that the row gets."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_judge
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_judge import judge

BAD_IMAGE = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off  pulling\nimage"}}, "image": "r/x:1"}
RUNNING = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": reason}}}


def pod(phase: str = "Running", container: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [{"name": "model", **container}] if container else []
    return {"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": {"phase": phase, "containerStatuses": statuses, **status}}


def job(*conditions: tuple[str, str]) -> dict[str, Any]:
    found = [{"type": kind, "status": "True", "reason": reason, "message": "said"} for kind, reason in conditions]
    return {"metadata": {"name": "j"}, "status": {"conditions": found}}


def target(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"}]}


@pytest.mark.parametrize(
    ("given", "pods", "expected"),
    [
        (job(), [], (False, False, False)),
        (job(), [pod("Pending")], (False, False, False)),
        (job(), [pod(container=RUNNING)], (False, False, True)),
        (job(("Complete", "")), [pod("Succeeded", ended(0, "Completed"))], (True, True, False)),
        (job(("Complete", "")), [pod("Succeeded", ended(0)), pod(container=RUNNING)], (False, True, False)),
        (job(("Failed", "BackoffLimitExceeded")), [pod("Failed", ended(3))], (True, False, False)),
        (job(("FailureTarget", "PodFailurePolicy")), [pod(container=RUNNING)], (False, False, True)),
    ],
)
def test_where_it_stands(given: dict, pods: list, expected: tuple) -> None:
    verdict = judge(given, pods, "model")
    assert (verdict.over, verdict.good, verdict.running) == expected and verdict.fault is None and verdict.wait is None


@pytest.mark.parametrize(
    ("given", "pods", "failure", "flag", "words"),
    [
        (job(("Failed", "DeadlineExceeded")), [pod("Failed", ended(143))], "timeout", "timed_out", "activeDeadlineSeconds"),
        (job(("Failed", "DeadlineExceeded")), [pod("Pending", BAD_IMAGE)], "image", "", "image r/x:1: ImagePullBackOff (Back-off pulling image)"),
        (job(("Failed", "DeadlineExceeded")), [pod("Pending")], "placement", "", "no container began"),
        (job(("Failed", "PodFailurePolicy")), [pod("Failed", **target("EvictionByEvictionAPI"))], "preempted", "preempted", "pod p on n1: Eviction"),
        (job(("Failed", "PodFailurePolicy")), [pod("Failed", **target("PreemptionByScheduler"))], "preempted", "preempted", "(m)"),
        (job(("Failed", "PodFailurePolicy")), [pod("Failed", **target("DeletionByTaintManager"))], "infra", "", "DeletionByTaintManager"),
        (job(("Failed", "x")), [pod("Failed", reason="Evicted", message="disk")], "preempted", "preempted", "Evicted (disk)"),
        (job(("Failed", "x")), [pod("Failed", reason="NodeLost")], "infra", "", "NodeLost"),
        (job(("Failed", "x")), [pod("Failed", reason="OutOfcpu")], "placement", "", "OutOfcpu"),
        (job(("Failed", "x")), [pod("Failed", reason="OutOfnvidia.com/gpu", message="Node")], "placement", "", "OutOfnvidia.com/gpu (Node)"),
        (job(("Failed", "x")), [pod("Failed", ended(137, "OOMKilled"))], "oom", "oom", ""),
        (job(("Failed", "x")), [pod("Failed", ended(128, "StartError"))], "launch", "", "container model of pod p did not start: StartError"),
        (job(("Failed", "BackoffLimitExceeded")), [], "launch", "", "Job j failed before it had a pod: BackoffLimitExceeded (said)"),
        (job(), [pod("Failed", ended(1)), pod("Failed", ended(137, "OOMKilled"))], "oom", "oom", ""),
    ],
)
def test_what_was_done_to_it(given: dict, pods: list, failure: str, flag: str, words: str) -> None:
    fault = judge(given, pods, "model").fault
    assert fault and (fault.failure_class, fault.flag) == (failure, flag) and words in fault.reason and failure in FAILURE_CLASSES


@pytest.mark.parametrize(
    ("waits", "failure", "words"),
    [
        (pod("Pending", BAD_IMAGE), "image", "ImagePullBackOff"),
        (pod("Pending", {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret x"}}}), "launch", "no secret x"),
        (pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/2  nodes"}]), "placement", "no node takes the pod (0/2 nodes)"),
        (pod("Pending", initContainerStatuses=[{"name": "i", **BAD_IMAGE}]), "image", "r/x:1"),
    ],
)
def test_why_it_waits(waits: dict, failure: str, words: str) -> None:
    verdict = judge(job(), [waits], "model")
    assert verdict.fault is None and verdict.wait and verdict.wait.failure_class == failure and words in verdict.wait.reason


def test_what_only_needs_time_is_no_reason() -> None:
    for state in ({"waiting": {"reason": "ContainerCreating"}}, {"waiting": {"reason": "PodInitializing"}}, {}):
        assert k8s_judge.waiting(pod("Pending", {"state": state})) is None


@pytest.mark.parametrize(
    ("reason", "message", "failure"),
    [
        ("FailedCreate", "exceeded quota: gpus", "placement"),
        ("FailedScheduling", "0/3 nodes", "placement"),
        ("Failed", "Failed to pull image", "image"),
        ("FailedMount", "no claim", "launch"),
        ("FailedCreate", 'pods "p" is forbidden: violates PodSecurity "restricted:latest"', "launch"),
    ],
)
def test_the_newest_warning_explains(reason: str, message: str, failure: str) -> None:
    events = [
        {"type": "Warning", "reason": "Old", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"type": "Warning", "reason": reason, "message": message, "eventTime": "2026-01-01T00:00:05.000000Z"},
        {"type": "Normal", "reason": "Pulled", "lastTimestamp": "2026-01-01T00:09:00Z"},
    ]
    for given in (events, events[::-1]):
        found = k8s_judge.explain(given)
        assert found and found.failure_class == failure and found.reason == "%s (%s)" % (reason, message)
    assert k8s_judge.explain(events[2:]) is None


def test_what_kueue_says() -> None:
    made = [
        {"reason": "CreatedWorkload", "message": "Created Workload: bench/job-a-1", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"reason": "CreatedWorkload", "message": "Created Workload: bench/job-a-2", "lastTimestamp": "2026-01-01T00:00:09Z"},
        {"reason": "Suspended", "message": "Job suspended", "lastTimestamp": "2026-01-01T00:00:10Z"},
    ]
    assert k8s_judge.workload_of(made) == k8s_judge.workload_of(made[::-1]) == "job-a-2" and k8s_judge.workload_of(made[2:]) == ""
    told = [{"type": "Normal", "reason": "Pending", "message": "no quota\nfor gpus", "lastTimestamp": "2026-01-01T00:00:11Z"}]
    assert k8s_judge.not_admitted({}, told) == "Pending (no quota for gpus)" and k8s_judge.not_admitted({}, []) == ""
    reserved = {"type": "QuotaReserved", "status": "False", "reason": "Inadmissible", "message": "LocalQueue x doesn't exist"}
    assert k8s_judge.not_admitted({"status": {"conditions": [reserved]}}, told) == "Inadmissible (LocalQueue x doesn't exist)"


def test_closed_gates_are_named() -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked"}
    held = {
        "metadata": {"name": "p"},
        "spec": {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
        "status": {"phase": "Pending", "conditions": [gated]},
    }
    found = k8s_judge.waiting(held)
    assert found and (found.failure_class, found.reason) == ("placement", "pod p is held back by the scheduling gates kueue.x-k8s.io/admission")


def test_a_container_that_never_ran_has_no_log() -> None:
    assert not k8s_judge.has_begun(pod("Failed", ended(128, "StartError")), "model") and k8s_judge.has_begun(pod("Failed", ended(1)), "model")


def test_what_an_answer_lacks_is_not_invented() -> None:
    for empty in ({}, {"metadata": None, "status": None, "spec": None}, {"status": {"conditions": None, "containerStatuses": None}}):
        verdict = judge(empty, [empty], "model")
        assert not verdict.over and not verdict.running and verdict.fault is None
        assert k8s_judge.rank(empty) == 0 and k8s_judge.exit_status(empty, "model") is None and not k8s_judge.was_deleted(empty)
        assert k8s_judge.node_facts(empty)["hostname"] == ""
    assert k8s_judge.moment("1970-01-01T00:01:00Z") == 60 and k8s_judge.moment(None) == 0
    assert k8s_judge.rank({"metadata": {"labels": {k8s_judge.INDEX: "12"}}}) == 12
