# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a person names (a campaign, a folder, a perf.csv, the last five) to the rows of one side; folders first, then the history."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import HISTORY, Campaign, campaigns
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows
from ansible_collections.mad.engine.plugins.plugin_utils.history import query
from ansible_collections.mad.engine.plugins.plugin_utils.history.entries import RECORD
from ansible_collections.mad.engine.plugins.plugin_utils.history.place import database_url

from . import perf_tables
from .observations import Observation, Source, of_rows

LAST = re.compile(r"last(?::\s*([1-9][0-9]{0,3}))?\Z")


class Place(t.NamedTuple):
    """Where campaigns are: the folder of their folders, which are the truth, and the history, which remembers those that are gone."""

    results: str
    url: str = ""  # of the history; "": history.db in that folder, if there is one

    def history(self) -> str:
        """The URL of the history, "" where there is none."""
        known = self.url or os.path.exists(os.path.join(self.results, HISTORY))
        return database_url(self.results, self.url) if known else ""


def candidate(place: Place, names: t.Sequence[str], against: t.Sequence[str] = ()) -> Source:
    """The side that is judged; without a name the newest campaign that has rows and is not what it is held `against`."""
    return _side(place, names or ["last"], against, "mad_candidate")


def baseline(place: Place, names: t.Sequence[str], judged: Source) -> Source:
    """The side it is held against; `last:N` are the newest N campaigns but for those that are judged."""
    return _side(place, names, judged.campaigns(), "mad_baseline")


def pinned(place: Place, names: t.Sequence[str], campaign: str) -> list[str]:
    """The names of a baseline with `last` resolved, so that every look compares with the same; what is not there is an error now."""
    found: list[str] = []
    for name in names:
        last = LAST.match(name)
        parts = _last(place, int(last.group(1) or 1), [campaign], "mad_baseline") if last else [_named(place, name, "mad_baseline")]
        found.extend([part.name for part in parts] if last else [name])
    return found


def _side(place: Place, names: t.Sequence[str], without: t.Sequence[str], variable: str) -> Source:
    found: list[Source] = []
    for name in names:
        last = LAST.match(name)
        found.extend(_last(place, int(last.group(1) or 1), without, variable) if last else [_named(place, name, variable)])
    side = _together(", ".join(names), found)
    shown = side.campaigns()
    if any(LAST.match(name) for name in names) and shown:
        side = side._replace(name="%s (%s)" % (side.name, ", ".join(shown)) if len(shown) > 1 else shown[0])
    if not side.rows:
        raise InvalidInput("%s %s: there are no rows of results%s" % (variable, side.name, _hint(place.results, side.warnings)))
    return side


def _together(name: str, parts: t.Sequence[Source]) -> Source:
    """Several sources as one."""
    found, warnings = [row for part in parts for row in part.rows], [text for part in parts for text in part.warnings]
    return Source(name, found, warnings, tuple(dict.fromkeys(folder for part in parts for folder in part.folders)))


def _hint(results: str, warnings: t.Sequence[str]) -> str:
    return " (%s)" % "; ".join(warnings[:3]) if warnings else " in %s" % os.path.abspath(results)


def _last(place: Place, count: int, without: t.Sequence[str], variable: str) -> list[Source]:
    """The newest campaigns that have rows, oldest first."""
    found: list[Source] = []
    remembered, warnings = _remembered(place)
    folders = {campaign.name: campaign for campaign in campaigns(place.results)}
    times = {**remembered, **{name: _planned(campaign) for name, campaign in folders.items()}}
    for name in sorted(times, key=lambda name: times[name], reverse=True):
        if name in without:
            continue
        source = of_campaign(folders[name]) if name in folders else of_history(place.history(), name)
        if any(row.value is not None for row in source.rows):
            found.append(source)
        if len(found) == count:
            break
    if not found:
        raise InvalidInput(
            "%s: there is no%s campaign with results in %s%s"
            % (variable, " other" if without else "", os.path.abspath(place.results), _hint("", warnings) if warnings else "")
        )
    found[-1] = found[-1]._replace(warnings=[*found[-1].warnings, *warnings])
    return found[::-1]


