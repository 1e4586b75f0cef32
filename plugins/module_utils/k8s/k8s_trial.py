# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One attempt of a run as a Job: made once whoever dies, followed, read, judged, removed.

The order on disk and in the cluster decides everything: the Job (suspended; its name is the arbiter, and who dies here finds it by its labels), then
launch.json with its uid, then what it owns, then its release. A Job whose uid is known is never made again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from ..base.errors import MadError
from ..host import processes
from ..host.host_state import Attempt, HostFolder, read_optional
from . import k8s_judge
from .k8s_client import QUOTA, Api, ApiError
from .k8s_hangs import Hangs
from .k8s_judge import Fault, Verdict
from .k8s_logs import LogReader, Tee
from .k8s_pod import CONTAINER

_EVENTS_PAUSES = (10.0, 20.0, 30.0, 60.0, 180.0, 300.0)  # seconds from one look at the events to the next
RAW = ".pod"  # what a pod said, as it came, lies in a file of its name with this behind it until its attempt has ended
_QUOTA_PAUSE = 5.0
_OUT_OF_STEP = 30.0  # seconds that one watch may be behind the other

Object = Dict[str, Any]


def objects_path(folder: HostFolder, run_id: str, attempt: int) -> str:
    """Where the rendered objects of an attempt lie."""
    return folder.file("runs", run_id, "objects-%d.json" % attempt)


