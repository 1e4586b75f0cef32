# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `slurm_run`: runs as jobs of the cluster whose login node the play's host is."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.host.arguments import COMMON
from ansible_collections.mad.engine.plugins.module_utils.planning import target_slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_options
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_folder import DEFAULT_WORK_DIR
from ansible_collections.mad.engine.plugins.plugin_utils import host_runs, slurm_submitting
from ansible_collections.mad.engine.plugins.plugin_utils.target_action import TargetAction

ARGUMENTS = COMMON
Result = t.Dict[str, t.Any]


class ActionModule(TargetAction):
    """The module answers which attempts wait for a job; scripts are rendered here, where Jinja is, and brought with a second call."""

    TARGET = "slurm"
    MODULE = "mad.engine.slurm_run"
    ARGUMENTS = ARGUMENTS

    def _context_of_host(self) -> t.Mapping[str, t.Any]:
        """The host's context: the plan's, or without a campaign the play's."""
        if self._options["campaign_dir"]:
            return dict(((self._mine.plan.get("hosts") or {}).get(self._mine.host) or {}).get("context") or {})
        return self._context(str(self._vars["inventory_hostname"]))

    def _section(self) -> slurm_options.Options:
        """Its section `slurm`, checked."""
        return target_slurm.options(self._context_of_host())

    def _work_dir(self) -> str:
        return str(self._options["work_dir"]) or self._section().work_dir or DEFAULT_WORK_DIR

    def _words(self, state: str) -> dict[str, t.Any]:
        """Wherever something may be submitted: the context's section."""
        return {"section": self._context_of_host().get("slurm") or {}} if state in ("started", "polled") else {}

    def _start(self, runs: list[host_runs.Run]) -> Result:
        return self._submitted(runs, super()._start(runs))

    def _poll(self, runs: list[host_runs.Run]) -> Result:
        return self._submitted(runs, super()._poll(runs))

    def _submitted(self, runs: list[host_runs.Run], answer: Result) -> Result:
        """Bring scripts for what waits for a job; the first answer with what the second adds."""
        if not answer["waiting"] or self._task.check_mode:
            return answer
        waiting = {entry["run"] for entry in answer["waiting"]}
        resolved, dummy = self._mine.resolve([run for run in runs if run["id"] in waiting])
        section = self._section()
        made = slurm_submitting.make(answer, {run["id"]: run for run in resolved}, section, self._mine.campaign.name)
        for entry in made:
            self._keep_rendered(section.output_dir, "%s.sh" % entry["manifest"]["name"], entry["script"])
        again = self._on_host(self._mine.wanted(runs), live=None, submissions=made, **self._words("started"))
        again["changed"] = bool(again["changed"] or answer["changed"] or made)
        again["live"] = answer["live"]
        again["warnings"] = list(dict.fromkeys([*answer.get("warnings", ()), *again.get("warnings", ())]))
        return again
