# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes may be cordoned and uncordoned, and what happens when somebody else is at it at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_cordon
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_client import ApiError


def node(name: str, out: bool, reason: str = "", setter: str = "", version: int = 1) -> dict[str, Any]:
    fields = [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}, {"manager": setter, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}]
    metadata: dict[str, Any] = {"name": name, "resourceVersion": str(version), "managedFields": fields if setter else fields[:1]}
    if reason:
        metadata["annotations"] = {k8s_cordon.REASON: reason}
    return {"metadata": metadata, "spec": {"unschedulable": True} if out else {}}


NODES = {
    entry["metadata"]["name"]: entry
    for entry in (
        node("in", False),
        node("ours", True, "mad.engine: slow", "mad.engine"),
        node("theirs", True, "", "kubectl-cordon"),
        node("retaken", True, "mad.engine: slow", "kubectl-cordon"),  # uncordoned by hand, and cordoned again: our annotation outlived it
        node("bare", True, "mad.engine: slow"),  # nobody says who did it
    )
}


def test_what_may_be_cordoned() -> None:
    change = k8s_cordon.to_cordon(NODES, {"in": "slow\n\u2028 fan", "ours": "x", "theirs": "y"})
    assert change.wanted == {"in": "mad.engine: slow fan"} and sorted(change.left) == ["ours", "theirs"]
    assert change.left["theirs"] == "is cordoned already: no reason is given (kubectl-cordon)"
    with pytest.raises(InvalidInput, match="no node 'nowhere'"):
        k8s_cordon.to_cordon(NODES, {"nowhere": "x", "in": "y"})


def test_what_may_be_given_back() -> None:
    change = k8s_cordon.to_uncordon(NODES, sorted(NODES))
    assert change.wanted == {"ours": "mad.engine: slow"} and change.left["in"] == "is not cordoned"
    assert all("by somebody else" in change.left[name] for name in ("theirs", "retaken", "bare"))


class Busy:
    """An API server whose node is `now` when the patch comes."""

    def __init__(self, *now: dict[str, Any]) -> None:
        self.now, self.patched = list(now), []  # type: ignore[var-annotated]

    def patch(self, resource: str, name: str, change: dict[str, Any]) -> None:
        if self.now and change["metadata"]["resourceVersion"] != self.now[0]["metadata"]["resourceVersion"]:
            raise ApiError("the object has been modified", 409)
        self.patched.append(change)

    def get(self, resource: str, name: str) -> dict[str, Any]:
        return self.now[0]


def test_a_node_that_changed_meanwhile_is_judged_again() -> None:
    change, api = k8s_cordon.to_cordon(NODES, {"in": "slow"}), Busy(node("in", False, version=7))
    k8s_cordon.cordon(api, NODES, change, "nightly", "me@here")  # type: ignore[arg-type]
    (done,) = api.patched
    assert done["spec"] == {"unschedulable": True} and done["metadata"]["resourceVersion"] == "7"
    assert done["metadata"]["annotations"][k8s_cordon.CAMPAIGN] == "nightly" and done["metadata"]["annotations"][k8s_cordon.BY] == "me@here"
    change, api = k8s_cordon.to_cordon(NODES, {"in": "slow"}), Busy(node("in", True, setter="kubectl-cordon", version=7))
    k8s_cordon.cordon(api, NODES, change, "", "me")  # type: ignore[arg-type]
    assert not api.patched and not change.wanted and "kubectl-cordon" in change.left["in"]
    change, api = k8s_cordon.to_uncordon(NODES, ["ours"]), Busy(node("ours", True, "mad.engine: slow", "kubectl-cordon", version=7))
    k8s_cordon.uncordon(api, NODES, change)  # type: ignore[arg-type]
    assert not api.patched and list(change.left) == ["ours"]


def test_a_node_that_never_rests_is_an_error() -> None:
    class Restless(Busy):
        def get(self, resource: str, name: str) -> dict[str, Any]:
            return node("in", False, version=int(super().get(resource, name)["metadata"]["resourceVersion"]) - 1)

    change = k8s_cordon.to_cordon(NODES, {"in": "slow"})
    with pytest.raises(MadError, match="node in changes faster"):
        k8s_cordon.cordon(Restless(node("in", False, version=7)), NODES, change, "", "me")  # type: ignore[arg-type]
