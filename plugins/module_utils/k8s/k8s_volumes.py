# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`k8s.volumes`, `k8s.data_pvc` and `k8s.results_pvc`: from the words of the context to a pod's volumes and mounts."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from . import k8s_checks as checks

OURS = "mad-"  # prefix of the names of our own volumes
TAKEN = ("/myworkspace", "/.mad", "/.mad-files", "/.mad-secrets", "/dev/shm", "/dev/termination-log")
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod")

_COMMON = {"name", "type", "mount_path", "sub_path", "read_only"}
# type: ({our key: its check}, keys that must be there)
_TYPES: Mapping[str, Tuple[Mapping[str, Callable[[Any, str], Any]], Tuple[str, ...]]] = {
    "pvc": ({"claim_name": checks.object_name}, ("claim_name",)),
    "configmap": ({"config_name": checks.object_name}, ("config_name",)),
    "secret": ({"secret_name": checks.object_name}, ("secret_name",)),
    "hostPath": ({"path": checks.path, "path_type": checks.line}, ("path",)),
    "emptyDir": ({"medium": checks.line, "size_limit": checks.quantity}, ()),
    "nfs": ({"server": checks.line, "path": checks.path}, ("server", "path")),
}
_SPELLINGS = {
    "persistentvolumeclaim": "pvc",
    "config_map": "configmap",
    "hostpath": "hostPath",
    "host_path": "hostPath",
    "emptydir": "emptyDir",
    "empty_dir": "emptyDir",
}
_KEYS = {"configmap_name": "config_name", "host_path": "path", "host_path_type": "path_type", "claim": "claim_name"}


class Claim(NamedTuple):
    """A PersistentVolumeClaim that pods mount; with `create` it is made, and never removed by us."""

    claim_name: str
    mount_path: str
    create: bool
    size: str
    storage_class: str
    access_mode: str


def parse(value: Any, key: str) -> Tuple[Dict[str, Any], ...]:
    """Checked entries of `volumes`, each with every key of its type."""
    if not isinstance(value, (list, tuple)):
        raise scalars.wrong(key, "a list of volumes", value)
    found = [_entry(item, "%s[%d]" % (key, index)) for index, item in enumerate(value)]
    for what in ("name", "mount_path"):
        names = [entry[what] for entry in found]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise InvalidInput("%s: two volumes have the %s %s" % (key, what, double[0]))
    return tuple(found)


def _entry(item: Any, key: str) -> Dict[str, Any]:
    if not isinstance(item, Mapping):
        raise scalars.wrong(key, "a dict with name, type, mount_path", item)
    given = {_KEYS.get(str(name), str(name)): value for name, value in item.items()}
    kind = checks.line(given.get("type", ""), key + ".type")
    kind = _SPELLINGS.get(kind.lower(), kind)
    if kind not in _TYPES:
        raise scalars.wrong(key + ".type", "one of %s" % ", ".join(_TYPES), given.get("type"))
    own, needed = _TYPES[kind]
    for name in given:
        if name not in own and name not in _COMMON:
            raise InvalidInput("%s.%s is not known for type %s%s" % (key, name, kind, checks.hint(name, [*own, *_COMMON])))
    for name in ("name", "mount_path", *needed):
        if scalars.is_unset(given.get(name)):
            raise InvalidInput("%s: %s is missing (type %s needs %s)" % (key, name, kind, ", ".join(("name", "mount_path", *needed))))
    entry = {name: check(given[name], "%s.%s" % (key, name)) for name, check in own.items() if not scalars.is_unset(given.get(name))}
    entry.update(
        name=checks.dns_label(given["name"], key + ".name"),
        type=kind,
        mount_path=mount_path(given["mount_path"], key + ".mount_path"),
        sub_path=checks.sub_path(given.get("sub_path") or "", key + ".sub_path"),
        read_only=scalars.to_bool(given.get("read_only", False), key + ".read_only"),
    )
    if entry["name"].startswith(OURS):
        raise InvalidInput("%s.name: names that begin with %s are ours" % (key, OURS))
    return entry


