# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster says of a Job and its pods, in our words: whether it goes on, why it waits, and what was done to it from outside.

Pure: dicts in, values out. What the model itself did is read from its log, as everywhere.
"""

from __future__ import annotations

import calendar
import time
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

Object = Mapping[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
# Reasons of a waiting container that time does not mend by itself, by the class that such a wait ends as.
_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "ImageInspectError",
    "SignatureValidationFailed",
)
_LAUNCH = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError", "StartError")
# Reasons of a container that ended without its first process ever having run, such as an image without bash.
_NEVER_RAN = ("StartError", "ContainerCannotRun")
# Who disturbed a pod (condition DisruptionTarget). The node's own death is the machine's fault, everything else a scheduler's wish.
_LOST = ("DeletionByTaintManager", "DeletionByPodGC", "NodeLost")
# status.reason of a pod that the kubelet or the control plane ended.
_TAKEN = {
    "Evicted": "preempted",
    "Preempting": "preempted",
    "Terminated": "preempted",
    "Shutdown": "preempted",
    "NodeShutdown": "preempted",
    "NodeLost": "infra",
    "UnexpectedAdmissionError": "infra",
}
_PEACEFUL = ("Succeeded", "Failed")


def condition(value: Object, kind: str, status: str = "True") -> Optional[Object]:
    """One condition, if it has this status."""
    for entry in (value.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind and entry.get("status") == status:
            return dict(entry)
    return None


def moment(text: Any) -> float:
    """Seconds since the epoch of a time as the API writes it; 0.0 for none."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return 0.0


def rank(pod: Object) -> int:
    """Completion index of a pod, 0 where there is none."""
    metadata = pod.get("metadata") or {}
    for place in ("annotations", "labels"):
        text = str((metadata.get(place) or {}).get(INDEX, ""))
        if text.isdecimal():
            return int(text)
    return 0


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def ended(pod: Object) -> bool:
    """Whether nothing runs in it any more."""
    return phase(pod) in _PEACEFUL


def status_of(pod: Object, container: str) -> Object:
    """The status of one container, {} while there is none."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or []:
        if entry.get("name") == container:
            return dict(entry)
    return {}


def others_running(pod: Object, container: str) -> List[str]:
    """Names of other containers of a pod that run: what an admission webhook put beside ours."""
    entries = (pod.get("status") or {}).get("containerStatuses") or []
    return [str(entry.get("name")) for entry in entries if entry.get("name") != container and (entry.get("state") or {}).get("running")]


def terminated(pod: Object, container: str) -> Optional[Object]:
    """How a container ended; None while it runs or was never begun."""
    found = (status_of(pod, container).get("state") or {}).get("terminated")
    return dict(found) if found else None


def has_begun(pod: Object, container: str) -> bool:
    """Whether the container runs or ran."""
    found = status_of(pod, container)
    state, before = found.get("state") or {}, found.get("lastState") or {}
    how = state.get("terminated")
    return bool(state.get("running") or (how and how.get("reason") not in _NEVER_RAN) or before.get("terminated"))


def restarts(pod: Object, container: str) -> int:
    """How often the container was started again in its pod."""
    return int(status_of(pod, container).get("restartCount") or 0)


def instance_over(pod: Object, container: str, number: int) -> bool:
    """Whether the container's start of this number (the first is 0) has ended."""
    found = status_of(pod, container)
    state, before = found.get("state") or {}, found.get("lastState") or {}
    between = bool(state.get("waiting") and before.get("terminated"))
    return restarts(pod, container) > number or bool(state.get("terminated")) or between


class Fault(NamedTuple):
    """What was done to a run from outside: an outcome's `error`, and which of its flags it sets."""

    failure_class: str
    reason: str
    flag: str = ""  # preempted, timed_out, oom, cancelled


