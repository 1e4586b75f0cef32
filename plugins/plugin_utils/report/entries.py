# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of a campaign as a report shows them: every planned run once, with its record, or without one while it is on its way."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.hardware import of_cells
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number
from ansible_collections.mad.engine.plugins.module_utils.results.record import make_unrun_record
from ansible_collections.mad.engine.plugins.module_utils.results.rows import rows

PENDING = "PENDING"
STATUSES = ("FAILURE", "SKIPPED", PENDING, "SUCCESS")  # in the order in which people want to see them
UNKNOWN = "unknown hardware"
MOST = 1e100  # what is larger is shown as it was printed and not counted with: its square is no number any more

Row = Mapping[str, str]


class Result(NamedTuple):
    """One number that a run printed; `value` is None where its text is no number."""

    model: str  # with the name of its row in a multiple_results file
    unit: str
    better: str
    text: str
    value: Optional[float]


class Entry(NamedTuple):
    """One run."""

    campaign: int  # its place among the campaigns of the report
    run: Mapping[str, Any]  # out of plan.json; {} for a run that the plan no longer knows
    record: Mapping[str, Any]
    row: Row  # the first of its rows in perf.csv
    status: str
    results: Sequence[Result]

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    @property
    def host(self) -> str:
        return self.row["host"]

    @property
    def hardware(self) -> str:
        """What its numbers may be compared with; the same text as in the history and in compare."""
        return of_cells(self.row) or UNKNOWN

    @property
    def failure_class(self) -> str:
        return str(self.record["failure_class"])


class Runs(NamedTuple):
    """A campaign and what became of its runs."""

    campaign: Campaign
    plan: Mapping[str, Any]
    entries: List[Entry]
    notes: List[str]
    hosts: int  # of the plan


def read(campaign: Campaign, place: int = 0) -> Runs:
    """Read a campaign's folder. A result that cannot be read costs its own run its numbers, and is named."""
    plan = campaign.plan()
    records, problems = campaign.results()
    entries = []
    for run in sorted(plan["runs"], key=lambda entry: entry.get("order") or 0):
        record = records.pop(run["id"], None)
        entries.append(_entry(place, run, record, problems.pop(run["id"], "")))
    entries.extend(_entry(place, {}, record, "") for record in records.values())
    notes = ["a run that is not in the plan: " + problem for problem in problems.values()]
    hosts = {str((run.get("place") or {}).get("host")) for run in plan["runs"]}
    return Runs(campaign, plan, entries, [*(str(warning) for warning in plan.get("warnings") or ()), *notes], len(hosts))


def _entry(place: int, run: Mapping[str, Any], record: Optional[Mapping[str, Any]], problem: str) -> Entry:
    status = str(record["status"]) if record else "FAILURE" if problem else PENDING
    if record is None:
        record = make_unrun_record(run, "infra" if problem else "", problem or "no row yet: it is on its way, or was not started")
    found = rows(record)
    return Entry(place, run, record, found[0], status, _results(found) if status != PENDING else [])


def _results(found: Sequence[Row]) -> List[Result]:
    return [_result(row) for row in found if row["performance"] or row["metric"]]


def _result(row: Row) -> Result:
    return Result(row["model"], row["metric"], row["better"], row["performance"], usable(number(row["performance"])))


def usable(value: Optional[float]) -> Optional[float]:
    """A number that means and squares can be taken of, else None."""
    return value if value is not None and abs(value) <= MOST else None


def counts(entries: Sequence[Entry]) -> Dict[str, int]:
    """How many runs have which status; every status is there."""
    found = dict.fromkeys(STATUSES, 0)
    for entry in entries:
        found[entry.status] += 1
    return found


def classes(entries: Sequence[Entry]) -> Dict[str, int]:
    """Failed runs by failure class, the most frequent first."""
    found: Dict[str, int] = {}
    for entry in entries:
        if entry.status == "FAILURE":
            found[entry.failure_class] = found.get(entry.failure_class, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
