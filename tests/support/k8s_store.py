# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the cluster stand-in: objects with versions, the history that watches read, server-side apply, patches, owners.

Why our own: kmock's emulator keeps objects but knows no resource versions, selectors, apply, 410, subresources or owners, and these are what
is tested here. Nothing but the standard library, so that people can start it anywhere.
"""

from __future__ import annotations

import copy
import re
import threading
import time
import uuid
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

Object = Dict[str, Any]

# plural -> (group/version, kind, namespaced)
KINDS = {
    "namespaces": ("v1", "Namespace", False),
    "nodes": ("v1", "Node", False),
    "pods": ("v1", "Pod", True),
    "services": ("v1", "Service", True),
    "secrets": ("v1", "Secret", True),
    "configmaps": ("v1", "ConfigMap", True),
    "events": ("v1", "Event", True),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", True),
    "serviceaccounts": ("v1", "ServiceAccount", True),
    "jobs": ("batch/v1", "Job", True),
    "deployments": ("apps/v1", "Deployment", True),
    "leases": ("coordination.k8s.io/v1", "Lease", True),
    "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview", False),
}
_IMMUTABLE = {
    "Job": ("template", "selector", "completions", "completionMode"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName"),
}


class Problem(Exception):
    """A Status that is not Success."""

    def __init__(self, code: int, reason: str, message: str, details: Optional[Object] = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details or {}

    def status(self) -> Object:
        """The object that the API sends."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


class Change(NamedTuple):
    """One entry of the history."""

    version: int
    plural: str
    kind: str  # ADDED, MODIFIED, DELETED
    value: Object
    before: Optional[Object]


