# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a play: close the ledger, write the files of the campaign, bring the index up to date, and say what came out.

The order is the order of trust: records first, then perf.csv, then somebody's own perf.csv, then the index, then the summary. What cannot
be written is a named problem of the answer and stops nothing that comes after it.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.building import manifest
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.rows import baseline_of, rows

from . import ledger as ledgers
from . import perf_files, summary, table
from .host_runs import is_uncollected
from .index import Index, database_url, planned_at


class Options(NamedTuple):
    """What perf_store is asked to do."""

    hosts: Mapping[str, Any]
    wait: bool = True
    perf_output: str = ""
    summary_output: str = ""
    database_url: str = ""
    builds: Optional[Mapping[str, Any]] = None  # {"built": n, "failed": {image: reason}}; None: read the campaign's manifest
    write: bool = True


class Answer(NamedTuple):
    """What came out."""

    changed: bool
    summary: Dict[str, Any]
    lines: List[str]
    warnings: List[str]


def store(campaign: Campaign, options: Options) -> Answer:
    """Do all of it, one controller at a time. MadError only when the campaign itself cannot be read."""
    hosts = ledgers.hosts_of(options.hosts)
    plan = campaign.plan()
    if not options.write:
        return _store(campaign, plan, hosts, options)
    try:
        with campaign.lock():
            return _store(campaign, campaign.plan(), hosts, options)
    except OSError as error:  # only the lock file: everything else is caught where it happens
        raise InvalidInput("the campaign folder %s cannot be locked: %s" % (campaign.folder, error.strerror)) from error


def _store(campaign: Campaign, plan: Mapping[str, Any], hosts: Mapping[str, ledgers.Host], options: Options) -> Answer:
    ledger = ledgers.complete(campaign, plan, hosts, options.wait, options.write)
    problems, warnings = [*ledger.problems, *(_left_behind(campaign, ledger, hosts) if options.wait else ())], []
    baseline = baseline_of(campaign.comparison())
    planned = [row for record in ledger.records.values() for row in rows(record, baseline)]
    entries = planned + [row for record in ledger.others.values() for row in rows(record, baseline)]
    changed = bool(ledger.written)
    try:
        changed |= perf_files.write_campaign(campaign, entries, options.write)
    except MadError as error:
        problems.append(error.message)
    try:
        if options.perf_output:
            changed |= perf_files.append(options.perf_output, entries, options.write)
    except MadError as error:
        problems.append(error.message)
    try:
        changed |= options.write and _index(campaign, plan, ledger, options)
    except MadError as error:
        warnings.append(error.message)
    builds = _builds(campaign, warnings) if options.builds is None else options.builds
    found = summary.summarise(campaign, plan, ledger, builds, problems, warnings)
    try:
        changed |= options.write and summary.write(campaign, found, options.summary_output)
    except MadError as error:
        found = summary.summarise(campaign, plan, ledger, builds, [*problems, error.message], warnings)
    return Answer(changed, found, report(campaign, found, planned), warnings + ledger.notes)


def _left_behind(campaign: Campaign, ledger: ledgers.Ledger, hosts: Mapping[str, ledgers.Host]) -> List[str]:
    """For each host whose runs have their rows, but not their logs: how many, and why."""
    left = [record for record in ledger.records.values() if is_uncollected(campaign, record)]
    attempts = [(record, campaign.attempt(record["run_id"], int(record["attempt"])) or {}) for record in left]
    found = Counter(str(record["place"]["host"]) for record, attempt in attempts if attempt.get("launch"))
    return [
        "%s: the logs and artifacts of %d runs did not come home (%s); the next play of this campaign fetches them"
        % (name, count, hosts[name].reason or "it did not answer any more")
        for name, count in sorted(found.items())
        if name in hosts
    ]


def _index(campaign: Campaign, plan: Mapping[str, Any], ledger: ledgers.Ledger, options: Options) -> bool:
    url = database_url(campaign.results_dir, options.database_url)
    with Index(url) as index:
        return index.add([*ledger.records.values(), *ledger.others.values()], planned_at(plan)) > 0


def _builds(campaign: Campaign, warnings: List[str]) -> Dict[str, Any]:
    """What the campaign's own manifest says of its builds and pushes."""
    if not os.path.exists(campaign.manifest_path):
        return {}
    try:
        document = manifest.read(campaign.manifest_path)
    except MadError as error:
        warnings.append(error.message)
        return {}
    found = document["summary"]
    failed = dict(manifest.failures(document))
    for entry in found.get("failed_pushes") or ():
        name = str(entry.get("image") or "an image") if isinstance(entry, Mapping) else str(entry)
        failed.setdefault(name, "push failed: %s" % (entry.get("error") or "") if isinstance(entry, Mapping) else "push failed")
    return {"built": len(found.get("successful_builds") or ()), "failed": failed}


def _log(campaign: Campaign, run_id: str) -> str:
    """The log of a run, from the campaign's folder on; "" where it has none."""
    path = os.path.join(campaign.run_dir(run_id), "run.log")
    return os.path.relpath(path, campaign.folder) if os.path.exists(path) else ""


def report(campaign: Campaign, found: Mapping[str, Any], entries: List[Dict[str, str]]) -> List[str]:
    """The end of a play for a person: table, what failed and why, counts, where everything is, how to go on."""
    lines = ["", *table.render(entries), ""]
    failures = table.failures(entries, lambda row: _log(campaign, row["run_id"]))
    if failures:
        lines.extend(["Not successful:", *failures, ""])
    broken = ["image %s: %s" % (image, reason) for image, reason in found["builds"]["failed"].items()]
    for problem in [*broken, *found["problems"]]:
        lines.extend(table.wrap(table.printable(problem)[: table.MAX_REASON], "  "))
    code = "; exit_code %d" % found["exit_code"] if found["exit_code"] else ""
    lines.append(table.counts_line(found["counts"], found["classes"]) + code)
    lines.append("results in " + campaign.folder)
    if found["again"] or found["problems"]:
        lines.append("go on with: " + found["resume_command"])
    return lines
