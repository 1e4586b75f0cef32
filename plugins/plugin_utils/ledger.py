# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing the ledger after a play: every planned run gets its one row, whatever happened to its host.

What a target judged stands. A run without a result of its own gets a record from the controller: SKIPPED when the play was stopped
before it began, FAILURE of class lost_contact when its start was acknowledged, else of class infra (or what the caller says failed its
host). Only a run that is still on its way has no row: it was left running (mad_wait=false), or its host took no part in this play.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.status import STOPPED

HOST_STATES = ("ok", "unreachable", "lost", "failed", "stopped")

UNREADABLE = "its result came home unreadable: "

Record = Dict[str, Any]


class Ledger(NamedTuple):
    """What stands in the campaign folder after the play."""

    records: Dict[str, Record]  # of planned runs, in the order of the plan
    others: Dict[str, Record]  # of runs that an earlier plan of this campaign knew
    pending: List[str]  # planned, on their way, without a row
    written: int  # how many records were written now (check mode: would be)
    notes: List[str]
    problems: List[str]  # what could not be written


class Host(NamedTuple):
    """How a host ended this play."""

    state: str = ""  # one of HOST_STATES; "": it took no part
    reason: str = ""
    failure_class: str = ""


def hosts_of(given: Mapping[str, Any]) -> Dict[str, Host]:
    """The `hosts` argument, checked: {host: state} or {host: {"state", "reason", "class"}}."""
    found = {}
    for name, value in given.items():
        entry = {"state": value} if isinstance(value, str) else value
        if not isinstance(entry, Mapping) or entry.get("state") not in HOST_STATES:
            raise InvalidInput("hosts: %s has state %r; expected one of %s" % (name, value, ", ".join(HOST_STATES)))
        failure_class = str(entry.get("class") or "")
        if failure_class and failure_class not in FAILURE_CLASSES:
            raise InvalidInput("hosts: %s has class %r; expected one of %s" % (name, failure_class, ", ".join(FAILURE_CLASSES)))
        found[name] = Host(entry["state"], " ".join(str(entry.get("reason") or "").split()), failure_class)
    return found


def complete(campaign: Campaign, plan: Mapping[str, Any], hosts: Mapping[str, Host], wait: bool = True, write: bool = True) -> Ledger:
    """Fill what is missing and return all rows' records. `write` false (check mode) touches no file."""
    known, problems = campaign.results()
    ledger = Ledger({}, {}, [], 0, [], [])
    fresh: List[Record] = []
    for run in sorted(plan["runs"], key=lambda entry: entry.get("order", 0)):
        run_id = run["id"]
        before = known.pop(run_id, None)
        record = _record_of(campaign, run, before, problems.pop(run_id, ""), hosts, wait)
        if record is None:
            ledger.pending.append(run_id)
            continue
        ledger.records[run_id] = record = records.with_origin(record, plan)
        if record != before:  # what a target sent was kept when it came
            fresh.append(record)
    written = _save_all(campaign, fresh, ledger) if write else len(fresh)
    ledger.others.update(known)
    ledger.notes.extend("a run that is not in the plan: " + problem for problem in problems.values())
    return ledger._replace(written=written)


def _record_of(
    campaign: Campaign, run: Mapping[str, Any], known: Optional[Record], problem: str, hosts: Mapping[str, Host], wait: bool
) -> Optional[Record]:
    """The record that stands for a planned run now; None while it is on its way."""
    attempt = int(run.get("attempt") or 1)
    if known and known.get("source", "target") == "target" and known["attempt"] >= attempt:
        return known
    if run.get("outcome"):
        return records.make_planned_record(run)
    if known and known.get("source") == "plan" and known["attempt"] >= attempt:
        return known  # decided when it was staged: its image was not built, its GPUs are not there
    if known and known.get("failure_class") == "cancelled" and known["attempt"] >= attempt:
        return known  # by mad.engine.cancel, while the play that planned it had not started it
    host = hosts.get((run.get("place") or {}).get("host", ""), Host())
    if problem:
        return _filled(run, "infra", UNREADABLE + problem, launched=True)
    if not host.state and known:
        return known
    launched = campaign.launched(run["id"], attempt)
    if (host.state == "ok" and not wait) or (not host.state and launched):
        return None
    return _unrun(run, host, launched)


def _filled(run: Mapping[str, Any], failure_class: str, reason: str, launched: bool = False) -> Record:
    return records.make_unrun_record(run, failure_class, reason, launched, source="controller")


def _unrun(run: Mapping[str, Any], host: Host, launched: bool) -> Record:
    why = ": " + host.reason if host.reason else ""
    if launched:
        reason = {"ok": "its host answers and has no result of it"}.get(host.state, "started, then its host was " + host.state)
        return _filled(run, "lost_contact", reason + why, launched=True)
    if host.state == "stopped":
        return _filled(run, "", STOPPED + (why or ": no further run was to start"))
    reason = {
        "": "its host took no part in the play (--limit?)",
        "ok": "it had not been started" if host.failure_class == "cancelled" else "its host answered, but it was never started",
        "unreachable": "its host was unreachable at the start",
        "lost": "contact with its host was lost before it was started",
        "failed": "its host failed before it was started",
    }[host.state]
    return _filled(run, host.failure_class or "infra", reason + why)


def _save_all(campaign: Campaign, fresh: List[Record], ledger: Ledger) -> int:
    """Keep records; how many changed anything. Together, for a fleet that was away has thousands; one by one where the disk refuses some."""
    usual = [record for record in fresh if not _was_unreadable(record)]
    others = [record for record in fresh if _was_unreadable(record)]
    try:
        written = len(campaign.save_results(usual))
    except OSError:
        written, others = 0, fresh
    return written + sum(_save(campaign, record, ledger) for record in others)


def _was_unreadable(record: Record) -> bool:
    return bool(record["source"] == "controller" and record["reason"].startswith(UNREADABLE))


def _save(campaign: Campaign, record: Record, ledger: Ledger) -> bool:
    """Keep a record; a disk that takes no more must not cost the other rows, nor the table."""
    path = campaign.result_path(record["run_id"])
    try:
        if _was_unreadable(record):
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, path + ".unreadable")
                ledger.notes.append("%s could not be read and is kept as %s.unreadable" % (path, os.path.basename(path)))
        return campaign.save_result(record)
    except OSError as error:
        ledger.problems.append("%s cannot be written: %s" % (path, error.strerror))
        return False