def disturbance(pod: Object) -> Optional[Fault]:
    """Who ended a pod from outside; None when nobody did, or when it had ended before."""
    metadata, status = pod.get("metadata") or {}, pod.get("status") or {}
    name, node = metadata.get("name"), (pod.get("spec") or {}).get("nodeName") or "no node"
    target = condition(pod, "DisruptionTarget")
    words = " ".join(str((target or {}).get("message") or status.get("message") or "").split())
    if target:
        reason = str(target.get("reason"))
        lost = reason in _LOST
        return Fault("infra" if lost else "preempted", _said("pod %s on %s: %s" % (name, node, reason), words), "" if lost else "preempted")
    reason = str(status.get("reason") or "")
    kind = _TAKEN.get(reason, "")
    waits = [(entry.get("state") or {}).get("waiting") for entry in status.get("containerStatuses") or []]
    if reason and not kind and phase(pod) == "Failed" and all(waits):
        kind = "placement"  # the kubelet did not take it: OutOfcpu, OutOfnvidia.com/gpu, NodeAffinity, TopologyAffinityError, ...
    if kind:
        return Fault(kind, _said("pod %s on %s: %s" % (name, node, reason), words), "preempted" if kind == "preempted" else "")
    return None


def _said(text: str, words: str) -> str:
    return "%s (%s)" % (text, words) if words else text


def was_deleted(pod: Object) -> bool:
    """Whether somebody asked for its end."""
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def waiting(pod: Object) -> Optional[Fault]:
    """Why a pod that does not run waits, as the class its wait would end as; None when it only needs time."""
    status = pod.get("status") or {}
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = (entry.get("state") or {}).get("waiting") or {}
        reason, words = str(state.get("reason") or ""), " ".join(str(state.get("message") or "").split())
        if reason in _IMAGE:
            return Fault("image", _said("image %s: %s" % (entry.get("image") or entry.get("name"), reason), words))
        if reason in _LAUNCH:
            return Fault("launch", _said("container %s: %s" % (entry.get("name"), reason), words))
    unscheduled = condition(pod, "PodScheduled", "False")
    if unscheduled:
        gates = [str(gate.get("name")) for gate in (pod.get("spec") or {}).get("schedulingGates") or []]
        if gates:  # who set one takes it away when the pod may go: Kueue, a queue of the site's own
            return Fault("placement", "pod %s is held back by the scheduling gates %s" % (pod["metadata"].get("name"), ", ".join(gates)))
        return Fault(
            "placement", _said("no node takes the pod", " ".join(str(unscheduled.get("message") or unscheduled.get("reason")).split()))
        )
    return None


def explain(events: Iterable[Object]) -> Optional[Fault]:
    """Why something waits, from its newest warning; None without any."""
    newest: Optional[Object] = None
    for event in events:
        if event.get("type") == "Warning" and (newest is None or _when(event) >= _when(newest)):
            newest = event
    if newest is None:
        return None
    reason, words = str(newest.get("reason")), " ".join(str(newest.get("message") or "").split())
    low = words.lower()
    kind = "placement"
    if reason == "Failed" and "image" in low or reason in ("InspectFailed", "ErrImageNeverPull"):
        kind = "image"
    elif "violates PodSecurity" in words or reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedBinding", "ProvisioningFailed"):
        kind = "launch"
    return Fault(kind, _said(reason, words))


def workload_of(events: Iterable[Object]) -> str:
    """The name of the Workload by which Kueue holds a Job, from the Job's own events; "" where it is not Kueue's."""
    made = [str(event.get("message") or "") for event in sorted(events, key=_when) if event.get("reason") == "CreatedWorkload"]
    return made[-1].rpartition("/")[2].strip() if made and "/" in made[-1] else ""


def not_admitted(workload: Object, events: Iterable[Object]) -> str:
    """Why Kueue has not admitted a Workload, from its conditions where somebody may read it, else from its newest event."""
    for kind in ("QuotaReserved", "Admitted"):
        found = condition(workload, kind, "False")
        if found:
            return _said(str(found.get("reason")), " ".join(str(found.get("message") or "").split()))
    told = sorted((event for event in events if event.get("reason")), key=_when)
    return _said(str(told[-1]["reason"]), " ".join(str(told[-1].get("message") or "").split())) if told else ""