def _planned(campaign: Campaign) -> float:
    try:
        return os.stat(campaign.plan_path).st_mtime
    except OSError:
        return 0.0  # it went away while we looked


def _remembered(place: Place) -> tuple[dict[str, float], list[str]]:
    """({campaign of the history: when it began}, why there are none); the folders are enough for most.

    An imported one is no newest campaign: what is known of its time is that of a file, and that may be a copy of today.
    """
    try:
        known = query.campaigns(place.history()) if place.history() else []
    except MadError as error:
        return {}, [error.message]
    return {entry["campaign"]: entry["started"] or 0.0 for entry in reversed(known) if entry["source"] == RECORD}, []


def _named(place: Place, name: str, variable: str) -> Source:
    """One campaign, folder or file; a campaign without a folder as the history remembers it."""
    path = os.path.expanduser(name)
    inside = os.path.join(place.results, name)
    for where in dict.fromkeys((inside if "/" not in name else path, path)):
        if os.path.isfile(where):
            return of_file(where)
        if os.path.isdir(where):
            return _of_folder(where)
    source = of_history(place.history(), name) if place.history() and "/" not in name else None
    if source and source.rows:
        return source
    known = [campaign.name for campaign in campaigns(place.results)][:8]
    there = (
        "the newest campaigns in %s are %s" % (os.path.abspath(place.results), ", ".join(known))
        if known
        else "%s holds no campaign" % os.path.abspath(place.results)
    )
    raise InvalidInput("%s %s: no such campaign, folder or perf.csv; %s" % (variable, name, there))


def of_history(url: str, name: str) -> Source:
    """The rows of a campaign as the history holds them: what was imported, or whose folder is gone."""
    found = query.rows(url, campaign=name, cells=True)
    cells = [{**(perf_tables.understood(row["cells"]) or row["cells"]), **_key(row)} for row in found]
    return Source(name, of_rows(cells), [])


def _key(row: t.Mapping[str, t.Any]) -> dict[str, str]:
    """What an imported row does not say itself."""
    hardware = {"hardware": row["hardware"]} if row["source"] == RECORD else {}
    return {**hardware, **{name: str(row[name]) for name in ("campaign", "run_id", "attempt", "result", "status")}}


def of_file(path: str) -> Source:
    """The rows of a perf.csv; where it names no campaign, the file is one."""
    cells, warnings = perf_tables.read(path)
    found = [row if row.campaign else row._replace(campaign=os.path.basename(path)) for row in of_rows(cells)]
    return Source(path, found, warnings)


def _of_folder(path: str) -> Source:
    """A campaign folder, the remains of one (perf.csv), or a folder of campaigns."""
    if os.path.isdir(os.path.join(path, "runs")):
        return of_campaign(Campaign(path))
    table = os.path.join(path, "perf.csv")
    if os.path.isfile(table):
        return of_file(table)
    return _together(path, [of_campaign(campaign) for campaign in campaigns(path)][::-1])


def of_campaign(campaign: Campaign) -> Source:
    """The rows of a campaign's records; the files are the truth."""
    records, problems = campaign.results()
    warnings = ["the result of run %s cannot be read: %s" % item for item in sorted(problems.items())]
    found: list[Observation] = []
    for record in records.values():
        card = record.get("card") or {}
        found.extend(
            row._replace(started=record["timings"].get("started") or row.started) for row in of_rows(rows(record), record["model"], card)
        )
    waiting = _without_row(campaign, records, problems)
    if waiting:
        warnings.append("campaign %s: %d planned run%s no row yet" % (campaign.name, waiting, " has" if waiting == 1 else "s have"))
    found.sort(key=lambda row: (row.started, row.run, row.key))
    return Source(campaign.name, found, warnings, (campaign.folder,) if campaign.exists() else ())


def _without_row(campaign: Campaign, records: t.Mapping[str, t.Any], problems: t.Mapping[str, str]) -> int:
    if not campaign.exists():
        return 0
    try:
        planned = {run["id"] for run in campaign.plan()["runs"]}
    except (MadError, KeyError, TypeError):
        return 0  # a damaged plan is told of by those who need it
    return len(planned - set(records) - set(problems))
