# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a Job: an outcome out of what the cluster says and what its pods said, then the record, by the same code as on a host."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..base.errors import FAILURE_CLASSES
from ..base.files import is_regular
from ..host import driver, ending
from ..host.ending import Ending
from ..host.host_state import LOGS, Attempt, HostFolder
from ..results import aggregate, perf
from . import k8s_frames, k8s_judge, k8s_logs
from .k8s_judge import Fault, Verdict
from .k8s_pod import CONTAINER
from .k8s_trial import RAW, Trial

Object = Mapping[str, Any]
_MOMENT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z")


class Node:
    """One rank of a run at its end: its pod, and what the pod said."""

    def __init__(self, pod: Object, folder: str, brought: Optional[k8s_frames.Brought]) -> None:
        self.pod, self.folder, self.brought = pod, folder, brought
        self.rank = k8s_judge.rank(pod)
        self.name = str(pod["metadata"]["name"])
        self.status: Optional[int] = k8s_judge.exit_status(pod, CONTAINER)
        self.hello = brought.hello if brought else {}
        self.bye = (brought.bye if brought else {}) or _termination(pod)  # the same words, where the log was lost
        self.progress = driver.read_phases(os.path.join(folder, "phases"))

    def code(self) -> Optional[int]:
        """The model's exit code, as the driver noted it, else as the pod said it."""
        said = self.bye.get("code", "")
        if self.progress.exit_code is not None:
            return self.progress.exit_code
        return int(said) if said.isdecimal() and len(said) < 10 else None

    def wall(self, uptime: float) -> float:
        """Seconds since the epoch of a moment on this node's boot clock; 0.0 where nobody knows."""
        clock, then = (_moment(self.hello.get(name, "")) for name in ("clock", "uptime"))
        return clock - then + uptime if clock and then and uptime else 0.0

    def missing(self) -> str:
        """What of the model's output is not here, "" when everything is."""
        if not self.brought or not self.bye:
            return "its log ends before the pod had said everything"
        if self.bye.get("model_bytes") and not self.brought.model_complete:
            return "its log is incomplete: %d of %s bytes came" % (self.brought.model_bytes, self.bye["model_bytes"])
        return ""

    def told_to_stop(self) -> bool:
        """Whether somebody asked its pod to end before its model had ended by itself."""
        return bool(self.bye.get("signal")) and self.bye.get("timed_out") != "1" and self.bye.get("first_ended") != "1"


def _moment(text: str) -> float:
    return float(text) if _MOMENT.match(text) else 0.0


def _termination(pod: Object) -> Dict[str, str]:
    how = k8s_judge.terminated(pod, CONTAINER) or {}
    said = k8s_frames.termination(str(how.get("message") or ""))
    return dict(said, reason=k8s_frames.plain(said.get("reason", ""))) if said else {}


def nodes_of(trial: Trial) -> List[Node]:
    """The newest pod of each rank, its log taken apart into the attempt's folder."""
    found = []
    for pod in trial.current():
        follower = trial.followers.get(trial.start_of(pod))
        brought = None
        folder = follower.folder if follower else trial.attempt.file("io", "node-%d" % k8s_judge.rank(pod))
        if follower:
            brought = k8s_frames.split(follower.path, folder, _termination(pod).get("nonce", ""), k8s_logs.text)
            if not (brought.hello or brought.bye or brought.model_bytes):
                os.unlink(os.path.join(folder, "model.log"))
        found.append(Node(pod, folder, brought))
    return found


def outcome_of(run: Object, verdict: Verdict, nodes: List[Node], error: Optional[Fault]) -> Dict[str, Any]:
    """What happened, in the words of docs/contracts.md; nothing is decided here."""
    outcome: Dict[str, Any] = {
        "launched": any(node.progress.began or node.status is not None or node.hello for node in nodes),
        "exit_code": _exit_code(nodes),
        "signal": 0,
        "timed_out": any(node.bye.get("timed_out") == "1" for node in nodes),
        "oom": False,
        "cancelled": False,
        "preempted": False,
        "error": None,
        "notes": [note for node in nodes for note in [*(node.brought.notes if node.brought else []), *_started_again(node)]],
    }
    fault = error or verdict.fault
    if fault:
        if fault.flag:
            outcome[fault.flag] = True
        if fault.flag not in ("oom", "timed_out"):
            outcome["error"] = {"class": fault.failure_class, "reason": fault.reason}
        return outcome
    return dict(outcome, **_of_pods(run, verdict, nodes, bool(outcome["timed_out"])))


