# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier campaigns for the charts of a report of one campaign, out of the history: those that began before it and ran the same models."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.plugin_utils.history import query
from ansible_collections.mad.engine.plugins.plugin_utils.history.place import database_url

from .entries import UNKNOWN, Runs, usable
from .series import Key, Past, Sample

Row = Mapping[str, Any]


def past(runs: Runs, most: int, url: str = "") -> Tuple[Past, List[str]]:
    """(samples of at most `most` campaigns that began before this one and share a model with it, what was left out and why)."""
    of = {result.model: str(entry.record["model"]) for entry in runs.entries for result in entry.results}
    if not most or not of:
        return {}, []
    if not url and not os.path.exists(runs.campaign.history_path):
        return {}, ["the charts show no earlier campaign: there is no history yet, mad.engine.database makes it"]
    models, before = sorted({*of, *of.values()}), runs.campaign.name
    place = database_url(runs.campaign.results_dir, url)
    try:
        taken = query.campaigns(place, last=most, before=before, model=models)
        found = query.rows(place, campaign=[entry["campaign"] for entry in taken], model=models) if taken else []
    except MadError as error:
        return {}, ["the charts show no earlier campaign: %s" % error.message]
    return _samples({entry["campaign"]: entry["started"] or 0.0 for entry in taken}, found, of), []


def _samples(began: Mapping[str, float], rows: Sequence[Row], of: Mapping[str, str]) -> Past:
    values: Dict[Tuple[str, Key], List[float]] = {}
    failed: Dict[Tuple[str, str, str], Set[Any]] = {}
    for row in rows:
        model, kind, value = row["model"], row["hardware"] or UNKNOWN, usable(row["value"])
        if row["status"] == "FAILURE":
            failed.setdefault((row["campaign"], of.get(model, model), kind), set()).add(row["run_id"])
        elif row["status"] == "SUCCESS" and value is not None and model in of:
            values.setdefault((row["campaign"], (model, row["metric"], kind)), []).append(value)
    found: Past = {}
    for (campaign, key), numbers in values.items():
        lost = len(failed.get((campaign, of[key[0]], key[2]), ()))
        found.setdefault(key, []).append(Sample(campaign, began.get(campaign, 0.0), numbers, lost))
    return found
