# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what differs between two rows; runs on the controller and touches no host."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.history import explain, past
from ansible_collections.mad.engine.plugins.plugin_utils.history.place import database_url
from ansible_collections.mad.engine.plugins.plugin_utils.perf_files import write_if_changed
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

ARGUMENTS: dict[str, t.Any] = {
    "baseline": {"type": "str", "required": True},
    "candidate": {"type": "str", "required": True},
    "campaign": {"type": "str", "default": ""},
    "results": {"type": "path", "default": "results"},
    "database_url": {"type": "str", "default": ""},
    "output": {"type": "path", "default": ""},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/history/explain.py, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Say it, and what was mistyped."""
        return {**self._explain(arguments), "warnings": slips(self.variables)}

    def _explain(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        url = database_url(args["results"], args["database_url"])
        for name in ("baseline", "candidate"):
            if not args[name].strip():
                raise InvalidInput("mad_%s is not set: name a run by its id (or CAMPAIGN/ID); perf.csv has it in the column run_id" % name)
        baseline, candidate = (
            past.find(args["results"], url, args[name], args["campaign"], "mad_" + name) for name in ("baseline", "candidate")
        )
        found = explain.explain(baseline, candidate)
        shown = explain.lines(baseline, candidate, found)
        changed = False
        if args["output"]:
            text = json.dumps(explain.plain(found), indent=2, ensure_ascii=False) + "\n"
            path = os.path.abspath(os.path.expanduser(args["output"]))
            changed = write_if_changed(path, text.encode("utf-8", "replace"), not self.check)
        if args["show"]:
            say("\n".join(shown))
        return {"changed": changed, "differences": explain.plain(found), "lines": shown}
