# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the results of two sides; runs on the controller, once a play."""

from __future__ import annotations

import json
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.action.model_info import put
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips

ARGUMENTS: dict[str, t.Any] = {
    "results": {"type": "path", "default": "results"},
    "database_url": {"type": "str"},
    "baseline": {"type": "raw"},
    "candidate": {"type": "raw"},
    "references": {"type": "raw"},
    "same_within": {"type": "raw"},
    "better": {"type": "raw"},
    "repeats_max": {"type": "raw"},
    "fail_on": {"type": "raw"},
    "relative_change": {"type": "bool", "default": True},
    "output": {"type": "path"},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Arguments in, plugin_utils/judge, documented values out."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return what RETURN of the module's documentation names."""
        result = super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(ARGUMENTS)
        check = bool(self._task.check_mode)
        try:
            answer = asked.compare(arguments, write=not check)
            result.update(
                changed=answer.changed, comparisons=answer.entries, counts=answer.counts, lines=answer.lines, message=answer.message
            )
            result.update(baseline=answer.baseline, candidate=answer.candidate)
            if arguments["output"]:
                written = put(arguments["output"], json.dumps(answer.entries, indent=2, ensure_ascii=False) + "\n", check)
                result.update(changed=result["changed"] or written["changed"], output=arguments["output"])
                if self._task.diff and written["changed"]:
                    result["diff"] = written["diff"]
        except MadError as error:
            raise AnsibleActionFail(error.message) from error
        except OSError as error:
            raise AnsibleActionFail("%s: %s" % (error.filename, error.strerror)) from error
        warnings = slips(task_vars or {}) + answer.warnings
        if warnings:
            result["warnings"] = warnings
        if arguments["show"] and "json" not in C.config.get_config_value("DEFAULT_STDOUT_CALLBACK"):
            Display().display("\n".join(answer.lines))
        return result
