# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The column relative_change: a comparison leaves the baseline's locations in the candidate's folder, and its perf.csv is written with them."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import perf_files

from . import compare
from .libraries import np
from .observations import Source


def fill(results: str, candidate: Source, baseline: Source, write: bool) -> tuple[bool, list[str]]:
    """(whether a perf.csv changed, what could not be written); done for every campaign folder of the candidate below `results`.

    A comparison is worth having without it: what cannot be written is a warning.
    """
    document = {"schema": 1, "baseline": baseline.name, "locations": locations(baseline)}
    changed, warnings = False, []
    for name in candidate.campaigns():
        folder = os.path.join(results, name)
        if os.path.isdir(os.path.join(folder, "runs")) and os.path.isfile(os.path.join(folder, "perf.csv")):
            try:
                changed |= _fill(Campaign(folder), document, write)
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


def _fill(campaign: Campaign, document: t.Mapping[str, t.Any], write: bool) -> bool:
    """Of two controllers one writes after the other; the file of the ledger stays as perf_store orders it."""
    if not write:
        return _write(campaign, document, write)
    try:
        with campaign.lock():
            return _write(campaign, document, write)
    except OSError as error:
        raise InvalidInput("the campaign folder %s cannot be written: %s" % (campaign.folder, error.strerror)) from error


def _write(campaign: Campaign, document: t.Mapping[str, t.Any], write: bool) -> bool:
    known = rows.baseline_of(document)
    records, _problems = campaign.results()
    built = {tuple(row[name] for name in rows.KEY): row for record in records.values() for row in rows.rows(record, known)}
    try:
        with open(campaign.perf_path, encoding="utf-8", newline="") as stream:
            table = rows.from_csv(stream.read())
    except (OSError, ValueError) as error:
        raise InvalidInput("%s cannot be read: %s" % (campaign.perf_path, error)) from error
    for row in table:
        fresh = built.get(tuple(row.get(name, "") for name in rows.KEY))
        if fresh:
            row["relative_change"] = fresh["relative_change"]
    if write:
        files.write_json(campaign.comparison_path, document)
    return perf_files.write_if_changed(campaign.perf_path, rows.to_csv(rows.header(table), table).encode("utf-8"), write)
