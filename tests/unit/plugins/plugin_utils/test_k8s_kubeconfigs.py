# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several kubeconfigs by the official client: here, not beside the core's tests, which also run on Pythons that have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_client


def test_several_kubeconfigs_are_merged_as_kubectl_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file that says something wins; one may name a context whose cluster and user stand in others."""

    def write(name: str, **parts: Any) -> str:
        (tmp_path / name).write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **parts}), "utf-8")
        return str(tmp_path / name)

    def named(kind: str, name: str, **value: str) -> dict[str, Any]:
        return {"name": name, kind: value}

    (tmp_path / "empty").touch()
    users = write("users", users=[named("user", "me", token="mine")])
    first = write("first", contexts=[named("context", "a", cluster="c", user="me")], clusters=[named("cluster", "c", server="http://c1")])
    second = write("second", **{"current-context": "a", "clusters": [named("cluster", "c", server="http://c2"), named("cluster", "d", server="http://d")]})
    third = write("third", **{"current-context": "b", "contexts": [named("context", "b", cluster="d", user="me")]})
    paths = ":".join([str(tmp_path / "absent"), str(tmp_path / "empty"), users, first, second, third])
    monkeypatch.setenv("KUBECONFIG", paths)
    for connection, server in (
        (k8s_client.Connection(), "http://c1"),
        (k8s_client.Connection(context="b"), "http://d"),
        (k8s_client.Connection(paths), "http://c1"),
    ):
        api = k8s_client.Api(connection)
        assert api._configuration.host == server and api._headers("")["authorization"] == "Bearer mine"
    with pytest.raises(MadError, match="absent.*give k8s.kubeconfig"):
        k8s_client.Api(k8s_client.Connection(str(tmp_path / "absent")))
