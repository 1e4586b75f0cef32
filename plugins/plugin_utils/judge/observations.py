# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: one number of one run, with what makes it comparable to another. Made from rows of perf.csv, whoever wrote them."""

from __future__ import annotations

import collections
import datetime
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.results import metrics
from ansible_collections.mad.engine.plugins.module_utils.results.hardware import of_cells

_NO_GPU = frozenset(("", "n/a", "none", "cpu"))


class Key(t.NamedTuple):
    """What two numbers must have in common."""

    model: str
    args: str
    metric: str
    hardware: str
    n_gpus: str
    nnodes: str
    series: int  # a run that reports the same name and metric twice: which of them


class Observation(t.NamedTuple):
    """One row. `value` is None where there is no number to compare: a failed run, a text as performance."""

    key: Key  # with metric "" for a run that failed before it had one
    base: str  # the model without the name of a row of its results
    coarse: str  # the hardware as a perf.csv without our columns tells it
    better: str
    value: float | None
    status: str
    failure_class: str
    campaign: str
    run: str
    host: str
    repeat: int
    started: float
    card: t.Mapping[str, t.Any] = {}


class Source(t.NamedTuple):
    """One side: its rows, what it is called, what could not be read, and the campaign folders it was read from."""

    name: str
    rows: list[Observation]
    warnings: list[str]
    folders: tuple[str, ...] = ()

    def exact(self) -> bool:
        """Whether every row knows the class of its hardware."""
        return all(row.key.hardware for row in self.rows if row.value is not None)

    def campaigns(self) -> list[str]:
        """Names of its campaigns, in the order of their rows."""
        return list(dict.fromkeys(row.campaign for row in self.rows))


def of_rows(cells: t.Iterable[t.Mapping[str, str]], base: str = "", card: t.Mapping[str, t.Any] | None = None) -> list[Observation]:
    """Observations of rows; those of an older attempt at the same run go. `base` and `card` are what their record says."""
    newest: dict[tuple[str, str], int] = {}
    kept: list[t.Mapping[str, str]] = []
    for row in cells:
        place = (_cell(row, "campaign"), _cell(row, "run_id"))
        if place[1]:
            newest[place] = max(newest.get(place, 0), _integer(_cell(row, "attempt")))
        kept.append(row)
    seen: collections.Counter[tuple[str, ...]] = collections.Counter()
    found = []
    for row in kept:
        place = (_cell(row, "campaign"), _cell(row, "run_id"))
        if place[1] and _integer(_cell(row, "attempt")) != newest[place]:
            continue
        same = (*place, _cell(row, "model"), _cell(row, "metric"))
        found.append(_observation(row, seen[same] if place[1] else 0, base, card or {}))
        seen[same] += 1
    return found


def coarsened(rows: t.Iterable[Observation]) -> list[Observation]:
    """The same rows with the hardware class that every perf.csv can tell."""
    return [row._replace(key=row.key._replace(hardware=row.coarse)) for row in rows]


def _observation(row: t.Mapping[str, str], series: int, base: str, card: t.Mapping[str, t.Any]) -> Observation:
    gpus, nodes = _count(_cell(row, "n_gpus")), _count(_cell(row, "nnodes")) or "1"
    status, text = _cell(row, "status").upper(), _cell(row, "performance")
    metric = _cell(row, "metric") or ("performance" if text else "")
    args = " ".join(_cell(row, "args").split())
    key = Key(_cell(row, "model"), args, metric, _cell(row, "hardware"), gpus, nodes, series)
    return Observation(
        key=key,
        base=base or key.model,
        coarse=_coarse(row, gpus, nodes),
        better=_cell(row, "better") or metrics.better(metric),
        value=metrics.number(text) if status == "SUCCESS" else None,
        status=status,
        failure_class=_cell(row, "failure_class"),
        campaign=_cell(row, "campaign"),
        run=_cell(row, "run_id"),
        host=_cell(row, "host") or _cell(row, "machine_name"),
        repeat=_integer(_cell(row, "repeat")) or 1,
        started=_moment(_cell(row, "started")),
        card=card,
    )


def _coarse(row: t.Mapping[str, str], gpus: str, nodes: str) -> str:
    """`8x gfx942`, `CPU`."""
    architecture = _cell(row, "gpu_architecture") or of_cells(row)
    if architecture.lower() in _NO_GPU or gpus in ("", "0"):
        return "CPU"
    return "%sx %s" % (gpus, architecture) + (" on %s nodes" % nodes if nodes != "1" else "")


def _cell(row: t.Mapping[str, str], name: str) -> str:
    return str(row.get(name) or "").strip()


def _count(text: str) -> str:
    """`8` for `8.0`, as pandas writes a column that has empty cells."""
    value = metrics.number(text)
    return text if value is None else "%.12g" % value


def _integer(text: str) -> int:
    value = metrics.number(text)
    return int(value) if value is not None and abs(value) < 1e9 else 0


def _moment(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
