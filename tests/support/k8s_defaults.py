# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API server stand-in fills into objects, and what it says about itself (discovery)."""

from __future__ import annotations

import base64
import copy
import re
import uuid
from typing import Iterable, Optional

from .k8s_store import KINDS, Object, Problem


def defaulted(plural: str, value: Object) -> Object:
    """What the API server fills in, as far as anybody here looks at it."""
    value = copy.deepcopy(value)
    spec = value.get("spec") or {}
    if plural == "jobs":
        _default_job(value, spec)
    elif plural == "secrets" and value.get("stringData"):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in value.pop("stringData").items()}
        value["data"] = dict(value.get("data") or {}, **encoded)
    elif plural == "persistentvolumeclaims":
        value.setdefault("status", {"phase": "Bound"})
    elif plural == "pods":
        value.setdefault("status", {"phase": "Pending"})
    return value


def _default_job(value: Object, spec: Object) -> None:
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", spec["parallelism"])
    for key, default in (("backoffLimit", 6), ("completionMode", "NonIndexed"), ("suspend", False)):
        spec.setdefault(key, default)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "Failed" if policy else "TerminatingOrFailed")
    if policy and spec["template"]["spec"].get("restartPolicy") != "Never":
        raise Problem(422, "Invalid", "spec.template.spec.restartPolicy: only Never is supported with podFailurePolicy")
    if policy and spec["podReplacementPolicy"] != "Failed":
        raise Problem(422, "Invalid", "spec.podReplacementPolicy: only Failed is supported when podFailurePolicy is used")
    name = str((value.get("metadata") or {}).get("name") or "")
    if len(name) > 63:
        raise Problem(422, "Invalid", "metadata.name: must be no more than 63 characters")
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for key in ("batch.kubernetes.io/job-name", "job-name"):
        labels[key] = name
    if "selector" not in spec:
        uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))  # stable, so that the same apply is no change
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        labels["batch.kubernetes.io/controller-uid"] = uid


def discovery(path: str) -> Optional[Object]:
    """What a dynamic client asks first; None for any other path."""
    groups = sorted({group for group, dummy, dummy2 in KINDS.values() if "/" in group})
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0-stand-in", "platform": "linux/amd64"}
    if path in ("/healthz", "/readyz", "/livez"):
        return {"status": "ok"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        entries = [{"groupVersion": group, "version": group.rpartition("/")[2]} for group in groups]
        listed = [{"name": entry["groupVersion"].partition("/")[0], "versions": [entry], "preferredVersion": entry} for entry in entries]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    found = re.match(r"/api/(v1)\Z|/apis/([^/]+/[^/]+)\Z", path)
    if not found or (found.group(2) and found.group(2) not in groups):
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found.group(1) or found.group(2),
        "resources": list(_resources(found)),
    }


def _resources(found: re.Match[str]) -> Iterable[Object]:
    verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    for plural, (group, kind, namespaced) in sorted(KINDS.items()):
        if group == (found.group(1) or found.group(2)):
            entry: Object = {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
            yield entry
            yield dict(entry, name=plural + "/status", verbs=["get", "patch", "update"])
            if plural == "pods":
                yield dict(entry, name="pods/log", verbs=["get"])
