# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close the ledger of a campaign and write its results; runs on the controller, once a play."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import summary as summaries
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say
from ansible_collections.mad.engine.plugins.plugin_utils.store import Answer, Options, store

ARGUMENTS: dict[str, t.Any] = {
    "campaign_dir": {"type": "path", "required": True},
    "hosts": {"type": "dict", "default": {}},
    "wait": {"type": "bool", "default": True},
    "perf_output": {"type": "path", "default": ""},
    "summary_output": {"type": "path", "default": ""},
    "database_url": {"type": "str", "default": ""},
    "build": {"type": "dict"},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/store.py, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Store, and print the table."""
        campaign = Campaign(arguments["campaign_dir"])
        if self.check and not campaign.exists():
            return {"changed": False, "skipped": True, "msg": "check mode: there is no campaign %s yet" % campaign.name}
        stored = store(campaign, _options(arguments, not self.check))
        if arguments["show"]:
            say("\n".join(stored.lines))
        return _returned(campaign, stored)


def _options(args: t.Mapping[str, t.Any], write: bool) -> Options:
    return Options(
        hosts=args["hosts"],
        wait=args["wait"],
        perf_output=args["perf_output"],
        summary_output=args["summary_output"],
        database_url=args["database_url"],
        builds=args["build"],
        write=write,
    )


def _returned(campaign: Campaign, answer: Answer) -> dict[str, t.Any]:
    found, counts = answer.summary, answer.summary["counts"]
    done = counts["success"] + counts["failure"] + counts["skipped"]
    states = {key: counts[key] for key in ("success", "failure", "skipped")}
    return {
        "changed": answer.changed,
        "campaign": campaign.name,
        "campaign_dir": campaign.folder,
        "counts": {"total": counts["planned"], "done": done, **states, "running": counts["pending"], "queued": 0},
        "exit_code": found["exit_code"],
        "message": summaries.message(found),
        "table": campaign.perf_path,
        "lines": answer.lines,
        "summary": campaign.summary_path,
        "resume_command": found["resume_command"],
        "mad_summary": summaries.small(found),
        "warnings": answer.warnings,
    }
