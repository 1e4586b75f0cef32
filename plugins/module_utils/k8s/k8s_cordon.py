# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordoning nodes with a reason, and uncordoning exactly those: what somebody else cordoned is never touched.

An annotation alone proves nothing, as it outlives somebody's `kubectl uncordon` and `kubectl cordon`: the API server must also name us as who set
`spec.unschedulable` last (managedFields). What runs on a node goes on.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, Sequence

from ..base.drains import Change, named, reason
from ..base.errors import MadError
from .k8s_client import MANAGER, Api, ApiError

REASON, CAMPAIGN, BY, AT = ("mad.engine/cordon-" + word for word in ("reason", "campaign", "by", "at"))
RIGHTS = (("list", "nodes"), ("get", "nodes"), ("patch", "nodes"))
_TRIES = 10  # a node that changes while it is changed is looked at again

Object = Mapping[str, Any]


def check_rights(api: Api) -> None:
    """One error that names every right that is missing."""
    missing = ["%s %s" % right for right in RIGHTS if not api.may(*right)]
    if missing:
        raise MadError("the credentials may not %s; docs/kubernetes.md has the ClusterRole that allows it" % ", ".join(missing), "infra")


def known(api: Api) -> Dict[str, Object]:
    """{name: Node object} of the cluster."""
    return {str(node["metadata"]["name"]): node for node in api.list("nodes")[0]}


def to_cordon(cluster: Mapping[str, Object], wanted: Mapping[str, str]) -> Change:
    """Which of {name: reason} still take pods."""
    change = Change({}, {})
    for name, node in named(cluster, wanted):
        if _is_out(node):
            change.left[name] = "is cordoned already: %s" % _why(node)
        else:
            change.wanted[name] = reason(wanted[name])
    return change


def to_uncordon(cluster: Mapping[str, Object], names: Sequence[str]) -> Change:
    """Which of these were cordoned by us, and by nobody since."""
    change = Change({}, {})
    for name, node in named(cluster, names):
        if not _is_out(node):
            change.left[name] = "is not cordoned"
        elif not (_annotations(node).get(REASON) and _setters(node) == [MANAGER]):
            change.left[name] = "was cordoned by somebody else: %s" % _why(node)
        else:
            change.wanted[name] = str(_annotations(node)[REASON])
    return change


def cordon(api: Api, cluster: Mapping[str, Object], change: Change, campaign: str, who: str) -> None:
    """Do it; a node that somebody else cordons meanwhile is theirs."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for name, why in list(change.wanted.items()):
        annotations = {REASON: why, CAMPAIGN: campaign or None, BY: who, AT: at}
        _patch(api, cluster[name], change, annotations, True, lambda found, name=name, why=why: to_cordon(found, {name: why}))  # type: ignore[misc]


def uncordon(api: Api, cluster: Mapping[str, Object], change: Change) -> None:
    """Give them back to the scheduler, without a trace."""
    nothing = dict.fromkeys((REASON, CAMPAIGN, BY, AT))
    for name in list(change.wanted):
        _patch(api, cluster[name], change, nothing, None, lambda found, name=name: to_uncordon(found, [name]))  # type: ignore[misc]


def _patch(
    api: Api, node: Object, change: Change, annotations: Object, out: Any, decide: Callable[[Mapping[str, Object]], Change]
) -> None:
    """Change a node as it was seen; one that is another one by now is judged again."""
    name = str(node["metadata"]["name"])
    for dummy in range(_TRIES):
        seen = {"resourceVersion": node["metadata"]["resourceVersion"], "annotations": annotations}
        try:
            api.patch("nodes", name, {"metadata": seen, "spec": {"unschedulable": out}})
            return
        except ApiError as error:
            if error.status != 409:
                raise
        node = api.get("nodes", name)
        again = decide({name: node})
        if name in again.left:
            del change.wanted[name]
            change.left[name] = again.left[name]
            return
    raise MadError("node %s changes faster than it can be changed; try again" % name, "infra")


def _is_out(node: Object) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def _annotations(node: Object) -> Object:
    return node["metadata"].get("annotations") or {}


def _setters(node: Object) -> List[str]:
    """Who set `spec.unschedulable`, as the API server keeps it."""
    fields = node["metadata"].get("managedFields") or []
    return [str(entry.get("manager")) for entry in fields if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})]


def _why(node: Object) -> str:
    setters = ", ".join(_setters(node)) or "the API server does not say who did it"
    return str(_annotations(node).get(REASON) or "no reason is given") + " (%s)" % setters
