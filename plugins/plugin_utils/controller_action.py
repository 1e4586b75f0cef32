# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every step that runs on the controller alone: arguments checked, errors said in one sentence, a diff where it was asked for."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.base.files import write_atomic
from ansible_collections.mad.engine.plugins.plugin_utils.saying import failures_said

Result = t.Dict[str, t.Any]
Arguments = t.Dict[str, t.Any]


class ControllerAction(ActionBase):
    """A subclass says its ARGUMENTS and answers; it connects to no host."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    ARGUMENTS: t.Mapping[str, t.Any] = {}

    def answer(self, arguments: Arguments) -> Result:
        """What RETURN of the module's documentation names, but for what every task returns."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        """Run the task: what is wrong with its input or with a file is one sentence, not a traceback."""
        result: Result = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        _spec, arguments = self.validate_argument_spec(dict(self.ARGUMENTS))
        with failures_said():
            result.update(self.answer(arguments))
        if not self._task.diff:
            result.pop("diff", None)
        return result

    @property
    def check(self) -> bool:
        """Whether nothing may be changed."""
        return bool(self._task.check_mode)


def put(path: str, text: str, check: bool) -> Result:
    """Bring a person's file to this text, atomically and only if it differs; {"changed", "diff"}."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InvalidInput("output: %s exists and is not a regular file" % path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InvalidInput("output: the directory %s does not exist; make it first" % folder)
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            before = stream.read()
    except FileNotFoundError:
        before = ""
    changed = before != text
    if changed and not check:
        write_atomic(path, text.encode("utf-8"))
    return {"changed": changed, "diff": {"before": before, "after": text, "before_header": path, "after_header": path}}
