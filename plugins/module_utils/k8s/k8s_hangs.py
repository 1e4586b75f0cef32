# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster never ends by itself: pods of a node that does not answer, containers beside the model that go on for ever, Jobs that a queue
suspended after they had begun.

Nothing is decided at first sight: the two watches are not in step, and clusters mend themselves. Moments are the caller's own clock.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import k8s_judge
from .k8s_judge import Fault

OVERDUE = 120.0  # seconds beyond its grace period after which a pod's node is given up
SUSPENDED = 30.0  # seconds for which a Job that has begun must be seen suspended
LINGERING = 60.0  # seconds that other containers have to end once the model has

Object = Mapping[str, Any]


class Hangs:
    """One Job's, looked at again and again."""

    def __init__(self, container: str, resumable: bool) -> None:
        self.container, self.resumable = container, resumable
        self.stuck: List[str] = []  # uids of the pods that nobody needs to wait for
        self._since: Dict[Tuple[str, str], float] = {}

    def _seconds(self, what: str, uid: str, holds: bool, now: float) -> float:
        """For how long something holds without a break; -1 when it does not."""
        if not holds:
            self._since.pop((what, uid), None)
            return -1.0
        return now - self._since.setdefault((what, uid), now)

    def fault(self, job: Object, pods: Sequence[Object], now: float) -> Optional[Fault]:
        """Why the Job is to be ended by us; None while it may go on."""
        return self._overdue(pods, now) or (None if self.resumable else self._begins_again(job, pods, now))

    def _overdue(self, pods: Sequence[Object], now: float) -> Optional[Fault]:
        found = None
        for pod in pods:
            metadata = pod["metadata"]
            leaves = k8s_judge.was_deleted(pod) and not k8s_judge.ended(pod)
            limit = float(metadata.get("deletionGracePeriodSeconds") or 0) + OVERDUE
            if self._seconds("deleted", str(metadata["uid"]), leaves, now) <= limit:
                continue
            if metadata["uid"] not in self.stuck:
                self.stuck.append(str(metadata["uid"]))
            known = k8s_judge.disturbance(pod) or Fault("infra", "pod %s was deleted" % metadata.get("name"))
            node = (pod.get("spec") or {}).get("nodeName") or "no node"
            found = found or known._replace(
                reason="%s; %d s after its grace period it is still there: node %s does not answer" % (known.reason, OVERDUE, node)
            )
        return found

    def _begins_again(self, job: Object, pods: Sequence[Object], now: float) -> Optional[Fault]:
        """Kueue and people take a Job's pods by suspending it; what had begun would begin again."""
        begun = [pod for pod in pods if k8s_judge.has_begun(pod, self.container)]
        metadata = job.get("metadata") or {}
        suspended = bool(begun and (job.get("spec") or {}).get("suspend") and not k8s_judge.is_over(job))
        seconds = self._seconds("suspended", str(metadata.get("uid")), suspended, now)
        text = "Job %s was suspended after its model had begun (by its queue, or by a person)" % metadata.get("name")
        if seconds > SUSPENDED:
            return Fault("preempted", text, "preempted")
        for pod in begun if len({k8s_judge.rank(pod) for pod in pods}) < len(pods) else []:
            rank, when = k8s_judge.rank(pod), str(pod["metadata"].get("creationTimestamp") or "")
            later = [other for other in pods if k8s_judge.rank(other) == rank and str(other["metadata"].get("creationTimestamp") or "") > when]
            if later:
                return Fault("preempted", "pod %s came after pod %s had begun: %s" % (_name(later[0]), _name(pod), text), "preempted")
        return None

    def outlived(self, pods: Sequence[Object], now: float) -> str:
        """The container that alone keeps the pods, once every model has ended; "" when there is none."""
        alive = [pod for pod in pods if not k8s_judge.ended(pod)]
        names: List[str] = []
        known = 0
        for pod in alive:
            others = k8s_judge.others_running(pod, self.container)
            lingers = bool(others) and k8s_judge.terminated(pod, self.container) is not None
            if self._seconds("lingers", str(pod["metadata"]["uid"]), lingers, now) > LINGERING:
                names, known = names + others, known + 1
        return names[0] if names and known == len(alive) else ""


def _name(pod: Object) -> str:
    return str((pod.get("metadata") or {}).get("name"))
