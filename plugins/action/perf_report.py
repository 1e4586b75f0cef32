# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the report of campaigns; runs on the controller, once a play."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import FORMATS, Options, make

ARGUMENTS: dict[str, t.Any] = {
    "results": {"type": "path", "default": "results"},
    "campaigns": {"type": "list", "elements": "str", "default": []},
    "format": {"type": "list", "elements": "str", "default": ["html"], "choices": list(FORMATS)},
    "output": {"type": "path", "default": ""},
    "source": {"type": "path", "default": ""},
    "history": {"type": "int", "default": 30},
    "database_url": {"type": "str", "default": ""},
    "baseline": {"type": "raw"},
    "same_within": {"type": "raw"},
    "better": {"type": "raw"},
    "optional": {"type": "bool", "default": False},
    "show": {"type": "bool", "default": True},
}
_WORDS = {"html": "report"}


class ActionModule(ActionBase):
    """Arguments in, plugin_utils/report, documented values out."""

    _requires_connection = False
    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return what RETURN of the module's documentation names."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(ARGUMENTS)
        try:
            answer = make(_options(args, not self._task.check_mode))
        except MadError as error:
            return _failed(args, error.message, error)
        except Exception as error:  # noqa: BLE001 - the rows of a play are worth more than its report: an error of ours is said, not fatal
            if not args["optional"]:
                raise
            return _failed(args, "%s: %s" % (type(error).__name__, error), error)
        if args["show"]:
            Display().display("\n".join("%s: %s" % (_WORDS.get(name, name), path) for name, path in answer.files.items()))
        mistyped = [] if args["optional"] else slips(task_vars or {})  # at the end of another play the plan has said it
        return {"changed": bool(answer.changed), "files": answer.files, "warnings": mistyped + answer.warnings}


def _failed(args: t.Mapping[str, t.Any], reason: str, error: Exception) -> dict[str, t.Any]:
    if not args["optional"]:
        raise AnsibleActionFail(reason) from error
    return {"changed": False, "files": {}, "warnings": ["no report was written: %s" % reason]}


def _options(args: t.Mapping[str, t.Any], write: bool) -> Options:
    return Options(
        results=args["results"],
        campaigns=[name.strip() for text in args["campaigns"] for name in text.split(",") if name.strip()],
        formats=args["format"],
        output=args["output"],
        source=args["source"],
        history=args["history"],
        **{name: args[name] for name in ("database_url", "baseline", "same_within", "better")},
        write=write,
    )
