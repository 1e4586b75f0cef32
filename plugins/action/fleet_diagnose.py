# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the bad hosts of a campaign, and keep the file of those in quarantine; runs on the controller, once a play."""

from __future__ import annotations

import json
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.action.model_info import put
from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.plugin_utils.judge import diagnosed, kept
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["diagnosed", "released"], "default": "diagnosed"},
    "results": {"type": "path", "default": "results"},
    "database_url": {"type": "str"},
    "candidate": {"type": "raw"},
    "same_within": {"type": "raw"},
    "better": {"type": "raw"},
    "rules": {"type": "path"},
    "quarantine": {"type": "path"},
    "hosts": {"type": "raw"},
    "output": {"type": "path"},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Arguments in, plugin_utils/judge/diagnosed.py, documented values out."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return what RETURN of the module's documentation names."""
        result = super().run(tmp, task_vars)
        _spec, arguments = self.validate_argument_spec(ARGUMENTS)
        try:
            work = self._released if arguments["state"] == "released" else self._diagnosed
            result.update(work(arguments, not self._task.check_mode))
            result["warnings"] = slips(task_vars or {}) + result.get("warnings", [])
        except MadError as error:
            raise AnsibleActionFail(error.message) from error
        except OSError as error:
            raise AnsibleActionFail("%s: %s" % (error.filename, error.strerror)) from error
        if not self._task.diff:
            result.pop("diff", None)
        return result

    @staticmethod
    def _released(arguments: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
        names = scalars.to_list(arguments["hosts"], "hosts")
        if not names or not arguments["quarantine"]:
            raise InvalidInput("state released: name the hosts (or all) and the quarantine file")
        return diagnosed.released(arguments["quarantine"], names, write)

    @staticmethod
    def _diagnosed(arguments: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
        answer = diagnosed.diagnose(arguments)
        found: dict[str, t.Any] = {"changed": False, "hosts": answer.hosts, "counts": answer.counts, "lines": answer.lines}
        found.update(candidate=answer.source, reasons=answer.reasons, bad=sorted(answer.reasons))
        found["changed"], unwritten = kept.keep_diagnosis(answer.folders, kept.diagnosis(answer), write)
        if arguments["quarantine"]:
            file = diagnosed.quarantined(arguments["quarantine"], answer.reasons, write)
            found.update({name: file[name] for name in ("added", "quarantined", "diff")}, changed=found["changed"] or file["changed"])
        if arguments["output"]:
            written = put(arguments["output"], json.dumps(answer.hosts, indent=2, ensure_ascii=False) + "\n", not write)
            found.update(changed=found["changed"] or written["changed"], output=arguments["output"])
        if answer.warnings or unwritten:
            found["warnings"] = answer.warnings + unwritten
        if arguments["show"] and "json" not in C.config.get_config_value("DEFAULT_STDOUT_CALLBACK"):
            Display().display("\n".join(answer.lines))
        return found
