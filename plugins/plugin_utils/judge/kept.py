# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign's folder keeps of its judgement: comparison.json and diagnosis.json, which the report shows (docs/contracts.md, "Judgement")."""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_value
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils import perf_files

SCHEMA = 1


def state(records: t.Iterable[t.Mapping[str, t.Any]]) -> str:
    """What the results of a campaign were when they were judged: with another attempt or another run it is another text."""
    return hash_value(sorted([str(record["run_id"]), int(record["attempt"])] for record in records))[:16]


def comparison(answer: t.Any, margin: float) -> dict[str, t.Any]:
    """What is kept of an answer of perf_compare (asked.Answer)."""
    told = {"baseline": answer.baseline, "candidate": answer.candidate, "margin": margin}
    return {"schema": SCHEMA, **told, "counts": answer.counts, "comparisons": answer.entries, "warnings": answer.warnings}


def diagnosis(answer: t.Any) -> dict[str, t.Any]:
    """What is kept of an answer of fleet_diagnose (diagnosed.Answer)."""
    return {"schema": SCHEMA, "candidate": answer.source, "counts": answer.counts, "hosts": answer.hosts, "warnings": answer.warnings}


def keep_diagnosis(folders: t.Sequence[str], document: t.Mapping[str, t.Any], write: bool) -> tuple[bool, list[str]]:
    """(whether a diagnosis.json changed, what could not be written). A diagnosis is worth having without it: that is a warning."""
    changed, warnings = False, []
    for folder in folders:
        campaign = Campaign(folder)
        try:
            with locked(campaign, write):
                told = {**document, "results": state(campaign.results()[0].values())}
                changed |= put(campaign.diagnosis_path, told, write)
        except MadError as error:
            warnings.append("the diagnosis is not kept for the report: %s" % error.message)
    return changed, warnings


def diagnosis_of(campaign: Campaign) -> dict[str, t.Any]:
    """What keep_diagnosis wrote, {} where there is nothing that can be read."""
    with contextlib.suppress(MadError):
        found = files.read_json(campaign.diagnosis_path, "the diagnosis")
        return found if isinstance(found, dict) else {}
    return {}


@contextlib.contextmanager
def locked(campaign: Campaign, write: bool) -> t.Iterator[None]:
    """Of two controllers one writes after the other; who only looks waits for nobody."""
    try:
        with campaign.lock() if write else contextlib.nullcontext():
            yield
    except OSError as error:
        raise InvalidInput("the campaign folder %s cannot be written: %s" % (campaign.folder, error.strerror)) from error


def put(path: str, document: t.Mapping[str, t.Any], write: bool) -> bool:
    """Write a document unless the file holds just this."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, default=float) + "\n"
    return perf_files.write_if_changed(path, text.encode("utf-8", "surrogateescape"), write)
