# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close the ledger of a campaign and write its results; runs on the controller, once a play."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import summary as summaries
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


class ActionModule(ActionBase):
    """Arguments in, plugin_utils/store.py, documented values out."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return what RETURN of the module's documentation names."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(ARGUMENTS)
        check = bool(self._task.check_mode)
        try:
            campaign = Campaign(args["campaign_dir"])
            if check and not campaign.exists():
                return {"changed": False, "skipped": True, "msg": "check mode: there is no campaign %s yet" % campaign.name}
            answer = store(campaign, _options(args, not check))
        except MadError as error:
            raise AnsibleActionFail(error.message) from error
        if args["show"]:
            Display().display("\n".join(answer.lines))
        return _returned(campaign, answer)


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
