# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controllers of the cluster stand-in: Jobs become pods, pods get nodes, what has no owner any more goes.

The rules are those of Kubernetes 1.31 and newer as far as mad.engine meets them: Indexed Jobs, podFailurePolicy, podReplacementPolicy, backoffLimit,
activeDeadlineSeconds, suspend, ttlSecondsAfterFinished.
"""

from __future__ import annotations

import copy
import time
import uuid
from typing import Any, Dict, List, Mapping, Optional

from .k8s_store import Object, Problem, Store, now

_INDEX = "batch.kubernetes.io/job-completion-index"
_ENDED = ("Succeeded", "Failed")


def condition(value: Object, kind: str) -> Optional[Object]:
    """One condition of an object that holds, None without it."""
    for entry in (value.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind and entry.get("status") == "True":
            return dict(entry)
    return None


def set_condition(value: Object, kind: str, reason: str = "", message: str = "", status: str = "True") -> None:
    """Add or change a condition, in place."""
    entries = value.setdefault("status", {}).setdefault("conditions", [])
    entries[:] = [entry for entry in entries if entry["type"] != kind]
    entries.append({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()})


def finished(job: Object) -> bool:
    """Whether a Job has ended."""
    return bool(condition(job, "Complete") or condition(job, "Failed"))


class Controllers:
    """Everything that runs in kube-controller-manager and kube-scheduler; `step()` is one look at everything."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.backoff: Dict[str, float] = {}  # Job's uid -> when the next pod may come
        self.quota = ""  # why no pod may be made, in the words of the quota admission

    def step(self) -> None:
        """One round."""
        for plural, value in self.store.orphans():
            self._forget(plural, value)
        pods: Dict[str, List[Object]] = {}
        for pod in self.store.list("pods"):
            for owner in pod["metadata"].get("ownerReferences") or []:
                pods.setdefault(owner["uid"], []).append(pod)
        for job in self.store.list("jobs"):
            try:
                self._job(job, pods.get(job["metadata"]["uid"], []))
            except Problem as problem:  # somebody changed or removed it meanwhile: the next round sees
                if problem.code not in (404, 409):
                    raise
        self._schedule()

    def _forget(self, plural: str, value: Object) -> None:
        name, namespace = value["metadata"]["name"], value["metadata"].get("namespace", "")
        try:
            if plural == "pods" and value["status"].get("phase") == "Running":
                if "deletionTimestamp" not in value["metadata"]:
                    self._terminate(value)
            else:
                self.store.delete(plural, namespace, name)
        except Problem:
            pass

    # -- Jobs ----------------------------------------------------------------------------------------------------------------------

    def _job(self, job: Object, pods: List[Object]) -> None:
        if finished(job):
            self._expire(job)
            return
        if job["spec"].get("suspend"):
            self._suspend(job, pods)
            return
        self._start(job)
        self._look_at_pods(job, pods)

    def _suspend(self, job: Object, pods: List[Object]) -> None:
        """Its pods are taken away, and their ends do not count."""
        taken = [pod["metadata"]["uid"] for pod in pods]
        for pod in pods:
            self._terminate(pod)
        self._release(pods)

        def change(value: Object) -> None:
            set_condition(value, "Suspended", "JobSuspended")
            value["status"]["taken"] = sorted({*(value["status"].get("taken") or []), *taken})

        self._save(job, change)

    def _start(self, job: Object) -> None:
        if not (job.get("status") or {}).get("startTime"):
            self._save(job, lambda value: value.setdefault("status", {}).update(startTime=now(), startedAt=time.time(), counted=[]))
            job.update(self.store.get("jobs", job["metadata"]["namespace"], job["metadata"]["name"]))

    def _save(self, job: Object, change: Any) -> None:
        self.store.update("jobs", job["metadata"]["namespace"], job["metadata"]["name"], change, status=True)

    def _look_at_pods(self, job: Object, pods: List[Object]) -> None:
        spec, status = job["spec"], job["status"]
        active = [pod for pod in pods if pod["status"].get("phase") not in _ENDED]
        counted = list(status.get("counted") or [])
        failure = self._failure(job, pods, counted)
        done = {self._index(pod) for pod in pods if pod["status"].get("phase") == "Succeeded"} | set(status.get("done") or [])
        numbers = {
            "active": len(active),
            "succeeded": len(done),
            "failed": sum(1 for pod in pods if pod["status"].get("phase") == "Failed"),
            "counted": counted,
            "done": sorted(done),
        }
        self._save(job, lambda value: value["status"].update(numbers))
        self._release(pods)
        if failure:
            self._fail(job, failure, active)
        elif len(done) >= spec["completions"]:
            self._save(job, _complete)
        else:
            self._create_missing(job, pods, done)

    def _failure(self, job: Object, pods: List[Object], counted: List[str]) -> Optional[Mapping[str, str]]:
        """What ends the Job, if anything does; notes which pods were counted."""
        spec, target = job["spec"], condition(job, "FailureTarget")
        if target:
            return {"reason": target["reason"], "message": target["message"]}
        for pod in pods:
            if pod["status"].get("phase") != "Failed" or pod["metadata"]["uid"] in [*counted, *(job["status"].get("taken") or [])]:
                continue
            action, why = self._policy(spec.get("podFailurePolicy"), pod)
            if action == "FailJob":
                return {"reason": "PodFailurePolicy", "message": why}
            self.backoff[job["metadata"]["uid"]] = time.monotonic() + 0.3
            if action != "Ignore":
                counted.append(pod["metadata"]["uid"])
        limit = float(spec.get("activeDeadlineSeconds") or 0)
        if limit and time.time() - job["status"]["startedAt"] > limit:
            return {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
        if len(counted) > spec["backoffLimit"]:
            return {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
        return None

    @staticmethod
    def _policy(policy: Optional[Mapping[str, Any]], pod: Object) -> Any:
        for number, rule in enumerate((policy or {}).get("rules") or []):
            wanted = rule.get("onExitCodes")
            if wanted:
                codes = [
                    entry["state"]["terminated"]["exitCode"]
                    for entry in pod["status"].get("containerStatuses") or []
                    if "terminated" in entry["state"]
                ]
                hit = [code for code in codes if code and (code in wanted["values"]) == (wanted["operator"] == "In")]
                if hit:
                    text = "Container for pod %s failed with exit code %d matching %s rule at index %d"
                    return rule["action"], text % (pod["metadata"]["name"], hit[0], rule["action"], number)
            for entry in rule.get("onPodConditions") or []:
                if condition(pod, entry["type"]):
                    text = "Pod %s has condition %s matching %s rule at index %d"
                    return rule["action"], text % (pod["metadata"]["name"], entry["type"], rule["action"], number)
        return "Count", ""

    def _fail(self, job: Object, failure: Mapping[str, str], active: List[Object]) -> None:
        """First the target, then, when no pod is left, the end."""
        self._save(job, lambda value: set_condition(value, "FailureTarget", failure["reason"], failure["message"]))
        for pod in active:
            self._terminate(pod)
        if not active:
            self._save(job, lambda value: set_condition(value, "Failed", failure["reason"], failure["message"]))

    def _create_missing(self, job: Object, pods: List[Object], done: Any) -> None:
        if time.monotonic() < self.backoff.get(job["metadata"]["uid"], 0):
            return
        replaced_late = job["spec"]["podReplacementPolicy"] == "Failed"
        holding = set()
        for pod in pods:
            over = pod["status"].get("phase") in _ENDED or (not replaced_late and "deletionTimestamp" in pod["metadata"])
            if not over:
                holding.add(self._index(pod))
        for index in range(job["spec"]["completions"]):
            if index not in holding and index not in done and len(holding) < job["spec"]["parallelism"]:
                holding.add(index)
                self._create(job, index)

    @staticmethod
    def _index(pod: Object) -> int:
        return int((pod["metadata"].get("annotations") or {}).get(_INDEX, 0))

    def _create(self, job: Object, index: int) -> None:
        if self.quota:
            self.backoff[job["metadata"]["uid"]] = time.monotonic() + 1.0
            event(
                self.store,
                job,
                "Warning",
                "FailedCreate",
                'Error creating: pods "%s-x" is forbidden: %s' % (job["metadata"]["name"], self.quota),
            )
            return
        template = copy.deepcopy(job["spec"]["template"])
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        metadata, spec = template.setdefault("metadata", {}), template["spec"]
        indexed = job["spec"]["completionMode"] == "Indexed"
        metadata["name"] = "%s-%s%s" % (name[:52], "%d-" % index if indexed else "", uuid.uuid4().hex[:5])
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": job["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        metadata.update(ownerReferences=[owner], finalizers=["batch.kubernetes.io/job-tracking"])
        if indexed:
            metadata.setdefault("annotations", {})[_INDEX] = str(index)
            metadata["labels"][_INDEX] = str(index)
            spec["hostname"] = "%s-%d" % (name, index)
            for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        spec.setdefault("terminationGracePeriodSeconds", 30)
        spec.setdefault("restartPolicy", "Always")
        self.store.create("pods", namespace, dict(template, status={"phase": "Pending"}))

    def _terminate(self, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            return
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if not pod["spec"].get("nodeName"):
            self.store.delete("pods", namespace, name)
            return
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        times = {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
        self.store.update("pods", namespace, name, lambda value: value["metadata"].update(times))

    def _release(self, pods: List[Object]) -> None:
        """Pods that were counted lose the finalizer; those that are being deleted go with it."""
        for pod in pods:
            if pod["status"].get("phase") in _ENDED:
                name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
                if "deletionTimestamp" in pod["metadata"]:
                    self.store.delete("pods", namespace, name)
                elif pod["metadata"].get("finalizers"):
                    self.store.update("pods", namespace, name, lambda value: value["metadata"].pop("finalizers", None) and None)

    def _expire(self, job: Object) -> None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        ended = condition(job, "Complete") or condition(job, "Failed") or {}
        when = time.mktime(time.strptime(str(ended.get("lastTransitionTime")), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
        if seconds is not None and time.time() - when > float(seconds):
            self.store.delete("jobs", job["metadata"]["namespace"], job["metadata"]["name"])

    # -- the scheduler -------------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        pods = self.store.list("pods")
        waiting = [pod for pod in pods if not pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending"]
        if not waiting:
            return
        nodes = self.store.list("nodes")
        for pod in waiting:
            held = [other for other in pods if other["spec"].get("nodeName") and other["status"].get("phase") not in _ENDED]
            why = []
            for node in nodes:
                problem = _unfit(pod, node, held)
                if not problem:
                    pod["spec"]["nodeName"] = node["metadata"]["name"]
                    self._bind(pod)
                    break
                why.append(problem)
            else:
                self._unschedulable(pod, "0/%d nodes are available: %s." % (len(nodes), ", ".join(sorted(set(why)))))

    def _bind(self, pod: Object) -> None:
        def change(value: Object) -> None:
            value["spec"]["nodeName"] = pod["spec"]["nodeName"]

        self.store.update("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change)
        self._status(pod, lambda value: set_condition(value, "PodScheduled"))

    def _status(self, pod: Object, change: Any) -> None:
        self.store.update("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], change, status=True)

    def _unschedulable(self, pod: Object, why: str) -> None:
        known = [entry for entry in pod["status"].get("conditions") or [] if entry["type"] == "PodScheduled"]
        if known and known[0].get("message") == why:
            return
        self._status(pod, lambda value: set_condition(value, "PodScheduled", "Unschedulable", why, "False"))
        event(self.store, pod, "Warning", "FailedScheduling", why)


def _complete(value: Object) -> None:
    value["status"].update(completionTime=now(), active=0)
    set_condition(value, "SuccessCriteriaMet", "CompletionsReached")
    set_condition(value, "Complete", "CompletionsReached")


def _number(text: Any) -> float:
    units = {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9}
    for unit in sorted(units, key=len, reverse=True):
        if str(text).endswith(unit):
            return float(str(text)[: -len(unit)]) * units[unit]
    return float(text)


def _requests(pod: Object) -> Dict[str, float]:
    total: Dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for name, text in dict(resources.get("limits") or {}, **(resources.get("requests") or {})).items():
            total[name] = total.get(name, 0.0) + _number(text)
    return total


def _unfit(pod: Object, node: Object, held: List[Object]) -> str:
    """Why a pod cannot run on a node, in the scheduler's words; "" when it can."""
    labels = node["metadata"].get("labels") or {}
    if node["spec"].get("unschedulable") or not condition(node, "Ready"):
        return "1 node(s) were unschedulable"
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return "1 node(s) didn't match Pod's node affinity/selector"
    used: Dict[str, float] = {}
    for other in held:
        if other["spec"]["nodeName"] == node["metadata"]["name"]:
            for name, number in _requests(other).items():
                used[name] = used.get(name, 0.0) + number
    for name, number in _requests(pod).items():
        if used.get(name, 0.0) + number > _number(node["status"]["allocatable"].get(name, 0)):
            return "1 Insufficient %s" % name
    return ""


def event(store: Store, value: Object, kind: str, reason: str, message: str) -> None:
    """Tell an event of an object."""
    metadata = value["metadata"]
    involved = {"kind": value["kind"], "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
    document = {
        "metadata": {"name": "%s.%s" % (metadata["name"][:200], uuid.uuid4().hex[:12])},
        "involvedObject": involved,
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "lastTimestamp": now(),
        "source": {"component": "stand-in"},
    }
    store.create("events", metadata["namespace"], document)
