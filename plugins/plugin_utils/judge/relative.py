# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a comparison leaves in the candidate's folder: comparison.json (verdicts, the baseline's locations), and relative_change in perf.csv."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import perf_files

from . import compare, kept
from .libraries import np
from .observations import Source


def fill(candidate: Source, baseline: Source | None, verdicts: t.Mapping[str, t.Any], write: bool) -> tuple[bool, list[str]]:
    """(whether a file changed, what could not be written); done for every campaign folder of the candidate.

    Without a baseline (declared values only) relative_change stays what it is. A comparison is worth having without it: what cannot be
    written is a warning.
    """
    known = None if baseline is None else locations(baseline)
    changed, warnings = False, []
    for campaign in map(Campaign, candidate.folders):
        try:
            with kept.locked(campaign, write):
                changed |= _write(campaign, verdicts, known, write)
        except MadError as error:
            warnings.append("relative_change is not filled: %s" % error.message)
    return changed, warnings


def locations(baseline: Source) -> list[dict[str, t.Any]]:
    """The median of each group of the baseline, over all hosts ("") and for each of them."""
    found: list[dict[str, t.Any]] = []
    for group in compare.groups(baseline.rows, []):
        by_host: dict[str, list[float]] = {}
        for row in compare.numbers(group.baseline):
            for host in dict.fromkeys(("", row.host)):
                by_host.setdefault(host, []).append(t.cast(float, row.value))
        shared = {name: getattr(group.key, name) for name in ("model", "args", "metric", "n_gpus")}
        found.extend({**shared, "host": host, "median": float(np.median(values))} for host, values in by_host.items())
    return found


def _write(campaign: Campaign, verdicts: t.Mapping[str, t.Any], found: list[dict[str, t.Any]] | None, write: bool) -> bool:
    """The file of the ledger stays as perf_store orders it."""
    records, _problems = campaign.results()
    document = {**verdicts, "results": kept.state(records.values())}
    document["locations"] = campaign.comparison().get("locations", []) if found is None else found
    known = rows.baseline_of(document)
    built = {tuple(row[name] for name in rows.KEY): row for record in records.values() for row in rows.rows(record, known)}
    table = _table(campaign)
    for row in table:
        fresh = built.get(tuple(row.get(name, "") for name in rows.KEY))
        if fresh:
            row["relative_change"] = fresh["relative_change"]
    changed = kept.put(campaign.comparison_path, document, write)
    if not table:
        return changed  # its play has not come so far
    return perf_files.write_if_changed(campaign.perf_path, rows.to_csv(rows.header(table), table).encode("utf-8"), write) or changed


def _table(campaign: Campaign) -> list[dict[str, str]]:
    try:
        with open(campaign.perf_path, encoding="utf-8", newline="") as stream:
            return rows.from_csv(stream.read())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InvalidInput("%s cannot be read: %s" % (campaign.perf_path, error)) from error
