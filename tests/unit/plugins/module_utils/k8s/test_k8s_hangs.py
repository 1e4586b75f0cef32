# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hangs that no controller of a cluster ends: seen for long enough they end by us, and never before."""

from __future__ import annotations

from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_trial
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_hangs import Hangs

RUNS, DONE = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, {"terminated": {"exitCode": 0, "reason": "Completed"}}


def pod(name: str = "p", model: dict[str, Any] | None = None, phase: str = "Running", born: int = 0, beside: Any = None, **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "model", "state": model or RUNS}, *([{"name": "proxy", "state": beside}] if beside else [])]
    known = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:%02dZ" % born, **metadata}
    return {"metadata": known, "spec": {"nodeName": "n1"}, "status": {"phase": phase, "containerStatuses": containers}}


def job(suspend: bool = False, *conditions: str) -> dict[str, Any]:
    found = [{"type": kind, "status": "True"} for kind in conditions]
    return {"metadata": {"name": "j", "uid": "j"}, "spec": {"suspend": suspend}, "status": {"conditions": found}}


def test_a_pod_of_a_node_that_does_not_answer_is_given_up() -> None:
    hangs, leaving = Hangs("model", False), pod(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=60)
    leaving["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]
    assert hangs.fault(job(), [leaving], 1000.0) is None and hangs.fault(job(), [leaving], 1180.0) is None and not hangs.stuck
    fault = hangs.fault(job(), [leaving], 1180.5)
    assert fault and fault.failure_class == "infra" and "DeletionByTaintManager" in fault.reason and "node n1 does not answer" in fault.reason
    assert hangs.stuck == ["p"]
    assert Hangs("model", True).fault(job(), [pod()], 9999.0) is None


def test_a_pod_that_ends_in_time_is_no_hang() -> None:
    hangs = Hangs("model", False)
    leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 60}
    assert hangs.fault(job(), [pod(**leaving)], 0.0) is None
    assert hangs.fault(job(), [pod(phase="Failed", model=DONE, **leaving)], 500.0) is None


def test_a_job_that_is_suspended_after_it_began_does_not_begin_again() -> None:
    hangs = Hangs("model", False)
    assert hangs.fault(job(True), [], 0.0) is None, "it waits in its queue"
    assert hangs.fault(job(True), [pod()], 10.0) is None, "the watch of Jobs may be behind"
    assert hangs.fault(job(False), [pod()], 30.0) is None and hangs.fault(job(True), [pod()], 50.0) is None
    fault = hangs.fault(job(True), [pod(phase="Failed")], 80.5)
    assert fault and (fault.failure_class, fault.flag) == ("preempted", "preempted") and "Job j was suspended after its model had begun" in fault.reason
    assert Hangs("model", False).fault(job(True, "Complete"), [pod(model=DONE, phase="Succeeded")], 0.0) is None


def test_another_pod_after_one_that_had_begun_is_seen_at_once_but_of_resumable_cards() -> None:
    pods = [pod(phase="Failed"), pod("q", born=9, model={"waiting": {}}, phase="Pending")]
    fault = Hangs("model", False).fault(job(), pods, 0.0)
    assert fault and fault.failure_class == "preempted" and "pod q came after pod p had begun" in fault.reason
    assert Hangs("model", True).fault(job(), pods, 0.0) is None
    never_began = [pod(phase="Failed", model={"waiting": {}}), pod("q", born=9)]
    ranks = [pod(), pod("q", born=9, annotations={"batch.kubernetes.io/job-completion-index": "1"})]
    assert Hangs("model", False).fault(job(), never_began, 0.0) is None and Hangs("model", False).fault(job(), ranks, 0.0) is None


def test_a_container_beside_the_model_that_does_not_end() -> None:
    hangs, pods = Hangs("model", False), [pod(model=DONE, beside=RUNS), pod("q", model=DONE, phase="Succeeded")]
    assert hangs.outlived(pods, 0.0) == "" and hangs.outlived(pods, 60.0) == "" and hangs.outlived(pods, 60.5) == "proxy"
    works = [pod(model=DONE, beside=RUNS), pod("q")]
    assert hangs.outlived(works, 99.0) == "", "one model still works"
    assert hangs.outlived([pod(model=DONE, phase="Succeeded", beside=DONE)], 500.0) == ""


def test_a_job_is_ours_with_labels_that_a_webhook_added_and_not_without_ours() -> None:
    rendered = {"metadata": {"labels": {"mad.engine/run": "1", "mad.engine/attempt": "1"}}}
    found = {"metadata": {"labels": {"mad.engine/run": "1", "mad.engine/attempt": "1", "cost-center": "7"}}}
    assert k8s_trial._is_ours(found, rendered) and not k8s_trial._is_ours(rendered, found) and not k8s_trial._is_ours({"metadata": {}}, rendered)
