# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may give `k8s_job`: its action plugin and its module check the same."""

from __future__ import annotations

from typing import Any, Dict

from ..host.arguments import COMMON, PATIENCE

# Of a single Job, outside of campaigns.
SINGLE: Dict[str, Any] = {
    "definition": {"type": "dict"},
    "owned": {"type": "list", "elements": "dict", "default": [], "no_log": False},  # the module masks the values of Secrets
    "name": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": ""},
    "kubeconfig": {"type": "str", "default": ""},
    "context": {"type": "str", "default": ""},
    "in_cluster": {"type": "bool", "default": False},
}
ARGUMENTS: Dict[str, Any] = dict(
    COMMON,
    **SINGLE,
    state={"type": "str", "default": "present", "choices": ["present", *COMMON["state"]["choices"]]},
    wait={"type": "int"},
    patience=PATIENCE,
)
