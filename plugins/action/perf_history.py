# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the history: make it again from the files, import, export, upload; runs on the controller and touches no host."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.controller_action import ControllerAction, Result
from ansible_collections.mad.engine.plugins.plugin_utils.history import exports, imports, mongo
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.plugins.plugin_utils.play_inputs import slips
from ansible_collections.mad.engine.plugins.plugin_utils.saying import say

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "required": True, "choices": ["rebuilt", "imported", "exported", "uploaded"]},
    "results": {"type": "path", "default": "results"},
    "database_url": {"type": "str", "default": ""},
    "files": {"type": "raw", "default": []},
    "campaign": {"type": "str", "default": ""},
    "mongo_database": {"type": "str", "default": ""},
    "mongo_collection": {"type": "str", "default": ""},
    "unique_key": {"type": "raw", "default": [], "no_log": False},
    "batch_size": {"type": "int", "default": 1000},
    "upsert": {"type": "bool", "default": True},
    "index": {"type": "bool", "default": True},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ControllerAction):
    """Arguments in, plugin_utils/history/, documented values out."""

    ARGUMENTS = ARGUMENTS

    def answer(self, arguments: dict[str, t.Any]) -> Result:
        """Do one state's work."""
        url = database_url(arguments["results"], arguments["database_url"])
        files = [os.path.expanduser(path) for path in scalars.to_list(arguments["files"], "files")]
        result = STATES[arguments["state"]](dict(arguments, url=url, files=files), not self.check)
        if arguments["state"] == "rebuilt":  # the step that every play of the history has
            result["warnings"] = slips(self.variables) + result.get("warnings", [])
        if arguments["show"]:
            say("\n".join(result["lines"]))
        return result


def _rebuilt(args: dict[str, t.Any], write: bool) -> Result:
    if not write:
        return {"changed": False, "skipped": True, "lines": [], "msg": "check mode: the history is not made again"}
    with Index(args["url"]) as index:
        found = index.rebuild(args["results"])
        shown = index.shown
    line = "%s: %d campaigns with %d attempts from %s, %d of them new or changed"
    lines = [line % (shown, found["campaigns"], found["attempts"], os.path.abspath(args["results"]), found["changed"])]
    return {
        "changed": found["changed"] > 0,
        "lines": lines,
        "warnings": found["problems"],
        "rows": found["attempts"],
        "new": found["changed"],
    }


def _imported(args: dict[str, t.Any], write: bool) -> Result:
    if not args["files"]:
        raise InvalidInput("files: name perf.csv files, or folders of them, to import")
    report = imports.import_files(args["url"], args["files"], args["campaign"], write)
    return {"changed": report.new > 0, "lines": report.lines(), **imports.summary(report)}


def _exported(args: dict[str, t.Any], write: bool) -> Result:
    if not args["files"]:
        raise InvalidInput("files: name files to write; the ending says the format: %s" % ", ".join(exports.WRITERS))
    lines, changed, rows = [], False, 0
    for path in args["files"]:
        rows, news = exports.export(args["url"], path, write, campaign=args["campaign"])
        lines.append("%s: %d rows%s" % (os.path.abspath(path), rows, "" if news else ", as it was"))
        changed |= news
    return {"changed": changed, "lines": lines, "rows": rows}


def _uploaded(args: dict[str, t.Any], write: bool) -> Result:
    where = mongo.server(os.environ)
    names = [name for name in ("mongo_database", "mongo_collection") if not args[name]]
    if names:
        raise InvalidInput("%s: name the database and the collection of MongoDB to upload to" % " and ".join(names))
    if args["batch_size"] < 1:
        raise InvalidInput("batch_size %d: expected 1 or more" % args["batch_size"])
    unique = scalars.to_list(args["unique_key"], "unique_key")
    what = mongo.Upload(args["mongo_database"], args["mongo_collection"], unique, args["batch_size"], args["upsert"], args["index"])
    documents = (
        mongo.of_files(args["files"], args["campaign"]) if args["files"] else mongo.of_history(args["url"], campaign=args["campaign"])
    )
    place = "%s.%s at %s:%d" % (what.database, what.collection, where.host, where.port)
    if not write:
        count = sum(1 for dummy in documents)
        key = ", ".join(unique or mongo.UNIQUE)
        return {"changed": count > 0, "lines": ["would upload %d documents to %s, unique by %s" % (count, place, key)], "rows": count}
    answer = mongo.upload(where, what, documents)
    line = "%s: %d documents, %d new, %d changed, %d known" % (place, answer.documents, answer.inserted, answer.updated, answer.known)
    return {"changed": answer.known < answer.documents, "lines": [line], "rows": answer.documents, "new": answer.inserted}


STATES: dict[str, t.Callable[[dict[str, t.Any], bool], Result]] = {
    "rebuilt": _rebuilt,
    "imported": _imported,
    "exported": _exported,
    "uploaded": _uploaded,
}
