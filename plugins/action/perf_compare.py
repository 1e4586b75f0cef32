# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the results of two sides; runs on the controller, once a play."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction, put
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

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


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/judge, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Compare, write it where it was asked for, print it."""
        found = asked.compare(arguments, write=not self.check)
        result = {name: getattr(found, name) for name in ("changed", "counts", "lines", "message", "baseline", "candidate")}
        result.update(comparisons=found.entries, further=list(found.further))
        if arguments["output"]:
            written = put(arguments["output"], json.dumps(found.entries, indent=2, ensure_ascii=False) + "\n", self.check)
            result.update(changed=found.changed or written["changed"], output=arguments["output"])
            if written["changed"]:
                result["diff"] = written["diff"]
        warnings = slips(self.variables) + found.warnings
        if warnings:
            result["warnings"] = warnings
        if arguments["show"]:
            say("\n".join(found.lines))
        return result
