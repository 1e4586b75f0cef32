# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module of single Jobs refuses before it asks a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_single


@pytest.mark.parametrize(
    "definition, words",
    [
        ([], "a Job with metadata and spec was expected"),
        ({"metadata": {"name": "x"}}, "a Job with metadata and spec was expected"),
        ({"metadata": ["name"], "spec": {}}, "definition.metadata: expected a dict, not a list"),
        ({"metadata": {"name": "x"}, "spec": {}, "kind": "Pod"}, "this module makes Jobs"),
        ({"spec": {}}, "name is missing"),
        ({"metadata": None, "spec": {}}, "name is missing"),
    ],
)
def test_a_definition_that_is_no_job(definition: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        k8s_single.run({"definition": definition, "state": "present", "name": None, "namespace": None}, False)
