# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until it is time to ask the hosts of a campaign again; one sleeping step for the whole play, so that no host holds a fork."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.results import monitor
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import store  # noqa: F401  # pylint: disable=unused-import  # see below
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.report import make  # noqa: F401  # pylint: disable=unused-import

# What a play does with its results is loaded here, while the runs go on: it takes a third of a second, and nobody wants to wait for that later.

ARGUMENTS: dict[str, t.Any] = {
    "campaign_dir": {"type": "path", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "polls": {"type": "dict", "default": {}},
    "state": {"type": "dict", "default": {}},
    "contact_timeout": {"type": "int", "default": 600},
    "max_failures": {"type": "str", "default": ""},
}


class ActionModule(ControllerAction):
    """One round of waiting. All decisions are in module_utils/results/monitor.py."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the new state; sleep for its delay unless the task runs in check mode. Without a state it begins: the hosts have just been started."""
        state = self._next_round(arguments) if arguments["state"] else monitor.begin(arguments["hosts"], arguments["polls"], time.time())
        return {"changed": False, "campaign_dir": arguments["campaign_dir"], "monitor": state}

    def _next_round(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        if args["state"]["finished"]:  # one of the rounds that the include level still has
            return dict(args["state"])
        limit = None
        if args["max_failures"].strip():  # the plan of a thousand runs is long
            limit = monitor.failure_limit(args["max_failures"], len(Campaign(args["campaign_dir"]).plan()["runs"]))
        forks = int(self.variables.get("ansible_forks") or 0)
        state = monitor.advance(args["state"], args["polls"], time.time(), args["contact_timeout"], limit, forks)
        if not self.check:
            time.sleep(state["delay"])
        return monitor.ask(state, time.time())