def _is_ours(known: Object, job: Object) -> bool:
    """Whether a Job of the cluster is this one: it has our labels, and perhaps those that an admission webhook added."""
    labels = known["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in (job["metadata"].get("labels") or {}).items())


class Settings:
    """What the runner needs to know of the options, out of settings.json."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.pending_timeout = float(given.get("pending_timeout") or 1800)
        self.max_jobs = int(given.get("max_jobs") or 0)
        self.ttl_seconds: Optional[int] = given.get("ttl_seconds")
        self.queue_name = str(given.get("queue_name") or "")
        self.keep_failed = not given.get("cleanup_on_failure", True)


class Start(NamedTuple):
    """One start of a container: of the pod's first, `number` is 0. Each has a log of its own."""

    uid: str
    number: int


class Follower:
    """The log of one start of a pod's container, on its way to the disk."""

    def __init__(self, api: Api, pod: Object, start: Start, folder: str, patience: Callable[[], Optional[float]]) -> None:
        name = str(pod["metadata"]["name"])
        self.name = name + (".%d" % start.number if start.number else "")
        self.rank = k8s_judge.rank(pod)
        self.folder = folder if self.rank == 0 else os.path.join(folder, "node-%d" % self.rank)
        if self.folder != folder:  # that one is there
            os.makedirs(self.folder, exist_ok=True)
        self.path = os.path.join(folder, self.name + RAW)
        self.reader = LogReader(api, name, CONTAINER, self.path, patience, Tee(os.path.join(self.folder, "model.log")))


class Trial:
    """An attempt under way. Its methods that talk to the cluster run in worker threads, one at a time."""

    def __init__(
        self, api: Api, folder: HostFolder, run: Mapping[str, Any], attempt: Attempt, name: str, settings: Settings, wake: Callable[[], None]
    ) -> None:
        self.api, self.folder, self.run, self.attempt, self.wake = api, folder, run, attempt, wake
        self.name, self.settings = name, settings
        self.job: Optional[Object] = None
        self.pods: Dict[str, Object] = {}
        self.followers: Dict[Start, Follower] = {}
        self.busy = threading.Event()  # a worker has it
        self.launched = self.finished = self.gone = False
        self.launched_at = 0.0
        self.resumable = (run.get("card") or {}).get("resumable") is True
        self.hangs = Hangs(CONTAINER, self.resumable)
        self.outlived = ""  # a container that goes on when the model has ended
        self.tried = 0.0  # since when the Job may be there although nobody has told its uid
        self.error: Optional[Fault] = None  # our own decision to end it
        self.held_back = False  # it is to end because nothing more may begin
        self.crash: Optional[BaseException] = None
        self.later = 0.0  # before this moment nothing is tried
        self.waiting_since = time.monotonic()
        self.over_since: Optional[float] = None
        self.wait: Optional[Fault] = None
        self.events: Optional[Fault] = None
        self.asked, self.asked_at = 0, 0.0  # how often the events were looked at, and when last
        self.queue_says = ""  # why Kueue has not admitted it
        self.notes: List[str] = []
        self.deleted = False
        self.quiet_by = 0.0  # until when a Job that was removed may have pods

    def _objects(self) -> Object:
        path = objects_path(self.folder, self.run["id"], self.attempt.number)
        found = read_optional(path)
        if not found.get("job"):
            raise MadError("no objects were rendered for attempt %d; stage the campaign again" % self.attempt.number)
        return found

    # -- making it -------------------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """See that the Job, what it owns, and its release are there; safe to repeat. Nothing, once it is to end."""
        if self.error is not None:
            return
        objects, known = self._objects(), self.attempt.launch()
        self.tried = self.tried or time.time()
        found = self.job or self._create(objects, bool(known.get("uid")))
        uid = str(found["metadata"]["uid"])
        if known.get("uid") and known["uid"] != uid:
            raise MadError("its Job was removed, and another one has its name", "infra")
        if not known.get("uid"):
            self._note_launch(uid)
        self.job = self.job or found
        released = self.attempt.file("released")
        if not os.path.exists(released) and self.error is None:  # also of a Job that a queue has released already: it waits for what it owns
            self._complete(objects, found)
            os.close(os.open(released, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.waiting_since = self.launched_at = time.monotonic()
        self.launched = True

    def _note_launch(self, uid: str) -> None:
        self.attempt.save_launch(
            {
                "schema": 1,
                "run": self.run["id"],
                "attempt": self.attempt.number,
                "job": self.name,
                "uid": uid,
                "namespace": self.api.namespace,
                "created": self.tried,
                "boot_id": processes.boot_id(),
            }
        )

    def _create(self, objects: Object, was_there: bool) -> Object:
        """The Job: made by us now, or found because somebody of us made it before."""
        job = objects["job"]
        if was_there:
            known = self.api.find("jobs", job["metadata"]["name"])
            if known is None:
                raise MadError("its Job is gone: somebody removed it", "infra")
            return known
        for document in objects.get("standing") or []:
            self._stand(document)
        try:
            return self.api.create(job)
        except ApiError as error:
            if error.status != 409:
                raise
        known = self.api.get("jobs", job["metadata"]["name"])
        if not _is_ours(known, job):
            raise MadError("a Job of the name %s exists, and it is not ours" % job["metadata"]["name"], "launch")
        return known

    def _stand(self, document: Object) -> None:
        """A claim that outlives the campaign: made when it is absent, never changed."""
        try:
            self.api.create(document)
        except ApiError as error:
            if error.status != 409:
                raise

    def _complete(self, objects: Object, job: Object) -> None:
        """What the Job owns, then its release. Under Kueue the release is Kueue's."""
        owner = {
            "apiVersion": job.get("apiVersion", "batch/v1"),
            "kind": "Job",
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
        }
        for document in objects.get("owned") or []:
            self.api.apply(dict(document, metadata=dict(document["metadata"], ownerReferences=[owner])))
        if not self.settings.queue_name:
            # The answer is not kept: the watch may have told something newer meanwhile.
            self.api.patch("jobs", job["metadata"]["name"], {"spec": {"suspend": False}})

    def begun(self) -> bool:
        """Whether the model of any of its pods may have begun."""
        counts = (self.job or {}).get("status") or {}
        told = any(counts.get(name) for name in ("ready", "succeeded", "failed"))
        return told or bool(self.followers) or any(k8s_judge.has_begun(pod, CONTAINER) for pod in list(self.pods.values()))

    def hold_back(self, reason: str) -> None:
        """End it before it begins; should it begin nevertheless, it ends as cancelled."""
        if self.error is None and not self.finished:
            self.held_back, self.error = True, Fault("cancelled", reason, "cancelled")

    # -- following it ----------------------------------------------------------------------------------------------------------------

    def current(self) -> List[Object]:
        """The newest pod of each rank."""
        found: Dict[int, Object] = {}
        for pod in sorted(self.pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp"))):
            found[k8s_judge.rank(pod)] = pod
        return [found[rank] for rank in sorted(found)]

    def verdict(self) -> Verdict:
        """What the cluster says of it."""
        pods = self.current() if self.resumable else list(self.pods.values())
        verdict = k8s_judge.judge(self.job or {}, pods, CONTAINER)
        if self.outlived and not verdict.over:
            good = all(k8s_judge.exit_status(pod, CONTAINER) == 0 for pod in self.current())
            return verdict._replace(over=True, good=good, running=False)
        return verdict

    def look_for_hangs(self, verdict: Verdict) -> None:
        """End what the cluster will not end."""
        if verdict.over or self.error is not None or not self.pods:
            return
        now = time.monotonic()
        self.error = self.hangs.fault(self.job or {}, list(self.pods.values()), now)
        pods, wanted = self.current(), int(((self.job or {}).get("spec") or {}).get("completions") or 1)
        name = self.hangs.outlived(pods, now) if len(pods) >= wanted else ""
        if name and not self.outlived:
            self.outlived = name
            self.notes.append("its Job was ended by mad.engine: container %s, which is not ours, goes on when the model has ended" % name)

    def follow(self, begin: Callable[[Callable[[], None]], Any]) -> None:
        """Have the logs of pods whose container has begun read; `begin` calls what it is given in a thread, once there is one."""
        for pod in self.current():
            start = self.start_of(pod)
            if start in self.followers or not k8s_judge.has_begun(pod, CONTAINER):
                continue
            for older in self.followers.values():
                if older.rank == k8s_judge.rank(pod):
                    self._set_aside(older)
            follower = Follower(self.api, pod, start, self.attempt.file("io"), lambda start=start: self._patience(start))  # type: ignore[misc]
            follower.reader.over = self.wake
            follower.reader.replaced = lambda start=start: self._was_replaced(start)  # type: ignore[misc]
            self.followers[start] = follower
            begin(follower.reader.run)

    @staticmethod
    def start_of(pod: Object) -> Start:
        """The newest start of a pod's container."""
        return Start(str(pod["metadata"]["uid"]), k8s_judge.restarts(pod, CONTAINER))

    def _was_replaced(self, start: Start) -> bool:
        pod = self.pods.get(start.uid)
        return pod is not None and k8s_judge.restarts(pod, CONTAINER) > start.number

    def _set_aside(self, older: Follower) -> None:
        """The output that another pod, or another start in the same one, replaced makes room."""
        target = self.attempt.file("io", "replaced", older.name)
        if os.path.exists(target):
            return
        os.makedirs(target)
        with contextlib.suppress(OSError):
            os.rename(os.path.join(older.folder, "model.log"), os.path.join(target, "model.log"))

    def _patience(self, start: Start) -> Optional[float]:
        """Seconds of asking for the log of a container that has ended; of a node that is lost nobody expects much. None while it runs."""
        pod = self.pods.get(start.uid)
        if not (self.gone or pod is None or k8s_judge.ended(pod) or k8s_judge.instance_over(pod, CONTAINER, start.number)):
            return None
        lost = self.gone or pod is None or k8s_judge.disturbance(pod)
        return 10.0 if lost else 120.0

    def all_ended(self) -> bool:
        """Whether no pod runs any more, but those of nodes that do not answer."""
        return all(k8s_judge.ended(pod) or uid in self.hangs.stuck for uid, pod in list(self.pods.items()))

    def all_seen(self) -> bool:
        """Whether the watch of pods has told of every pod that the Job counts; the two watches are not in step. Not waited for without end."""
        status = (self.job or {}).get("status") or {}
        counted = int(status.get("succeeded") or 0) + int(status.get("failed") or 0)
        if self.over_since is None:
            self.over_since = time.monotonic()
        return len(self.pods) >= counted or time.monotonic() - self.over_since > _OUT_OF_STEP

    def all_read(self) -> bool:
        """Whether everything that can be read was read."""
        wanted = [self.start_of(pod) for pod in self.current() if k8s_judge.has_begun(pod, CONTAINER)]
        return all(start in self.followers for start in wanted) and all(known.reader.done.is_set() for known in self.followers.values())

    def look_at_wait(self, verdict: Verdict) -> None:
        """Note why it waits, ask the events now and then, and end a wait that has no end."""
        if self.error is not None:  # it ends already, and why is said
            return
        if verdict.running or verdict.over:
            self.waiting_since = time.monotonic()
            self.wait = verdict.wait if verdict.running else None  # of several pods one may wait
            return
        waited = time.monotonic() - self.waiting_since
        self.wait = verdict.wait or (self._queued() if self.queue_says else None) or self.events or self._queued()
        limit = self.settings.pending_timeout
        if waited > limit:
            why = self.wait or Fault("placement", "nothing says why")
            self.error = Fault(why.failure_class, "it did not begin within %d s (k8s.pending_timeout): %s" % (limit, why.reason))

    def _queued(self) -> Optional[Fault]:
        """Kueue says nothing in the Job's own conditions while it waits."""
        if not (self.settings.queue_name or self.queue_says) or not ((self.job or {}).get("spec") or {}).get("suspend"):
            return None
        which = "queue %s (k8s.queue_name)" % self.settings.queue_name if self.settings.queue_name else "the cluster's Kueue"
        return Fault("placement", "%s has not admitted it yet%s" % (which, ": " + self.queue_says if self.queue_says else ""))

    def wait_for_quota(self, problem: ApiError) -> bool:
        """Note that the namespace may have no more objects for now; whether it makes sense to ask once more."""
        if self.launched or self.error is not None or problem.status != 403 or QUOTA not in problem.message:
            return False
        self.wait, self.later = Fault("placement", problem.message), time.monotonic() + _QUOTA_PAUSE
        return time.monotonic() - self.waiting_since <= self.settings.pending_timeout

    def wants_events(self, verdict: Verdict) -> bool:
        """Whether it is time to ask why a Job waits: its pods do not say it."""
        if verdict.running or verdict.over or verdict.wait or not self.launched:
            return False
        pause = _EVENTS_PAUSES[min(self.asked, len(_EVENTS_PAUSES) - 1)]
        return time.monotonic() - max(self.waiting_since, self.asked_at) > min(pause, self.settings.pending_timeout / 2)

    def ask_events(self) -> None:
        """The warnings about the Job and its pods. Without the right to read events nobody knows more, and nothing else fails."""
        self.asked, self.asked_at = self.asked + 1, time.monotonic()
        names = [self.name, *(str(pod["metadata"]["name"]) for pod in self.current()[:1])]
        found: List[Object] = []
        try:
            for name in names:
                found += self._events_of(name)
            self._ask_queue(found)
        except ApiError as error:
            if error.status != 403:
                raise
            self.notes.append(error.message)
            self.asked_at = float("inf")
        self.events = k8s_judge.explain(found) or self.events

    def _events_of(self, name: str) -> List[Object]:
        return self.api.list("events", fields="involvedObject.name=%s" % name, limit=50)[0]

    def _ask_queue(self, events: List[Object]) -> None:
        """What Kueue says of the Workload that it made of the Job. Its conditions are a right that few have; its events are as good."""
        name = k8s_judge.workload_of(events)
        if not name:
            return
        workload: Object = {}
        try:
            workload = self.api.find("workloads", name) or {}
        except ApiError as error:
            if error.status != 403:
                raise
        self.queue_says = k8s_judge.not_admitted(workload, self._events_of(name)) or self.queue_says

    # -- its end ---------------------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Take the Job away, and with it what it owns. A Job of the same name that is not ours stays."""
        uid = str((self.job or {}).get("metadata", {}).get("uid") or self.attempt.launch().get("uid") or "")
        if not uid and self.tried:
            known = self.api.find("jobs", self.name) or {"metadata": {}}
            uid = str(known["metadata"].get("uid") or "") if _is_ours(known, self._objects()["job"]) else ""
        if uid and not self.deleted and not self.gone:
            self.api.delete("jobs", self.name, uid)
        grace = [float((pod.get("spec") or {}).get("terminationGracePeriodSeconds") or 30) for pod in list(self.pods.values())]
        self.quiet_by = time.monotonic() + max(grace, default=0.0) + 30.0
        self.deleted = True

    def is_quiet(self) -> bool:
        """Whether the pods of a Job that was removed have ended and were read, or have had the time for it."""
        ended = self.all_ended()
        self.gone = self.gone or ended
        return (ended and self.all_read()) or time.monotonic() >= self.quiet_by

    def stop_reading(self) -> None:
        """No more of its logs is wanted."""
        for follower in self.followers.values():
            follower.reader.stopped.set()
