# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until it is time to ask the hosts of a campaign again; one sleeping step for the whole play, so that no host holds a fork."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.results import monitor
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction

ARGUMENTS: dict[str, t.Any] = {
    "campaign_dir": {"type": "path", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "polls": {"type": "dict", "default": {}},
    "state": {"type": "dict", "default": {}},
    "level": {"type": "bool", "default": False},
    "contact_timeout": {"type": "int", "default": 600},
    "max_failures": {"type": "str", "default": ""},
}


class ActionModule(ControllerAction):
    """One round of waiting. All decisions are in module_utils/results/monitor.py."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the new state; sleep for its delay unless the task runs in check mode."""
        return self._next_level(arguments["state"], arguments) if arguments["level"] else self._next_round(arguments)

    def _next_level(self, state: dict[str, t.Any], args: dict[str, t.Any]) -> dict[str, t.Any]:
        """Say how many rounds the next include level has; the first level also begins the state."""
        if not state.get("hosts"):
            state = monitor.begin(args["hosts"], args["polls"], time.time())
        state = dict(state, rounds=monitor.level_size(state["level"]), level=state["level"] + 1)
        return {"changed": False, "campaign_dir": args["campaign_dir"], "monitor": state}

    def _next_round(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        if args["state"]["finished"]:  # rounds that the level still has
            return {"changed": False, "campaign_dir": args["campaign_dir"], "monitor": args["state"]}
        planned = len(Campaign(args["campaign_dir"]).plan()["runs"])
        limit = monitor.failure_limit(args["max_failures"], planned)
        forks = int(self.variables.get("ansible_forks") or 0)
        state = monitor.advance(args["state"], args["polls"], time.time(), args["contact_timeout"], limit, forks)
        if not self.check:
            time.sleep(state["delay"])
        return {"changed": False, "campaign_dir": args["campaign_dir"], "monitor": monitor.ask(state, time.time())}
