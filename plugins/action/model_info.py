# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module model_info: discovery on the controller, without a connection."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.models import discovery
from ansible_collections.mad.engine.plugins.module_utils.models.discovery_cache import default_cache
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction, put
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

ARGUMENTS: dict[str, Any] = {
    "repo": {"type": "path"},
    "tags": {"type": "list", "elements": "str", "default": []},
    "output": {"type": "path"},
    "cache_dir": {"type": "path"},
    "timeout": {"type": "float", "default": discovery.TIMEOUT},
    "show": {"type": "bool", "default": False},
}


def default_repo() -> str:
    """Where madengine would look: MODEL_DIR, else the current directory."""
    return os.path.expanduser(os.environ.get("MODEL_DIR") or ".")


def as_json(models: list[dict[str, Any]]) -> str:
    """The models as madengine prints them: JSON, indented by four."""
    return json.dumps(models, indent=4, ensure_ascii=False)


def as_list(names: list[str]) -> str:
    """The names for a person."""
    return "\n".join(["Available models (%d total)" % len(names), *("  " + name for name in names)])


class ActionModule(ControllerAction):
    """Run discovery, write the answer, print it for a person; each only if asked to."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The task's result."""
        given = [tag for text in arguments["tags"] for tag in scalars.to_list(text, "tags")]  # Ansible splits at commas, not at line ends
        output, listing = arguments["output"], not given
        tags = ["all"] if listing and output else given
        repo = arguments["repo"] or default_repo()
        found = discovery.discover(repo, tags, arguments["cache_dir"] or default_cache(), arguments["timeout"], frozen=self.check)
        models = found["models"]
        names = found["names"] if listing else [model["name"] for model in models]
        result = {"changed": False, "models": [] if listing else models, "names": names, "count": len(names)}
        if output:
            written = put(output, as_json(models) + "\n", self.check)
            result.update(changed=written["changed"], output=output, **({"diff": written["diff"]} if written["changed"] else {}))
        if found["warnings"]:
            result["warnings"] = found["warnings"]
        if arguments["show"]:
            say(as_list(names) if listing else as_json(models))
        return result
