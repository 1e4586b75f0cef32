# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the bad hosts of a campaign, and keep the file of those in quarantine; runs on the controller, once a play."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction, put
from ansible_collections.mad.engine.plugins.plugin_utils.judge import diagnosed, kept
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

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


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/judge/diagnosed.py, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do one state's work, and print what it says."""
        work = self._released if arguments["state"] == "released" else self._diagnosed
        result = work(arguments, not self.check)
        result["warnings"] = slips(self.variables) + result.get("warnings", [])
        return result

    @staticmethod
    def _released(arguments: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
        names = scalars.to_list(arguments["hosts"], "hosts")
        if not names or not arguments["quarantine"]:
            raise InvalidInput("state released: name the hosts (or all) and the quarantine file")
        return diagnosed.released(arguments["quarantine"], names, write)

    def _diagnosed(self, arguments: dict[str, t.Any], write: bool) -> dict[str, t.Any]:
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
        if arguments["show"]:
            say("\n".join(answer.lines))
        return found