def mount_path(value: Any, key: str) -> str:
    """Where something is mounted; what the run itself needs is refused."""
    text = checks.path(value, key)
    if text == "/" or any(text == taken or text.startswith(taken + "/") for taken in TAKEN):
        raise InvalidInput("%s: %s hides what the run needs (%s); mount at another path" % (key, text, ", ".join(TAKEN)))
    return text


def claim(value: Any, key: str, default: Claim) -> Claim:
    """`data_pvc`, `results_pvc`: the name of a claim that exists, or {claim_name, create, size, storage_class, access_mode, mount_path}."""
    given: Mapping[str, Any] = {"claim_name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise scalars.wrong(key, "the name of a claim, or a dict with claim_name", value)
    for name in given:
        if name not in Claim._fields:
            raise InvalidInput("%s.%s is not known%s" % (key, name, checks.hint(str(name), Claim._fields)))
    known = {name: item for name, item in given.items() if not scalars.is_unset(item)}
    if "claim_name" not in known:
        raise InvalidInput("%s: claim_name is missing: the name of a PersistentVolumeClaim" % key)
    made = default._replace(**known)
    create = scalars.to_bool(made.create, key + ".create")
    for name in ("size", "storage_class", "access_mode"):
        if name in known and not create:
            raise InvalidInput("%s.%s says how a claim is made; write create: true as well, or leave it out" % (key, name))
    return Claim(
        checks.object_name(made.claim_name, key + ".claim_name"),
        mount_path(made.mount_path, key + ".mount_path"),
        create,
        checks.quantity(made.size, key + ".size"),
        checks.line(made.storage_class, key + ".storage_class"),
        checks.choice(made.access_mode, key + ".access_mode", ACCESS_MODES),
    )


def source(entry: Mapping[str, Any]) -> Dict[str, Any]:
    """The volume of a pod for one checked entry."""
    kind = entry["type"]
    if kind == "pvc":
        body: Dict[str, Any] = {"persistentVolumeClaim": {"claimName": entry["claim_name"]}}
    elif kind == "configmap":
        body = {"configMap": {"name": entry["config_name"]}}
    elif kind == "secret":
        body = {"secret": {"secretName": entry["secret_name"]}}
    elif kind == "hostPath":
        body = {"hostPath": _present(path=entry["path"], type=entry.get("path_type"))}
    elif kind == "nfs":
        body = {"nfs": _present(server=entry["server"], path=entry["path"], readOnly=entry["read_only"])}
    else:
        body = {"emptyDir": _present(medium=entry.get("medium"), sizeLimit=entry.get("size_limit"))}
    return dict({"name": entry["name"]}, **body)


def mount(entry: Mapping[str, Any]) -> Dict[str, Any]:
    """The mount of one checked entry."""
    return dict(
        {"name": entry["name"], "mountPath": entry["mount_path"]}, **_present(subPath=entry["sub_path"], readOnly=entry["read_only"])
    )


def host_paths(mounts: List[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """`docker_mounts` of a run: the same paths of the node that runs the pod."""
    return [
        {
            "name": "%shost-%d" % (OURS, number),
            "type": "hostPath",
            "path": checks.path(str(entry["source"]), "docker_mounts"),
            "mount_path": mount_path(str(entry["target"]), "docker_mounts"),
            "sub_path": "",
            "read_only": bool(entry.get("read_only")),
        }
        for number, entry in enumerate(mounts)
    ]


def of_claim(wanted: Claim, name: str) -> Dict[str, Any]:
    """A claim as an entry of `volumes`."""
    return {
        "name": OURS + name,
        "type": "pvc",
        "claim_name": wanted.claim_name,
        "mount_path": wanted.mount_path,
        "sub_path": "",
        "read_only": wanted.access_mode == "ReadOnlyMany",
    }


def _present(**values: Any) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if value}
