# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the report of campaigns; runs on the controller, once a play."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import FORMATS, Options, make
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

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


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/report, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Write it; at the end of another play (`optional`) what goes wrong is a warning."""
        optional = arguments["optional"]
        try:
            made = make(_options(arguments, not self.check))
        except Exception as error:  # noqa: BLE001 - the rows of a play are worth more than its report: an error of ours is said, not fatal
            if not optional:
                raise
            reason = error.message if isinstance(error, MadError) else "%s: %s" % (type(error).__name__, error)
            return {"changed": False, "files": {}, "warnings": ["no report was written: %s" % reason]}
        if arguments["show"]:
            say("\n".join("%s: %s" % (_WORDS.get(name, name), path) for name, path in made.files.items()))
        mistyped = [] if optional else slips(self.variables)  # at the end of another play the plan has said it
        return {"changed": bool(made.changed), "files": made.files, "warnings": mistyped + made.warnings}


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
