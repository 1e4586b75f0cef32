# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dev/demo shows of a play: failures, warnings, differences, and what the steps themselves say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: quiet
type: stdout
short_description: Ansible's ordinary output without tasks that went well
description:
  - As P(ansible.builtin.default#callback), without banners, included files, tasks that went well and the recap.
extends_documentation_fragment: [default_callback, result_format_callback]
"""

from typing import Any

from ansible.plugins.callback.default import CallbackModule as Ordinary


class CallbackModule(Ordinary):
    """Ordinary output where something is wrong, and nothing where all is well."""

    CALLBACK_NAME = "quiet"

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """No banner; the play is kept as the ordinary output keeps it."""
        self._play = play

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """No banner: it comes with what is printed below it."""

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Not which files a play is made of."""

    def v2_runner_on_ok(self, result: Any) -> None:
        """Of what went well, its warnings."""
        self._handle_warnings_and_exception(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Not what did not apply."""

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Not the counts of tasks."""
