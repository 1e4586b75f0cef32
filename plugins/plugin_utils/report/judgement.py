# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What compare and diagnose said of the shown campaigns, out of their folders or asked anew against a baseline; never judged a second way."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.judge import kept

from .entries import PENDING, Entry, Runs

Document = Mapping[str, Any]
VERDICTS = ("regressed", "inconclusive", "improved", "same")  # in the order in which people want to see them
_TEXTS = ("model", "args", "metric", "hardware", "better", "reason")
_STALE = "%s when the campaign had other results than now: run mad.engine.%s again"


def against(campaign: Campaign, baseline: Any, words: Mapping[str, Any]) -> Dict[str, Any]:
    """The comparison of a campaign with what a person names, as compare would say it now; nothing is written but the report."""
    from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked  # numpy and scipy take a moment to load

    given = {**words, "results": campaign.results_dir, "baseline": baseline, "candidate": [campaign.folder]}
    answer = asked.compare({**given, "relative_change": False}, write=False)
    return kept.comparison(answer._replace(candidate=campaign.name), asked.rules_of(given).margin)


def judgement(campaigns: Sequence[Runs], asked_now: Optional[Document] = None) -> Dict[str, Any]:
    """{"comparisons": [...], "diagnoses": [...]} for the page; one that several campaigns share is told once."""
    of = {result.model: str(entry.record["model"]) for runs in campaigns for entry in runs.entries for result in entry.results}
    comparisons: List[Tuple[Document, bool]] = [(asked_now, False)] if asked_now else []
    diagnoses: List[Tuple[Document, bool]] = []
    for runs in campaigns:
        now = kept.state(entry.record for entry in runs.entries if _has_result(runs.campaign, entry))
        for document, place in ((runs.campaign.comparison(), comparisons), (kept.diagnosis_of(runs.campaign), diagnoses)):
            if document and not (place is comparisons and asked_now):
                place.append((document, document.get("results") != now))
    return {
        "comparisons": _once([_comparison(document, stale, of) for document, stale in comparisons if "comparisons" in document]),
        "diagnoses": _once([_diagnosis(document, stale) for document, stale in diagnoses]),
    }


def _has_result(campaign: Campaign, entry: Entry) -> bool:
    return entry.status != PENDING and os.path.exists(campaign.result_path(entry.run_id))


def _once(found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    return [one for place, one in enumerate(found) if one not in found[:place]]


# -- files may be anything: what is no such thing is left out ----------------------------------------------------------------------


def _comparison(document: Document, stale: bool, of: Mapping[str, str]) -> Dict[str, Any]:
    lines = [_verdict(entry, of) for entry in _dicts(document.get("comparisons")) if entry.get("verdict") in VERDICTS]
    lines.sort(key=lambda line: VERDICTS.index(line["verdict"]))
    return {
        "baseline": _text(document.get("baseline")),
        "candidate": _text(document.get("candidate")),
        "margin": _number(document.get("margin")),
        "lines": lines,
        "notes": _notes(document, stale, "compared", "compare"),
    }


def _verdict(entry: Mapping[str, Any], of: Mapping[str, str]) -> Dict[str, Any]:
    sides = {name: entry[name] if isinstance(entry.get(name), dict) else {} for name in ("baseline", "candidate")}
    told: Dict[str, Any] = {name: _text(entry.get(name)) for name in _TEXTS}
    told.update({name: _number(entry.get(name)) for name in ("effect", "low", "high", "confidence", "repeats_needed")})
    told["medians"] = [_number(side.get("median")) for side in sides.values()]
    told["runs"] = [_number(side.get("runs")) for side in sides.values()]
    told["declared"] = "reference" in sides["baseline"]
    return {**told, "verdict": entry["verdict"], "of": of.get(told["model"], told["model"])}


def _diagnosis(document: Document, stale: bool) -> Dict[str, Any]:
    hosts = _dicts(document.get("hosts"))
    counts = document.get("counts")
    return {
        "candidate": _text(document.get("candidate")),
        "counts": {str(name): count for name, count in counts.items() if isinstance(count, int) and count} if isinstance(counts, dict) else {},
        "hosts": [_host(entry) for entry in hosts if entry.get("bad")],
        "unjudged": [_text(entry.get("host")) for entry in hosts if entry.get("verdict") == "unjudged"],
        "why": next((_text(entry.get("reason")) for entry in hosts if entry.get("verdict") == "unjudged"), ""),
        "notes": _notes(document, stale, "diagnosed", "diagnose"),
    }


def _host(entry: Mapping[str, Any]) -> Dict[str, Any]:
    evidence = [
        {
            **{name: _text(one.get(name)) for name in ("kind", "model", "args", "metric")},
            **{name: _number(one.get(name)) for name in ("deviation", "value", "usual", "runs", "hosts")},
        }
        for one in _dicts(entry.get("evidence"))
    ]
    return {**{name: _text(entry.get(name)) for name in ("host", "hardware", "verdict")}, "evidence": evidence}


def _notes(document: Document, stale: bool, what: str, playbook: str) -> List[str]:
    warnings = document.get("warnings")
    notes = [_text(note) for note in warnings] if isinstance(warnings, list) else []
    return [_STALE % (what, playbook), *notes] if stale else notes


def _dicts(value: Any) -> List[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> Optional[float]:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def wanted(baseline: Any) -> bool:
    """Whether a person named something to compare with."""
    return not scalars.is_unset(baseline)
