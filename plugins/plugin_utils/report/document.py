# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of a report: one compact JSON document that the page filters, sorts and draws.

Ten thousand runs have to stay fluid, so it is columns: texts stand once in a list and are meant by their number.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.mad.engine.plugins.plugin_utils.summary import resume_command

from . import entries as known
from .details import CHUNK, compact
from .entries import Entry, Runs
from .fleet import fleet
from .series import Past, series

SCHEMA = 1
_REASON = 200  # characters in the table; the run's page has all of it


class Texts:
    """Texts that stand once each."""

    def __init__(self) -> None:
        self.all: List[str] = []
        self._places: Dict[str, int] = {}

    def place(self, text: str) -> int:
        """The number of a text."""
        found = self._places.get(text)
        if found is None:
            found = self._places[text] = len(self.all)
            self.all.append(text)
        return found


def document(campaigns: Sequence[Runs], past: Past, folder: str) -> Dict[str, Any]:
    """Everything but the details; `folder` is where the page will lie, so that it can point at logs."""
    found = [entry for runs in campaigns for entry in runs.entries]
    names = [runs.campaign.name for runs in campaigns]
    texts = Texts()
    return {
        "schema": SCHEMA,
        "chunk": CHUNK,
        "campaigns": [_campaign(runs, folder) for runs in campaigns],
        "runs": _runs(found, texts),
        "series": series(found, names, past),
        "fleet": fleet(found),
        "texts": texts.all,
    }


def _campaign(runs: Runs, folder: str) -> Dict[str, Any]:
    plan, repo = runs.plan, runs.plan.get("repo") or {}
    times = [entry.record["timings"] for entry in runs.entries]
    started = [time["started"] for time in times if time["started"] is not None]
    finished = [time["finished"] for time in times if time["finished"] is not None]
    return {
        "name": runs.campaign.name,
        "folder": runs.campaign.folder,
        "logs": os.path.relpath(runs.campaign.folder, folder) if _near(runs.campaign.folder, folder) else "",
        "created": plan.get("created"),
        "started": min(started, default=None),
        "finished": max(finished, default=None),
        "version": str(plan.get("version") or ""),
        "repository": str(repo.get("path") or ""),
        "commit": str(repo.get("commit") or ""),
        "dirty": bool(repo.get("dirty")),
        "resume": resume_command(plan, runs.campaign.name),
        "notes": runs.notes,
    }


def _near(campaign: str, folder: str) -> bool:
    """Whether the page lies in the campaign's folder or beside it: only then do its links survive a copy of the results folder."""
    return os.path.abspath(folder) in (campaign, os.path.dirname(campaign)) or os.path.dirname(folder) == os.path.dirname(campaign)


def _runs(found: Sequence[Entry], texts: Texts) -> Dict[str, List[Any]]:
    columns: Dict[str, List[Any]] = {}
    for entry in found:
        for name, value in _line(entry, texts):
            columns.setdefault(name, []).append(value)
    return columns


def _line(entry: Entry, texts: Texts) -> Iterable[Tuple[str, Any]]:
    record, row, first = entry.record, entry.row, entry.results[0] if entry.results else None
    times, place = record["timings"], texts.place
    yield "campaign", entry.campaign
    yield "id", entry.run_id
    yield "attempt", record["attempt"]
    yield "repeat", record["repeat"]
    yield "model", place(str(record["model"]))
    yield "host", place(entry.host)
    yield "target", place(str((record["place"] or {}).get("target") or ""))
    yield "runtime", place(row["runtime"])
    yield "hardware", place(entry.hardware)
    yield "gpus", record["gpus"].get("count")
    yield "tags", [place(str(tag)) for tag in _tags(record)]
    yield "status", known.STATUSES.index(entry.status)
    yield "class", place(entry.failure_class)
    reason = str(record["reason"])
    yield "reason", place(reason if len(reason) <= _REASON else reason[: _REASON - 1] + "\u2026")
    yield "value", first.value if first else None
    yield "text", place(first.text if first else "")
    yield "unit", place(first.unit if first else "")
    yield "results", len(entry.results)
    yield "started", times["started"]
    yield "seconds", times["run"]
    yield "queue", times["queue"]


def _tags(record: Mapping[str, Any]) -> List[Any]:
    found = (record["card"] or {}).get("tags") or []
    return found.split(",") if isinstance(found, str) else list(found)


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element of HTML: nothing in it ends the element or begins a comment."""
    text = compact(value)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, "\\u%04x" % ord(character))
    return text
