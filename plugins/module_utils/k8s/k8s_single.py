# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A single Job outside of campaigns: there, waited for, or gone, with what it owns."""

from __future__ import annotations

import copy
import json
import queue
import time
from typing import Any, Callable, Dict, Mapping, Optional

from ..base import scalars
from ..base.errors import InvalidInput, MadError
from . import k8s_judge
from .k8s_client import Api, ApiError, Connection
from .k8s_feed import Feed, News

Object = Dict[str, Any]


def run(params: Mapping[str, Any], check: bool) -> Dict[str, Any]:
    """What the module answers; `problem` in it fails the task."""
    definition = _definition(params) if params["state"] == "present" else {}
    name = params["name"] or str((definition.get("metadata") or {}).get("name") or "")
    if not name:
        raise InvalidInput("name is missing: the name of the Job, here or in definition.metadata")
    namespace = params["namespace"] or str((definition.get("metadata") or {}).get("namespace") or "") or "default"
    api = Api(Connection(params["kubeconfig"], params["context"], params["in_cluster"], namespace), patience=120.0)
    if params["state"] == "absent":
        return _absent(api, name, params["wait"], check)
    definition["metadata"] = dict(definition.get("metadata") or {}, name=name, namespace=namespace)
    return _present(api, definition, params["owned"], params["wait"], check)


def _definition(params: Mapping[str, Any]) -> Object:
    given = copy.deepcopy(params["definition"])
    if not isinstance(given, dict) or not isinstance(given.get("spec"), dict):
        raise InvalidInput("definition: a Job with metadata and spec was expected")
    if not isinstance(given.get("metadata") or {}, dict):
        raise scalars.wrong("definition.metadata", "a dict", given["metadata"])
    if given.get("kind", "Job") != "Job":
        raise InvalidInput("definition.kind is %r: this module makes Jobs; kubernetes.core.k8s makes everything else" % given["kind"])
    return dict({"apiVersion": "batch/v1", "kind": "Job"}, **given)


def _present(api: Api, definition: Object, owned: Any, wait: Optional[int], check: bool) -> Dict[str, Any]:
    name = definition["metadata"]["name"]
    known = api.find("jobs", name)
    half = known is not None and _is_half_made(known)
    result: Dict[str, Any] = {"changed": known is None or half, "complete": False}
    if known is None:
        shown = [definition, *(document for document in owned if document.get("kind") != "Secret")]
        text = "".join(
            "--- # %s %s\n%s\n" % (one.get("kind"), one["metadata"]["name"], json.dumps(one, indent=2, sort_keys=True)) for one in shown
        )
        result["diff"] = {"before": "", "after": text, "after_header": "Job %s" % name}
    if check:
        return result
    job = known if known is not None and not half else _make(api, definition, owned)
    if wait is not None:
        job = _follow(api, name, wait, k8s_judge.is_over) or job
    result.update(job=job, complete=k8s_judge.condition(job, "Complete") is not None)
    failed = k8s_judge.condition(job, "Failed")
    if wait is not None and failed:
        result["problem"] = "Job %s failed: %s %s" % (name, failed.get("reason"), failed.get("message"))
    elif wait is not None and not result["complete"]:
        result["problem"] = "Job %s has not ended after %d s; it goes on" % (name, wait)
    return result


_HALF = "mad.engine/being-made"  # an annotation, from the creation until the release


def _is_half_made(job: Object) -> bool:
    return _HALF in (job["metadata"].get("annotations") or {})


def _make(api: Api, definition: Object, owned: Any) -> Object:
    """Suspended, then what it owns, then its release; one that a killed task left in between is gone on with."""
    wanted = copy.deepcopy(definition)
    suspended = bool(wanted["spec"].get("suspend"))
    wanted["spec"]["suspend"] = True
    wanted["metadata"]["annotations"] = dict(wanted["metadata"].get("annotations") or {}, **{_HALF: "true"})
    try:
        job = api.create(wanted)
    except ApiError as error:
        if error.status != 409:
            raise
        job = api.get("jobs", wanted["metadata"]["name"])
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    for document in owned:
        mine = copy.deepcopy(document)
        mine["metadata"] = dict(mine["metadata"], namespace=api.namespace, ownerReferences=[owner])
        api.apply(mine)
    release = {"metadata": {"annotations": {_HALF: None}}, "spec": {"suspend": suspended}}
    return api.patch("jobs", job["metadata"]["name"], release, wanted=True)


def _follow(api: Api, name: str, wait: int, test: Callable[[Object], bool]) -> Optional[Object]:
    """The Job once the test holds, by a watch; what was known last when the time is over, None when it is gone."""
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    feed = Feed(api, "jobs", "", news.put, fields="metadata.name=%s" % name)
    feed.start()
    deadline, newest = time.monotonic() + wait, None
    try:
        while True:
            try:
                told = news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return newest
            if told.error is not None:
                raise told.error
            newest = told.object or next(iter(told.listed or []), None)
            if newest is None or told.gone:
                return None
            if test(newest):
                return newest
    finally:
        feed.stop()


def _absent(api: Api, name: str, wait: Optional[int], check: bool) -> Dict[str, Any]:
    known = api.find("jobs", name)
    removed = ["job %s in namespace %s" % (name, api.namespace)] if known else []
    result: Dict[str, Any] = {
        "changed": bool(known),
        "removed": removed,
        "diff": {"before": "".join(line + "\n" for line in removed), "after": ""},
    }
    if check or not known:
        return result
    api.delete("jobs", name, known["metadata"]["uid"], "Background" if wait is None else "Foreground")
    if wait is not None and _follow(api, name, wait, lambda value: value["metadata"]["uid"] != known["metadata"]["uid"]) is not None:
        raise MadError("Job %s is not gone after %d s" % (name, wait))
    return result
