# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heat map: every host against the others of its hardware, metric by metric. No baseline is needed for it."""

from __future__ import annotations

import statistics
from typing import Any, Dict, List, Sequence, Tuple

from .entries import Entry

Column = Tuple[str, str]  # model, unit


def fleet(found: Sequence[Entry]) -> Dict[str, Any]:
    """{"hosts", "columns": [[model, unit, better]], "cells": [[host, column, median, difference, runs, failed]]}.

    `difference` is relative to the median of the hosts of the same hardware (0.02: 2 % more), null where there is nothing to compare.
    """
    hosts: Dict[str, int] = {}
    columns: Dict[Column, List[Any]] = {}
    values: Dict[Tuple[str, Column], List[float]] = {}
    failed: Dict[Tuple[str, str], int] = {}
    hardware: Dict[str, str] = {}
    for entry in found:
        hosts.setdefault(entry.host, len(hosts))
        if entry.status == "FAILURE":
            key = (entry.host, str(entry.record["model"]))
            failed[key] = failed.get(key, 0) + 1
            continue
        if entry.results and entry.status == "SUCCESS":
            hardware[entry.host] = entry.hardware
        for result in entry.results if entry.status == "SUCCESS" else ():
            if result.value is not None:
                column = (result.model, result.unit)
                columns.setdefault(column, [result.model, result.unit, result.better, str(entry.record["model"])])
                values.setdefault((entry.host, column), []).append(result.value)
    return _map(hosts, columns, values, failed, hardware)


def _map(
    hosts: Dict[str, int],
    columns: Dict[Column, List[Any]],
    values: Dict[Tuple[str, Column], List[float]],
    failed: Dict[Tuple[str, str], int],
    hardware: Dict[str, str],
) -> Dict[str, Any]:
    shown = {column[3] for column in columns.values()}
    for model in dict.fromkeys(model for dummy, model in failed if model not in shown):  # what failed everywhere has a column too
        columns[model, ""] = [model, "", "", model]
    medians = {key: statistics.median(found) for key, found in values.items()}
    normal = _normal(medians, hardware)
    cells = []
    for number, (column, described) in enumerate(columns.items()):
        for host, place in hosts.items():
            median, losses = medians.get((host, column)), failed.get((host, described[3]), 0)
            if median is not None or losses:
                middle = normal.get((hardware.get(host, ""), column))
                difference = round(median / middle - 1.0, 5) if median is not None and middle else None
                cells.append([place, number, median, difference, len(values.get((host, column), ())), losses])
    return {"hosts": list(hosts), "hardware": [hardware.get(host, "") for host in hosts], "columns": list(columns.values()), "cells": cells}


def _normal(medians: Dict[Tuple[str, Column], float], hardware: Dict[str, str]) -> Dict[Tuple[str, Column], float]:
    """What is usual for a hardware: the median of its hosts' medians, where at least two hosts have one."""
    groups: Dict[Tuple[str, Column], List[float]] = {}
    for (host, column), median in medians.items():
        groups.setdefault((hardware[host], column), []).append(median)
    return {key: statistics.median(found) for key, found in groups.items() if len(found) > 1}
