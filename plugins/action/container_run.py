# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of `container_run`: runs on the play's host itself."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.host.arguments import ARGUMENTS
from ansible_collections.mad.engine.plugins.plugin_utils import zipapp
from ansible_collections.mad.engine.plugins.plugin_utils.target_action import Failed, Result, TargetAction

_SETTINGS = (("lock", "host_lock"), ("parallel", "host_parallel"), ("min_free_bytes", "min_free_bytes"), ("boot_id_file", "boot_id_file"))


class ActionModule(TargetAction):
    """Every state that may have to start a supervisor names the core that it runs."""

    TARGET = "local"
    MODULE = "mad.engine.container_run"
    ARGUMENTS = ARGUMENTS

    def _words(self, state: str) -> dict[str, t.Any]:
        """The core's hash; for the start also the supervisor's settings."""
        if state not in ("started", "polled", "cancelled"):
            return {}
        words: dict[str, t.Any] = {"core": zipapp.build()[0]}
        if state == "started":
            words["settings"] = {name: self._options[option] for name, option in _SETTINGS}
        elif state == "polled":
            words["patience"] = self._options["patience"]
            words["files"] = self._mine.uncollected()
        return words

    def _started(self) -> Result:
        """Where it is asked for, what is not staged yet is staged in the same step on the host."""
        runs = self._mine.open_runs() if self._options["stage"] and not self._task.check_mode else []
        if not runs:
            return super()._started()
        runs, finished = self._resolved(runs)
        if not runs:
            return dict(super()._started(), changed=bool(finished), ended=finished)
        staged, answer = self._stage(runs, live=self._live(), **self._words("started"))
        finished += self._take_staged(staged)
        if answer["problem"]:
            raise Failed(dict(answer["problem"], failed=True, ended=finished))
        self._mine.acknowledge(answer["acknowledged"])
        followed = self._followed(answer)
        return dict(followed, changed=bool(staged["changed"] or followed["changed"]), ended=finished + followed["ended"])
