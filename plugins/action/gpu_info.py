# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `gpu_info` on the play's host, over a connection that notices when the host dies."""

from __future__ import annotations

import typing as t

from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.mad.engine.plugins.plugin_utils.keep_alive import keep_alive


class ActionModule(NormalAction):
    """The first task of a play makes the connection that the others share."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """As the module says."""
        keep_alive(self._connection)
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return result