def _started_again(node: Node) -> List[str]:
    """What is to be known of earlier starts in the same pod, of which only the last one is judged."""
    count = k8s_judge.restarts(node.pod, CONTAINER)
    before = (k8s_judge.status_of(node.pod, CONTAINER).get("lastState") or {}).get("terminated") or {}
    text = "the container of pod %s was started again in place, %d times (k8s.restart_in_place); the last time after exit status %s"
    return [text % (node.name, count, before.get("exitCode", "?"))] if count else []


def _guilty(nodes: List[Node]) -> List[Node]:
    """Nodes whose model failed by itself: when one fails, the Job's controller tells the others to stop."""
    return [node for node in nodes if node.code() and not node.told_to_stop() and node.bye.get("first_ended") != "1"]


def _exit_code(nodes: List[Node]) -> Optional[int]:
    """Of the first node that failed, else of the first node."""
    guilty = _guilty(nodes)
    return guilty[0].code() if guilty else (nodes[0].code() if nodes else None)


def _error(failure_class: str, reason: str) -> Dict[str, Any]:
    return {"error": {"class": failure_class if failure_class in FAILURE_CLASSES else "infra", "reason": reason}}


def _of_pods(run: Object, verdict: Verdict, nodes: List[Node], timed_out: bool) -> Dict[str, Any]:
    """What the pods said of themselves where nobody disturbed them."""
    for node in nodes:
        if node.bye.get("failed"):
            said = "pod %s: %s%s" % (node.name, node.bye.get("reason") or "no reason was given", _why_others_wait(nodes))
            return _error(node.bye["failed"], said)
        if node.progress.failure and not timed_out and not node.told_to_stop():
            return {"error": ending.phase_failure(run, node.progress.failure)}
    if timed_out or _guilty(nodes):
        return {}
    for node in nodes:
        if node.told_to_stop():
            reason = "pod %s was told to stop by SIG%s" % (node.name, node.bye["signal"])
            return {"preempted": True, "error": {"class": "preempted", "reason": reason}}
        if node.status and not node.bye:
            return _error("infra", "pod %s ended from outside with exit status %d, without a word%s" % (node.name, node.status, _how(node)))
        if node.missing():
            return _error("infra", "pod %s: %s" % (node.name, node.missing()))
    if verdict.good and nodes:
        return {}
    return _error("infra", "the Job is not complete, and nothing says why" if nodes else "the Job has no pod any more")


def _why_others_wait(nodes: List[Node]) -> str:
    """What keeps the pods that one of them waited for in vain."""
    for node in nodes:
        wait = None if k8s_judge.has_begun(node.pod, CONTAINER) else k8s_judge.waiting(node.pod)
        if wait:
            return "; pod %s: %s" % (node.name, wait.reason)
    return ""


def _how(node: Node) -> str:
    """The kubelet's word for an end of which the pod said nothing, such as ContainerStatusUnknown."""
    how = k8s_judge.terminated(node.pod, CONTAINER) or {}
    words = " ".join(str(how.get(name) or "") for name in ("reason", "message")).split()
    return " (%s)" % " ".join(words)[:300] if words and words != ["Error"] else ""


