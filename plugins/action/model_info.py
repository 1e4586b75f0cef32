# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module model_info: discovery on the controller, without a connection."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.base.files import write_atomic
from ansible_collections.mad.engine.plugins.module_utils.models import discovery

ARGUMENTS: dict[str, Any] = {
    "repo": {"type": "path"},
    "tags": {"type": "list", "elements": "str", "default": []},
    "output": {"type": "path"},
    "cache_dir": {"type": "path"},
    "timeout": {"type": "float", "default": discovery.TIMEOUT},
    "show": {"type": "bool", "default": False},
}

display = Display()


def default_repo() -> str:
    """Where madengine would look: MODEL_DIR, else the current directory."""
    return os.path.expanduser(os.environ.get("MODEL_DIR") or ".")


def default_cache() -> str:
    """The user's cache folder for discovery."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "mad.engine", "discovery")


def as_json(models: list[dict[str, Any]]) -> str:
    """The models as madengine prints them: JSON, indented by four."""
    return json.dumps(models, indent=4, ensure_ascii=False)


def as_list(names: list[str]) -> str:
    """The names for a person."""
    return "\n".join(["Available models (%d total)" % len(names), *("  " + name for name in names)])


def put(path: str, text: str, check: bool) -> dict[str, Any]:
    """Bring a file to this text, atomically and only if it differs; {"changed", "diff"}."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InvalidInput("output: %s exists and is not a regular file" % path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InvalidInput("output: the directory %s does not exist; make it first" % folder)
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            before = stream.read()
    except FileNotFoundError:
        before = ""
    changed = before != text
    if changed and not check:
        write_atomic(path, text.encode("utf-8"))
    return {"changed": changed, "diff": {"before": before, "after": text, "before_header": path, "after_header": path}}


class ActionModule(ActionBase):
    """Run discovery, write the answer, print it for a person; each only if asked to."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Run the module."""
        result = super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(ARGUMENTS)
        try:
            result.update(self._answer(arguments))
        except MadError as error:
            raise AnsibleActionFail(error.message) from error
        except OSError as error:
            raise AnsibleActionFail("%s: %s" % (error.filename or arguments["output"], error.strerror)) from error
        return result

    def _answer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The task's result."""
        given = [tag for text in arguments["tags"] for tag in scalars.to_list(text, "tags")]  # Ansible splits at commas, not at line ends
        output, listing = arguments["output"], not given
        tags = ["all"] if listing and output else given
        repo = arguments["repo"] or default_repo()
        found = discovery.discover(repo, tags, arguments["cache_dir"] or default_cache(), arguments["timeout"], frozen=self._task.check_mode)
        models = found["models"]
        names = found["names"] if listing else [model["name"] for model in models]
        result = {"changed": False, "models": [] if listing else models, "names": names, "count": len(names)}
        if output:
            written = put(output, as_json(models) + "\n", self._task.check_mode)
            result.update(changed=written["changed"], output=output)
            if self._task.diff and written["changed"]:
                result["diff"] = written["diff"]
        if found["warnings"]:
            result["warnings"] = found["warnings"]
        if arguments["show"] and "json" not in C.config.get_config_value("DEFAULT_STDOUT_CALLBACK"):  # their output must stay JSON
            display.display(as_list(names) if listing else as_json(models))
        return result
