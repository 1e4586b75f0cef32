# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`k8s.patch`: a strategic merge patch over the Job, and the fields that no patch may change."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..base.errors import InvalidInput

# Lists that are merged by a key of their items, as the API server does; every other list is replaced.
_MERGE_KEYS: Mapping[str, Tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "port"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
    "resourceClaims": ("name",),
}
# With another value here a run could not be found, would be run twice, or its end could not be read.
_OURS = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("spec", "suspend"),
    ("spec", "completions"),
    ("spec", "parallelism"),
    ("spec", "completionMode"),
    ("spec", "backoffLimit"),
    ("spec", "podReplacementPolicy"),
    ("spec", "podFailurePolicy"),
    ("spec", "successPolicy"),
    ("spec", "ttlSecondsAfterFinished"),
    ("spec", "selector"),
    ("spec", "manualSelector"),
    ("spec", "template", "spec", "restartPolicy"),
    ("spec", "template", "spec", "subdomain"),
)


def merge(base: Any, patch: Any, key: str = "k8s.patch") -> Any:
    """Strategic merge: dicts by key (null removes), lists by the merge key of their items, `$patch: delete` and `$patch: replace`."""
    if not isinstance(patch, Mapping) or not isinstance(base, Mapping):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    result: Dict[str, Any] = dict(base)
    for name, value in patch.items():
        where = "%s.%s" % (key, name)
        if name.startswith("$"):
            raise InvalidInput("%s: this directive is not known; $patch: delete and $patch: replace are" % where)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list) and isinstance(result.get(name), list):
            result[name] = _merge_lists(result[name], value, _MERGE_KEYS.get(name, ()), where)
        else:
            result[name] = merge(result.get(name, {}) if isinstance(value, Mapping) else None, value, where)
    return result


def _merge_lists(base: List[Any], patch: List[Any], keys: Tuple[str, ...], where: str) -> List[Any]:
    if not keys or not all(isinstance(item, Mapping) for item in patch):
        return copy.deepcopy(patch)
    if any(item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if item.get("$patch") != "replace"]
    result = list(base)
    for number, item in enumerate(patch):
        key = next((name for name in keys if name in item), None)
        if key is None:
            raise InvalidInput("%s[%d]: %s is missing: it says which item is meant" % (where, number, keys[0]))
        found: Optional[int] = next((index for index, known in enumerate(result) if known.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [known for known in result if known.get(key) != item[key]]
        elif found is None:
            result.append(copy.deepcopy(dict(item)))
        else:
            result[found] = merge(result[found], item, "%s[%d]" % (where, number))
    return result


def _at(tree: Any, path: Tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def apply(job: Mapping[str, Any], patch: Mapping[str, Any], labels: Mapping[str, str], container: str) -> Dict[str, Any]:
    """The patched Job; InvalidInput names a field that is not a patch's to change."""
    result: Dict[str, Any] = merge(job, patch)
    for path in _OURS:
        if _at(result, path) != _at(job, path):
            raise InvalidInput("k8s.patch: %s is set by mad.engine and cannot be patched" % ".".join(path))
    for where in (("metadata", "labels"), ("spec", "template", "metadata", "labels")):
        for name, value in labels.items():
            if (_at(result, where) or {}).get(name) != value:
                raise InvalidInput("k8s.patch: the label %s is set by mad.engine: runs are found again by it" % name)
    for field in ("command", "args", "terminationMessagePath"):
        if _model(result, container).get(field) != _model(job, container).get(field):
            raise InvalidInput("k8s.patch: %s of the container %s is set by mad.engine and cannot be patched" % (field, container))
    return result


def _model(job: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    containers = _at(job, ("spec", "template", "spec", "containers")) or []
    return next((item for item in containers if isinstance(item, Mapping) and item.get("name") == container), {})