class PodEnding(Ending):
    """The record of one Job. Files of the first node are the attempt's; those of the others are its artifacts."""

    def __init__(
        self,
        folder: HostFolder,
        run: Mapping[str, Any],
        attempt: Attempt,
        outcome: Dict[str, Any],
        nodes: List[Node],
        machines: Mapping[str, Object],
    ) -> None:
        super().__init__(folder, run, attempt, outcome)
        self.nodes, self.machines = nodes, machines
        self.outputs: List[Tuple[int, Mapping[str, Any]]] = []

    def wall_clock(self, seconds_since_boot: float) -> float:
        """By the clock of the first node."""
        return (self.nodes[0].wall(seconds_since_boot) if self.nodes else 0.0) or time.time()

    def _times(self) -> None:
        """As on a host, with the Job's creation as the end of staging, and the API's word where the pod said nothing."""
        super()._times()
        times = self.outcome["times"]
        times["staged"] = float(self.launch.get("created") or times["staged"])
        how = (k8s_judge.terminated(self.nodes[0].pod, CONTAINER) or {}) if self.nodes else {}
        for name, key in (("started", "startedAt"), ("finished", "finishedAt")):
            told = k8s_judge.moment(how.get(key))
            if told and not self.progress.ended and (name == "finished" or name not in times):
                times[name] = told

    def move_out(self) -> None:
        """Every node's output is read; the other nodes' files become artifacts, named by their node; then as on a host."""
        os.makedirs(self.attempt.file("io", "artifacts"), exist_ok=True)
        for node in self.nodes:
            self._parse(node)
        for node in self.nodes:
            if node.rank:
                self._gather(node)
        for name in os.listdir(self.attempt.file("io")):
            if name.endswith(RAW):
                os.unlink(self.attempt.file("io", name))
        super().move_out()

    def _gather(self, node: Node) -> None:
        for source in (node.folder, os.path.join(node.folder, "artifacts")):
            for name in sorted(os.listdir(source)) if os.path.isdir(source) else []:
                if is_regular(os.path.join(source, name)) and (source != node.folder or name in LOGS):
                    with contextlib.suppress(OSError):
                        os.rename(os.path.join(source, name), self.attempt.file("io", "artifacts", "node-%d.%s" % (node.rank, name)))

    def _parse(self, node: Node) -> None:
        log, inside = os.path.join(node.folder, "model.log"), os.path.join(node.folder, "artifacts")
        if is_regular(log):
            ending.mask_file(log, self.secrets)
            name = os.path.basename(str(self.run.get("multiple_results") or ""))
            results = os.path.join(inside, name)
            self.outputs.append((node.rank, perf.parse_run(self.run, log, results if name and is_regular(results) else "", inside)))

    def parsed(self) -> Optional[Dict[str, Any]]:
        """All nodes' outputs as one."""
        if not self.outputs:
            return super().parsed()
        first = dict(self.outputs[0][1])
        if len(self.outputs) == 1:
            return first
        declared = (self.run.get("launcher") or {}).get("aggregation") or {}
        found, notes = aggregate.combine([output.get("metrics") or [] for dummy, output in self.outputs], declared)
        errors = [
            dict(entry, line="node %d: %s" % (rank, entry["line"])) for rank, output in self.outputs for entry in output.get("errors") or []
        ]
        telling = next((output for dummy, output in self.outputs if output.get("errors")), first)
        return dict(
            first,
            metrics=found,
            errors=errors,
            excerpt=telling.get("excerpt"),
            notes=[note for dummy, output in self.outputs for note in output.get("notes") or []] + notes,
            problem=None if found else next((output["problem"] for dummy, output in self.outputs if output.get("problem")), None),
        )

    def _record(self) -> Dict[str, Any]:
        document = super()._record()
        launch = self.launch
        document["target"] = {
            "kind": "k8s",
            "runtime": "kubernetes",
            "namespace": launch.get("namespace", ""),
            "job": launch.get("job", ""),
            "uid": launch.get("uid", ""),
            "pods": [node.name for node in self.nodes],
            "nodes": [str((node.pod.get("spec") or {}).get("nodeName") or "") for node in self.nodes],
            "image_id": str(k8s_judge.status_of(self.nodes[0].pod, CONTAINER).get("imageID") or "") if self.nodes else "",
        }
        return document

    def facts(self) -> Dict[str, Any]:
        """Of the first pod's node: what the API says, completed by what the pod saw."""
        if not self.nodes:
            return {}
        first = self.nodes[0]
        name = str((first.pod.get("spec") or {}).get("nodeName") or "")
        known = dict(self.machines.get(name) or {"hostname": name})
        said, planned = (first.brought.node if first.brought else {}), self.run.get("gpus") or {}
        known["kernel"] = known.get("kernel") or first.hello.get("kernel", "")
        if said.get("cpus", "").isdecimal():
            known["cpu"] = {"usable": int(said["cpus"]), "architecture": known.get("architecture", "")}
        known["gpu"] = {
            "vendor": str(planned.get("vendor") or "NONE"),
            "count": planned.get("count") if isinstance(planned.get("count"), int) else 0,
            "architecture": said.get("gpu", ""),
            "product": str(known.get("gpu_product", "")) if planned.get("count") else "",
        }
        known.pop("gpu_product", None)
        return known
