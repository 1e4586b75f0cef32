# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""summary.json: counts, durations, what failed, and the exit code in madengine's meaning."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.base.quoting import quote_argv
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import LAST_SUMMARY, Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.status import needs_run

from .ledger import Ledger

OK, FAILED, BUILD_FAILED, RUN_FAILED, BAD_ARGUMENTS = 0, 1, 2, 3, 4


def exit_code(records: Sequence[Mapping[str, Any]], builds_failed: bool, problems: Sequence[str]) -> int:
    """3 when a run failed, else 2 when a build or push failed (rows of class image count as that), else 1 when something could not be
    written, else 0."""
    classes = {record["failure_class"] for record in records if record["status"] == "FAILURE"}
    if classes - {"image"}:
        return RUN_FAILED
    if builds_failed or classes:
        return BUILD_FAILED
    return FAILED if problems else OK


def summarise(
    campaign: Campaign, plan: Mapping[str, Any], ledger: Ledger, builds: Mapping[str, Any], problems: Sequence[str], warnings: Sequence[str]
) -> Dict[str, Any]:
    """The whole of summary.json. The same files give the same document: it holds no time of its own.

    `builds` is {"built": n, "failed": {image: reason}}.
    """
    records = list(ledger.records.values())
    return {
        "schema": 1,
        "campaign": campaign.name,
        "campaign_dir": campaign.folder,
        "version": str(plan.get("version") or ""),
        "created": plan.get("created"),
        "counts": counts(ledger),
        "classes": classes(records),
        "hosts": _hosts(plan, ledger),
        "builds": {"built": int(builds.get("built") or 0), "failed": dict(builds.get("failed") or {})},
        "durations": durations(records),
        "exit_code": exit_code(records, bool(builds.get("failed")), problems),
        "successful_runs": [_short(record) for record in records if record["status"] == "SUCCESS"],
        "failed_runs": [_short(record) for record in records if record["status"] == "FAILURE"],
        "skipped_runs": [_short(record) for record in records if record["status"] == "SKIPPED"],
        "pending_runs": list(ledger.pending),
        "again": sum(1 for record in records if needs_run(record)) + len(ledger.pending),
        "resume_command": resume_command(plan, campaign.name),
        "problems": list(problems),
        "warnings": list(warnings),
        "notes": list(ledger.notes),
    }


def counts(ledger: Ledger) -> Dict[str, int]:
    """Planned runs by status; planned = success + failure + skipped + pending."""
    found = Counter(record["status"].lower() for record in ledger.records.values())
    named = {key: found[key] for key in ("success", "failure", "skipped")}
    return {"planned": len(ledger.records) + len(ledger.pending), **named, "pending": len(ledger.pending)}


def classes(records: Sequence[Mapping[str, Any]]) -> Dict[str, int]:
    """Failed runs by failure class."""
    return dict(sorted(Counter(record["failure_class"] for record in records if record["status"] == "FAILURE").items()))


def _hosts(plan: Mapping[str, Any], ledger: Ledger) -> Dict[str, Dict[str, int]]:
    found: Dict[str, Dict[str, int]] = {}
    for run in plan["runs"]:
        nothing = dict.fromkeys(("success", "failure", "skipped", "pending"), 0)
        entry = found.setdefault(str((run.get("place") or {}).get("host", "")), nothing)
        record = ledger.records.get(run["id"])
        entry[record["status"].lower() if record else "pending"] += 1
    return found


def durations(records: Sequence[Mapping[str, Any]]) -> Dict[str, Optional[float]]:
    """Seconds: `wall` from the first start to the last end of a run, and the sums of what runs took by kind."""
    times = [record["timings"] for record in records]
    started = [entry["started"] for entry in times if entry["started"] is not None]
    finished = [entry["finished"] for entry in times if entry["finished"] is not None]
    sums = {kind: round(sum(entry[kind] for entry in times if entry[kind] is not None), 3) for kind in ("queue", "stage", "run", "model")}
    return {"wall": round(max(finished) - min(started), 3) if started and finished else None, **sums}


def _short(record: Mapping[str, Any]) -> Dict[str, Any]:
    entry = {**{key: record[key] for key in ("run_id", "model", "attempt")}, "host": (record["place"] or {}).get("host", "")}
    if record["status"] == "SUCCESS":
        return {**entry, "metrics": [{key: metric[key] for key in ("row", "text", "unit")} for metric in record["metrics"]]}
    return {**entry, "failure_class": record["failure_class"], "reason": record["reason"]}


def resume_command(plan: Mapping[str, Any], name: str) -> str:
    """The command line that takes this campaign up again, quoted for a shell."""
    command = [str(word) for word in plan.get("command") or ("ansible-playbook", "mad.engine.run")]
    again = ["-e", "mad_campaign=" + name]
    return quote_argv(command if command[-2:] == again else command + again)


def small(summary: Mapping[str, Any]) -> Dict[str, Any]:
    """What goes out by set_stats: flat and small."""
    keys = ("campaign", "campaign_dir", "exit_code", "resume_command")
    return {**{key: summary[key] for key in keys}, **summary["counts"], "classes": summary["classes"], "again": summary["again"]}


def message(summary: Mapping[str, Any]) -> str:
    """One sentence for the end of the play."""
    found = summary["counts"]
    parts = []
    if found["failure"]:
        kinds = ", ".join("%d %s" % (count, name) for name, count in summary["classes"].items())
        parts.append("%d of %d runs failed (%s)" % (found["failure"], found["planned"], kinds))
    if summary["builds"]["failed"]:
        parts.append("builds failed: " + ", ".join(sorted(summary["builds"]["failed"])[:10]))
    parts.extend(summary["problems"])
    return "; ".join(parts) or "%d of %d runs have a row, none failed" % (found["planned"] - found["pending"], found["planned"])


def write(campaign: Campaign, summary: Mapping[str, Any], output: str = "") -> bool:
    """summary.json, last-summary.json beside the campaigns and a copy at `output`; returns whether anything changed."""
    changed = _write(campaign.summary_path, summary)
    changed |= _write(campaign.last_summary_path, summary)
    return (_write(os.path.abspath(os.path.expanduser(output)), summary) if output else False) or changed


def _write(path: str, summary: Mapping[str, Any]) -> bool:
    try:
        if os.path.exists(path) and files.read_json(path, "the summary") == summary:
            return False
    except InvalidInput:
        pass  # unreadable: replace it
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write_atomic(path, files.json_lines(dict(summary)))
    except OSError as error:
        raise InvalidInput("the summary %s cannot be written: %s" % (path, error.strerror)) from error
    return True


def refuse(results: str, reason: str, code: int = BAD_ARGUMENTS, output: str = "") -> Dict[str, Any]:
    """last-summary.json (and the copy) for a play that ended before there was a campaign; returns the document."""
    nothing = dict.fromkeys(("planned", "success", "failure", "skipped", "pending"), 0)
    summary: Dict[str, Any] = {
        **{"schema": 1, "campaign": "", "campaign_dir": "", "counts": nothing, "classes": {}, "exit_code": code, "problems": [reason]},
    }
    targets: List[str] = [os.path.join(os.path.abspath(results), LAST_SUMMARY)] + ([os.path.abspath(output)] if output else [])
    for path in targets:
        _write(path, summary)
    return summary