def _when(event: Object) -> str:
    series = event.get("series") or {}
    times = (
        event.get("lastTimestamp"),
        event.get("eventTime"),
        series.get("lastObservedTime"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    return max(str(when or "") for when in times)


class Verdict(NamedTuple):
    """Where a Job stands."""

    over: bool  # it has ended, and no pod of it runs
    good: bool  # Kubernetes calls it complete
    running: bool  # the model may run: a pod's container has begun
    fault: Optional[Fault]  # what was done to it
    wait: Optional[Fault]  # why it waits, as far as its pods know


def judge(job: Object, pods: Sequence[Object], container: str) -> Verdict:
    """What the cluster says of a Job and the pods it has (or had)."""
    complete, failed = condition(job, "Complete"), condition(job, "Failed")
    target = failed or condition(job, "FailureTarget")
    alive = [pod for pod in pods if not ended(pod)]
    over = bool((complete or failed) and not alive)
    begun = any(has_begun(pod, container) for pod in pods)
    running = begun and not (complete or failed)
    fault = _deadline(target, begun, pods) or next((found for found in map(disturbance, pods) if found), None)
    fault = fault or _of_container(pods, container)
    wait = next((found for found in map(waiting, alive) if found), None)
    if fault is None and target and not pods:
        fault = Fault(
            "launch",
            "Job %s failed before it had a pod: %s" % (_name(job), _said(str(target.get("reason")), str(target.get("message") or ""))),
        )
    return Verdict(over, bool(complete), running, fault, wait)


def _name(job: Object) -> str:
    return str((job.get("metadata") or {}).get("name"))


def _deadline(target: Optional[Object], begun: bool, pods: Sequence[Object]) -> Optional[Fault]:
    if not target or target.get("reason") != "DeadlineExceeded":
        return None
    if begun:
        return Fault("timeout", "the Job's deadline (activeDeadlineSeconds) is over", "timed_out")
    why = next((found for found in map(waiting, pods) if found), None)
    return why or Fault("placement", "no container began before the Job's deadline was over")


def _of_container(pods: Sequence[Object], container: str) -> Optional[Fault]:
    """What the runtime says of a container's end: killed for memory, or never begun."""
    for pod in pods:
        how = terminated(pod, container) or {}
        if how.get("reason") == "OOMKilled":
            return Fault("oom", "", "oom")
        if how.get("reason") in _NEVER_RAN:
            name = (pod.get("metadata") or {}).get("name")
            words = " ".join(str(how.get("message") or "").split())
            return Fault("launch", _said("container %s of pod %s did not start: %s" % (container, name, how["reason"]), words))
    return None


def is_over(job: Object) -> bool:
    """Whether a Job is complete or failed."""
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def exit_status(pod: Object, container: str) -> Optional[int]:
    """Exit code of a container, None while it has none."""
    how = terminated(pod, container)
    return int(how["exitCode"]) if how and isinstance(how.get("exitCode"), int) else None


def node_facts(node: Object) -> Dict[str, Any]:
    """What a node says of itself, in the words of our facts."""
    info, labels = (node.get("status") or {}).get("nodeInfo") or {}, (node.get("metadata") or {}).get("labels") or {}
    products = [
        value for key, value in sorted(labels.items()) if key.rpartition("/")[2] in ("gpu.product", "gpu.product-name", "gpu-product")
    ]
    return {
        "hostname": str((node.get("metadata") or {}).get("name") or ""),
        "kernel": str(info.get("kernelVersion") or ""),
        "kubelet": str(info.get("kubeletVersion") or ""),
        "os": {"name": str(info.get("osImage") or "")},
        "architecture": str(info.get("architecture") or ""),
        "gpu_product": str(products[0]) if products else "",
        "instance_type": str(labels.get("node.kubernetes.io/instance-type") or ""),
    }