def now() -> str:
    """The time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def dig(value: Any, path: str) -> Any:
    """A field by its dotted path, None where it is absent."""
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def label_test(selector: str) -> Callable[[Mapping[str, str]], bool]:
    """A label selector as a function."""
    tests: List[Callable[[Mapping[str, str]], bool]] = []
    for part in re.split(r",(?![^(]*\))", selector) if selector else []:
        found = re.match(r"\s*(!?)([^\s=!()]+)\s*(?:(==?|!=)\s*([^\s]*)|(in|notin)\s*\(([^)]*)\))?\s*\Z", part)
        if not found:
            raise Problem(400, "BadRequest", "unable to parse requirement: %s" % part)
        tests.append(_label_test(*found.groups()))
    return lambda labels: all(test(labels) for test in tests)


def _label_test(
    absent: str, key: str, operator: Optional[str], value: Optional[str], sets: Optional[str], values: Optional[str]
) -> Callable[[Mapping[str, str]], bool]:
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    if sets:
        words = {word.strip() for word in (values or "").split(",")}
        return lambda labels: (labels.get(key) in words) == (sets == "in")
    return lambda labels: (key in labels) != bool(absent)


def field_test(selector: str) -> Callable[[Object], bool]:
    """A field selector as a function."""
    wanted = [part.replace("==", "=").partition("=") for part in selector.split(",") if part]
    return lambda value: all((str(dig(value, key.rstrip("!")) or "") == text) != key.endswith("!") for key, dummy, text in wanted)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _list_key(*lists: Any) -> str:
    """The key by which the entries of a list are told apart; "" for a list that is replaced as a whole."""
    entries = [entry for values in lists for entry in values or []]
    for key in ("uid", "name", "containerPort", "mountPath", "type"):
        if entries and all(isinstance(entry, dict) and key in entry for entry in entries):
            return key
    return ""


def strategic(target: Any, patch: Any) -> Any:
    """Merge with lists of named entries merged by their name; what apply and the strategic patch have in common."""
    if isinstance(patch, list):
        key = _list_key(target if isinstance(target, list) else [], patch)
        if not key or not isinstance(target, list):
            return copy.deepcopy(patch)
        result = {entry[key]: entry for entry in target}
        for entry in patch:
            result[entry[key]] = strategic(result.get(entry[key], {}), entry)
        return list(result.values())
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value)
    return merged


def leaves(value: Any, path: Tuple[str, ...] = ()) -> Dict[Tuple[str, ...], Any]:
    """{path: leaf} of an object, lists as leaves."""
    if isinstance(value, dict) and value:
        found: Dict[Tuple[str, ...], Any] = {}
        for key, entry in value.items():
            found.update(leaves(entry, (*path, key)))
        return found
    return {path: value}


def without(value: Any, path: Tuple[str, ...]) -> None:
    """Take a leaf out, in place."""
    for part in path[:-1]:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value.pop(path[-1], None)


class Store:
    """All objects. Every change gets the next version and is told to whoever waits."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 100
        self.oldest = 100  # watches from before this are Gone
        self.objects: Dict[str, Dict[Tuple[str, str], Object]] = {plural: {} for plural in KINDS}
        self.history: List[Change] = []
        self.quotas: Dict[str, int] = {}  # plural -> how many a namespace may have, as a ResourceQuota says it
        self.applied: Dict[Tuple[str, str, str], Dict[str, Object]] = {}  # object -> manager -> what it applied last
        self.put("namespaces", {"metadata": {"name": "default"}})

    # -- reading -------------------------------------------------------------------------------------------------------------------

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """A copy of one object."""
        with self.changed:
            found = self.objects[plural].get((namespace, name))
            if found is None:
                raise Problem(404, "NotFound", '%s "%s" not found' % (plural, name), {"name": name, "kind": plural})
            return copy.deepcopy(found)

    def list(self, plural: str, namespace: str = "", labels: str = "", fields: str = "") -> List[Object]:
        """Copies of the objects that match."""
        label, field = label_test(labels), field_test(fields)
        with self.changed:
            found = [value for (place, dummy), value in sorted(self.objects[plural].items()) if not namespace or place == namespace]
            return [copy.deepcopy(value) for value in found if label(value["metadata"].get("labels") or {}) and field(value)]

    def compact(self) -> None:
        """Forget the history: every watch from here on that asks for an older version is Gone."""
        with self.changed:
            self.oldest, self.history = self.version, []
            self.changed.notify_all()

    # -- writing -------------------------------------------------------------------------------------------------------------------

    def put(self, plural: str, value: Object, kind: str = "") -> Object:
        """Keep an object, new or changed; what stays the same is no change."""
        with self.changed:
            value = copy.deepcopy(value)
            metadata = value["metadata"]
            place = (str(metadata.get("namespace") or "") if KINDS[plural][2] else "", str(metadata["name"]))
            known = self.objects[plural].get(place)
            value["apiVersion"], value["kind"] = KINDS[plural][0], KINDS[plural][1]
            if known is None:
                metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
            else:
                for key in ("uid", "creationTimestamp"):
                    metadata[key] = known["metadata"][key]
                metadata["resourceVersion"] = known["metadata"]["resourceVersion"]
                if value == known:
                    return copy.deepcopy(known)
                changed = value.get("spec") != known.get("spec")
                metadata["generation"] = int(known["metadata"].get("generation", 1)) + int(changed)
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            self.objects[plural][place] = value
            self._tell(Change(self.version, plural, "MODIFIED" if known else "ADDED", value, known))
            return copy.deepcopy(value)

    def _tell(self, change: Change) -> None:
        self.history.append(change)
        if len(self.history) > 20000:
            self.oldest = self.history[5000].version
            del self.history[:5001]
        self.changed.notify_all()

    def create(self, plural: str, namespace: str, value: Object) -> Object:
        """A new object; one that is there is a conflict."""
        with self.changed:
            value = copy.deepcopy(value)
            metadata = value.setdefault("metadata", {})
            if KINDS[plural][2]:
                metadata["namespace"] = namespace
                if ("", namespace) not in self.objects["namespaces"]:
                    raise Problem(404, "NotFound", 'namespaces "%s" not found' % namespace)
            if not metadata.get("name"):
                metadata["name"] = str(metadata.get("generateName") or "") + uuid.uuid4().hex[:5]
            if not re.match(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z", metadata["name"]) or len(metadata["name"]) > 253:
                raise Problem(422, "Invalid", '%s "%s" is invalid: metadata.name' % (plural, metadata["name"]))
            if (metadata.get("namespace", ""), metadata["name"]) in self.objects[plural]:
                raise Problem(409, "AlreadyExists", '%s "%s" already exists' % (plural, metadata["name"]))
            self._check_quota(plural, metadata)
            return self.put(plural, value)

    def _check_quota(self, plural: str, metadata: Object) -> None:
        used = sum(1 for place, dummy in self.objects[plural] if place == metadata.get("namespace"))
        if plural not in self.quotas or used < self.quotas[plural]:
            return
        resource = plural + ("." + KINDS[plural][0].rpartition("/")[0] if "/" in KINDS[plural][0] else "")
        text = '%s "%s" is forbidden: exceeded quota: team, requested: count/%s=1, used: count/%s=%d, limited: count/%s=%d'
        limit = self.quotas[plural]
        raise Problem(403, "Forbidden", text % (resource, metadata["name"], resource, resource, used, resource, limit), {"kind": plural})

    def update(self, plural: str, namespace: str, name: str, change: Callable[[Object], Optional[Object]], status: bool = False) -> Object:
        """Change one object by a function of it (which returns it, or None when it changed its argument)."""
        with self.changed:
            known = self.get(plural, namespace, name)
            wanted = copy.deepcopy(known)
            wanted = change(wanted) or wanted
            given = str((wanted.get("metadata") or {}).get("resourceVersion") or "")
            if given and given != known["metadata"]["resourceVersion"]:
                raise Problem(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
            if status:
                wanted = dict(known, status=wanted.get("status", {}))
            elif known.get("status") is not None:
                wanted["status"] = known["status"]
            self._check_immutable(known, wanted)
            wanted["metadata"].update(name=name, namespace=namespace) if namespace else wanted["metadata"].update(name=name)
            return self.put(plural, wanted)

    @staticmethod
    def _check_immutable(known: Object, wanted: Object) -> None:
        for field in _IMMUTABLE.get(known["kind"], ()):
            if field in (known.get("spec") or {}) and (wanted.get("spec") or {}).get(field) != known["spec"][field]:
                raise Problem(422, "Invalid", "spec.%s: field is immutable" % field)

    def apply(self, plural: str, namespace: str, name: str, value: Object, manager: str, force: bool) -> Tuple[Object, bool]:
        """Server-side apply; (object, whether it is new). A field that another manager applied with another value is a conflict."""
        with self.changed:
            place = (plural, namespace, name)
            managers = self.applied.setdefault(place, {})
            wanted = {key: entry for key, entry in copy.deepcopy(value).items() if key not in ("apiVersion", "kind", "status")}
            wanted.setdefault("metadata", {})["name"] = name
            new = (namespace if KINDS[plural][2] else "", name) not in self.objects[plural]
            if new:
                managers.clear()
                made = self.create(plural, namespace, wanted)
                managers[manager] = wanted
                return made, True
            self._check_owners(managers, manager, wanted, force)
            before = managers.get(manager) or {}
            gone = set(leaves(before)) - set(leaves(wanted))

            def change(known: Object) -> Object:
                for path in gone:
                    without(known, path)
                merged: Object = strategic(known, wanted)
                return merged

            made = self.update(plural, namespace, name, change)
            managers[manager] = wanted
            return made, False

    @staticmethod
    def _check_owners(managers: Dict[str, Object], manager: str, wanted: Object, force: bool) -> None:
        mine = leaves(wanted)
        for other, applied in list(managers.items()):
            theirs = leaves(applied) if other != manager else {}
            fought = [path for path, entry in mine.items() if path in theirs and theirs[path] != entry]
            if fought and not force:
                text = 'Apply failed with %d conflict: conflict with "%s": .%s' % (len(fought), other, ".".join(fought[0]))
                raise Problem(409, "Conflict", text)
            for path in fought:
                without(applied, path)

    def delete(self, plural: str, namespace: str, name: str, uid: str = "") -> Object:
        """Take an object away, and what it owns."""
        with self.changed:
            known = self.get(plural, namespace, name)
            if uid and known["metadata"]["uid"] != uid:
                raise Problem(409, "Conflict", "the UID in the precondition (%s) does not match" % uid)
            del self.objects[plural][(namespace if KINDS[plural][2] else "", name)]
            self.applied.pop((plural, namespace, name), None)
            self.version += 1
            known["metadata"]["resourceVersion"] = str(self.version)
            self._tell(Change(self.version, plural, "DELETED", known, known))
            return known

    def orphans(self) -> List[Tuple[str, Object]]:
        """Objects that have owners, none of which is there: what the garbage collector takes."""
        with self.changed:
            alive = {value["metadata"]["uid"] for values in self.objects.values() for value in values.values()}
            found = []
            for plural, values in self.objects.items():
                for value in values.values():
                    owners = value["metadata"].get("ownerReferences") or []
                    if owners and not any(owner.get("uid") in alive for owner in owners):
                        found.append((plural, copy.deepcopy(value)))
            return found

    def since(self, version: int, plural: str) -> List[Change]:
        """The history after a version; Problem 410 when it is forgotten."""
        if version < self.oldest:
            raise Problem(410, "Expired", "too old resource version: %d (%d)" % (version, self.oldest))
        low, high = 0, len(self.history)
        while low < high:
            middle = (low + high) // 2
            if self.history[middle].version <= version:
                low = middle + 1
            else:
                high = middle
        return [change for change in self.history[low:] if change.plural == plural]
