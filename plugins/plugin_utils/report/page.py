# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page: one HTML file that needs no network, executes nothing that a model printed, and says in a policy that it does neither.

Data stands in elements that no browser executes; the page's own script and style are named by their hashes in its Content-Security-Policy,
so that anything else that got in would not run either.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ansible_collections.mad.engine.plugins.plugin_utils.table import signed

from . import details, entries
from .document import document, embedded
from .entries import Runs
from .judgement import judgement
from .series import Past

ASSETS = os.path.join(os.path.dirname(__file__), "assets")
STYLES = ("uplot/uPlot.min.css", "report.css")
SCRIPTS = (
    *("uplot/uPlot.iife.min.js", "data.js", "elements.js", "state.js", "judgement.js", "overview.js", "charts.js", "models.js", "fleet.js"),
    *("runs.js", "detail.js", "main.js"),
)


def render(campaigns: Sequence[Runs], past: Past, folder: str, judged: Optional[Mapping[str, Any]] = None) -> str:
    """The whole page; `folder` is where it will lie. The same campaigns give the same page."""
    style, script = _joined(STYLES), _joined(SCRIPTS)
    found = [(runs, entry) for runs in campaigns for entry in runs.entries]
    told = judged or judgement(campaigns)
    template = _environment().get_template("report.html.j2")
    return template.render(
        title=_title([runs.campaign.name for runs in campaigns]),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(embedded({**document(campaigns, past, folder), **told})),
        chunks=[Markup(chunk) for chunk in details.packed(found)],
        comparisons=told["comparisons"],
        **_summary(campaigns),
    )


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else "%d campaigns: %s to %s" % (len(names), names[0], names[-1])


def _summary(campaigns: Sequence[Runs]) -> Dict[str, Any]:
    """What also a reader without JavaScript sees."""
    every = [entry for runs in campaigns for entry in runs.entries]
    failed = [
        (entry.record["model"], entry.host, entry.failure_class, entry.record["reason"]) for entry in every if entry.status == "FAILURE"
    ]
    return {"counts": entries.counts(every), "classes": entries.classes(every), "planned": len(every), "failed": failed[:50]}


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["moment"] = moment
    made.filters["signed"] = signed
    return made


def moment(seconds: Any) -> str:
    """A time for people, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if isinstance(seconds, (int, float)) else ""


def _joined(names: Sequence[str]) -> str:
    parts: List[str] = []
    for name in names:
        with open(os.path.join(ASSETS, name), encoding="utf-8") as stream:
            parts.append(stream.read().strip())
    return "\n".join(parts)


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere; one style and one script run, known by their hashes."""
    hashes: Tuple[str, str] = (_hash(style), _hash(script))
    return "default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'" % hashes


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
