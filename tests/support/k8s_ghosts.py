# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that end without anything being run: for measuring what following thousands of them costs."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
import uuid
from typing import List, Tuple

from .k8s_api import Api
from .k8s_asked import Logs
from .k8s_controller import set_condition
from .k8s_store import Object, Problem, now

_MODEL = b"performance: 12.5 things_per_second\n"
_PHASES = "10.00 begin prepare\n10.10 begin model\n10.20 exit model 0\n10.30 begin collect\n10.40 end\n"


def log_of_a_good_pod() -> List[bytes]:
    """What roles/k8s/templates/pod.sh.j2 prints for a model that prints one number."""
    mark = "mad.engine/1 %s " % uuid.uuid4()
    digest, clock = hashlib.sha256(_MODEL).hexdigest(), "clock=%.2f uptime=10.00" % time.time()
    name, data = base64.b64encode(b"phases").decode(), _PHASES.encode()
    lines = [
        mark + "hello run=0 attempt=1 node=0 %s kernel=6.1.0" % clock,
        mark + "node name= gpu= cpus=2",
        mark + "begin model",
        _MODEL.decode(),
        mark + "end model bytes=%d sha256=%s" % (len(_MODEL), digest),
        mark + "file name=%s bytes=%d sha256=%s encoding=plain" % (name, len(data), hashlib.sha256(data).hexdigest()),
        base64.b64encode(data).decode(),
        mark + "end file",
        mark
        + "bye exit=0 code=0 signal= timed_out=0 first_ended=0 failed= model_bytes=%d model_sha256=%s %s reason="
        % (len(_MODEL), digest, clock),
    ]
    return ("\n".join(lines) + "\n").encode().splitlines(keepends=True)


class GhostLogs(Logs):
    """The same log for every pod."""

    def read(self, pod: Object, container: str, previous: bool) -> Tuple[List[Tuple[str, bytes]], bool]:
        when = "2026-11-28T00:00:00.%09d"
        return [(when % number, line) for number, line in enumerate(log_of_a_good_pod())], True


class Ghosts(threading.Thread):
    """Gives every released Job its pod, which has succeeded, and then its end; removes what has no owner any more."""

    def __init__(self, api: Api) -> None:
        super().__init__(daemon=True)
        self.api, self.store, self.done = api, api.store, False
        api.logs = GhostLogs()

    def run(self) -> None:
        version = self.store.version
        while not self.done:
            with self.store.changed:
                changes = self.store.since(version, "jobs")
                if not changes:
                    self.store.changed.wait(0.2)
                    continue
            version = changes[-1].version
            for change in changes:
                job = change.value
                if change.kind == "DELETED":
                    self._sweep(job)
                elif not job["spec"].get("suspend") and not job.get("status"):
                    self._end(job)

    def _end(self, job: Object) -> None:
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        labels = dict(job["spec"]["template"]["metadata"]["labels"])
        state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}}
        pod = {
            "metadata": {"name": name + "-x", "namespace": namespace, "labels": labels},
            "spec": {"nodeName": "node-1", "containers": [{"name": "model"}]},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "model", "state": state}]},
        }
        try:
            self.store.put("pods", pod)
            self.store.update("jobs", namespace, name, _complete, status=True)
        except Problem:
            pass  # it was removed meanwhile

    def _sweep(self, job: Object) -> None:
        for plural, name in (("pods", job["metadata"]["name"] + "-x"), ("configmaps", job["metadata"]["name"] + "-files")):
            try:
                self.store.delete(plural, job["metadata"]["namespace"], name)
            except Problem:
                pass


def _complete(value: Object) -> None:
    value["status"] = {"succeeded": 1}
    set_condition(value, "Complete", "CompletionsReached")
