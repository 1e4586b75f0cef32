# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a person names (a campaign, a folder, a perf.csv, the last five) to the rows of one side of a comparison."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, campaigns
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows

from . import perf_tables
from .observations import Observation, Source, of_rows

LAST = re.compile(r"last(?::\s*([1-9][0-9]{0,3}))?\Z")


def candidate(results: str, names: t.Sequence[str], against: t.Sequence[str] = ()) -> Source:
    """The side that is judged; without a name the newest campaign that has rows and is not what it is held `against`."""
    return _side(results, names or ["last"], against, "mad_candidate")


def baseline(results: str, names: t.Sequence[str], judged: Source) -> Source:
    """The side it is held against; `last:N` are the newest N campaigns but for those that are judged."""
    return _side(results, names, judged.campaigns(), "mad_baseline")


def _side(results: str, names: t.Sequence[str], without: t.Sequence[str], variable: str) -> Source:
    found: list[Source] = []
    for name in names:
        last = LAST.match(name)
        found.extend(_last(results, int(last.group(1) or 1), without, variable) if last else [_named(results, name, variable)])
    side = _together(", ".join(names), found)
    shown = side.campaigns()
    if any(LAST.match(name) for name in names) and shown:
        side = side._replace(name="%s (%s)" % (side.name, ", ".join(shown)) if len(shown) > 1 else shown[0])
    if not side.rows:
        raise InvalidInput("%s %s: there are no rows of results%s" % (variable, side.name, _hint(results, side.warnings)))
    return side


def _together(name: str, parts: t.Sequence[Source]) -> Source:
    """Several sources as one."""
    found, warnings = [row for part in parts for row in part.rows], [text for part in parts for text in part.warnings]
    return Source(name, found, warnings, tuple(dict.fromkeys(folder for part in parts for folder in part.folders)))


def _hint(results: str, warnings: t.Sequence[str]) -> str:
    return " (%s)" % "; ".join(warnings[:3]) if warnings else " in %s" % os.path.abspath(results)


def _last(results: str, count: int, without: t.Sequence[str], variable: str) -> list[Source]:
    """The newest campaigns that have rows, oldest first."""
    found: list[Source] = []
    for campaign in campaigns(results):
        if campaign.name in without or not campaign.exists():
            continue
        source = of_campaign(campaign)
        if any(row.value is not None for row in source.rows):
            found.append(source)
        if len(found) == count:
            break
    if not found:
        raise InvalidInput(
            "%s: there is no%s campaign with results in %s" % (variable, " other" if without else "", os.path.abspath(results))
        )
    return found[::-1]


def _named(results: str, name: str, variable: str) -> Source:
    """One campaign, folder or file."""
    path = os.path.expanduser(name)
    inside = os.path.join(results, name)
    for place in dict.fromkeys((inside if "/" not in name else path, path)):
        if os.path.isfile(place):
            return of_file(place)
        if os.path.isdir(place):
            return _of_folder(place)
    known = [campaign.name for campaign in campaigns(results)][:8]
    there = (
        "the newest campaigns in %s are %s" % (os.path.abspath(results), ", ".join(known))
        if known
        else "%s holds no campaign" % os.path.abspath(results)
    )
    raise InvalidInput("%s %s: no such campaign, folder or perf.csv; %s" % (variable, name, there))


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
