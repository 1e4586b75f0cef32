# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier campaigns of the same results folder, for the charts of a report of one campaign: their perf.csv files, newest first."""

from __future__ import annotations

import calendar
import csv
import os
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, campaigns
from ansible_collections.mad.engine.plugins.module_utils.results.metrics import number
from ansible_collections.mad.engine.plugins.module_utils.results.rows import from_csv

from .entries import Runs, hardware, usable
from .series import Key, Past, Sample

_MOST_BYTES = 32 << 20  # of all of them together: more would keep a play waiting at its end

Row = Mapping[str, str]


def past(runs: Runs, most: int) -> Tuple[Past, List[str]]:
    """(samples of at most `most` campaigns that began before this one and share a model with it, what was left out and why)."""
    began = min((entry.record["timings"]["started"] or float("inf") for entry in runs.entries), default=float("inf"))
    of = {result.model: str(entry.record["model"]) for entry in runs.entries for result in entry.results}
    found: Past = {}
    notes: List[str] = []
    taken, size = 0, 0
    for campaign in campaigns(runs.campaign.results_dir) if most and of else ():
        if taken == most or campaign.name == runs.campaign.name:
            continue
        size += _size(campaign)
        if size > _MOST_BYTES:
            notes.append("the charts end at earlier campaigns of %d MB of rows; older ones are not shown" % (_MOST_BYTES >> 20))
            break
        samples = _samples(campaign, of, began, notes)
        taken += bool(samples)
        for key, sample in samples.items():
            found.setdefault(key, []).append(sample)
    return found, notes


def _size(campaign: Campaign) -> int:
    try:
        return os.stat(campaign.perf_path).st_size
    except OSError:
        return 0  # it has no rows yet


def _samples(campaign: Campaign, of: Mapping[str, str], before: float, notes: List[str]) -> Dict[Key, Sample]:
    try:
        with open(campaign.perf_path, encoding="utf-8", newline="") as stream:
            rows = from_csv(stream.read())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        notes.append("the charts leave out campaign %s: its perf.csv cannot be read: %s" % (campaign.name, error))
        return {}
    began = min((moment for row in rows for moment in [_moment(row.get("started") or "")] if moment is not None), default=before)
    return _grouped(campaign.name, began, rows, of) if began < before else {}


def _grouped(name: str, began: float, rows: Sequence[Row], of: Mapping[str, str]) -> Dict[Key, Sample]:
    values: Dict[Key, List[float]] = {}
    failed: Dict[Tuple[str, str], Set[Any]] = {}
    for row in rows:
        model, kind = row.get("model") or "", hardware(row)
        value = usable(number(row.get("performance") or ""))
        if row.get("status") == "FAILURE":
            failed.setdefault((of.get(model, model), kind), set()).add(row.get("run_id"))
        elif row.get("status") == "SUCCESS" and value is not None and model in of:
            values.setdefault((model, row.get("metric") or "", kind), []).append(value)
    return {key: Sample(name, began, numbers, len(failed.get((of[key[0]], key[2]), ()))) for key, numbers in values.items()}


def _moment(text: str) -> Optional[float]:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None
