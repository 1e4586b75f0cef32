# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of the controller's own steps: what goes wrong is one sentence, and a diff is only given to who asks for it."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction


class Step(ControllerAction):
    """A step that does what its test wants."""

    ARGUMENTS = {"problem": {"type": "raw"}}

    def answer(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["problem"]:
            raise arguments["problem"]
        return {"changed": self.check, "diff": {"before": "", "after": "x"}, "names": sorted(self.variables)}


def run(problem: Exception | None = None, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """Run the step."""
    task = MagicMock(args={"problem": problem} if problem else {}, check_mode=check, diff=diff, async_val=0)
    return Step(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={"mad_tags": "x"})


def test_it_answers() -> None:
    assert run()["names"] == ["mad_tags"]
    assert run(check=True)["changed"] is True


def test_a_diff_only_where_it_was_asked_for() -> None:
    assert "diff" in run(diff=True)
    assert "diff" not in run()


@pytest.mark.parametrize(
    "problem, words",
    [
        (InvalidInput("mad_x is wrong"), "^mad_x is wrong$"),
        (PermissionError(13, "Permission denied", "/srv/results"), "^/srv/results: Permission denied$"),
        (TimeoutError("nobody answers"), "^TimeoutError: nobody answers$"),
    ],
)
def test_what_goes_wrong_is_one_sentence(problem: Exception, words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        run(problem)


def test_unknown_arguments_are_refused() -> None:
    task = MagicMock(args={"no_such": 1}, check_mode=False, diff=False, async_val=0)
    with pytest.raises(AnsibleActionFail, match="no_such"):
        Step(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={})
