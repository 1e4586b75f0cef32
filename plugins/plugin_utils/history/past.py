# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row of the past, found by its run id or the beginning of it: its record and plan from the campaign folder, else its row of the history."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, campaigns, find_campaign
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows

_PREFIX = re.compile(r"[0-9a-f]{1,16}\Z")
_SHOWN = 8


class Past(NamedTuple):
    """What is known of a run."""

    campaign: str
    run_id: str
    record: dict[str, Any]  # {}: only the history knows it
    plan: dict[str, Any]  # plan.json with the runs and facts of this run's host; {}: there is none
    cells: dict[str, str]  # its first row of perf.csv

    @property
    def name(self) -> str:
        """What it is called in an answer."""
        return "%s/%s" % (self.campaign, self.run_id)

    @property
    def run(self) -> dict[str, Any]:
        """The run as it was planned."""
        return next((run for run in self.plan.get("runs") or () if run["id"] == self.run_id), {})


def find(results: str, url: str, wanted: str, campaign: str = "", what: str = "the run") -> Past:
    """The one run that `[CAMPAIGN/]ID` names; InvalidInput says what else it could be. `what` names the variable it came from."""
    named, _slash, prefix = wanted.strip().rpartition("/")
    if not _PREFIX.match(prefix):
        raise InvalidInput("%s %r: expected a run id (16 hex digits), or its beginning, or CAMPAIGN/ID" % (what, wanted[:80]))
    name = named or campaign
    try:
        folders = [find_campaign(results, name)] if name else campaigns(results)
    except InvalidInput:
        folders = []  # its folder may be gone; the history remembers it
    found = [(folder, run_id) for folder in folders for run_id in folder.run_ids() if run_id.startswith(prefix)]
    if not found:
        return _of_history(url, name, prefix, what)
    if len(found) > 1:
        raise _ambiguous(what, wanted, ["%s/%s" % (folder.name, run_id) for folder, run_id in found])
    return _of_folder(*found[0])


def _ambiguous(what: str, wanted: str, names: list[str]) -> InvalidInput:
    return InvalidInput("%s %s could be %s; name the campaign (CAMPAIGN/ID) or more digits" % (what, wanted, scalars.named(names, _SHOWN)))


def _of_folder(campaign: Campaign, run_id: str) -> Past:
    record = campaign.result(run_id)
    if record is None:
        raise InvalidInput("run %s of campaign %s has no result yet" % (run_id, campaign.name))
    try:
        plan = campaign.host_plan(str(record["place"].get("host", "")))
    except MadError:
        plan = {}  # the record tells most of it
    return Past(campaign.name, run_id, record, plan, rows(record)[0])


def _of_history(url: str, campaign: str, prefix: str, what: str) -> Past:
    from . import query  # SQLAlchemy takes a moment to load, and mostly the campaign's folder is there

    found = query.rows(url, campaign=campaign, run_id=prefix, cells=True)
    names = list(dict.fromkeys("%s/%s" % (row["campaign"], row["run_id"]) for row in found))
    if not names:
        where = "campaign %s" % campaign if campaign else "any campaign"
        raise InvalidInput("%s %s: no such run in %s, neither in the results folder nor in the history" % (what, prefix, where))
    if len(names) > 1:
        raise _ambiguous(what, prefix, names)
    newest = max(found, key=lambda row: (row["created"], row["started"] or 0.0, -row["result"]))
    return Past(newest["campaign"], newest["run_id"], {}, {}, newest["cells"])
