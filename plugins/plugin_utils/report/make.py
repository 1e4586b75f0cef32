# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making reports: which campaigns, which formats, into which files."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign, campaigns, find_campaign
from ansible_collections.mad.engine.plugins.plugin_utils.perf_files import write_if_changed

from . import entries, judgement, markdown, page, tables
from .past import past

NEWEST = ("", "last")


class Options(NamedTuple):
    """What is asked for; empty means unset."""

    results: str
    campaigns: Sequence[str] = ()
    formats: Sequence[str] = ("html",)
    output: str = ""
    source: str = ""
    history: int = 30
    database_url: str = ""
    baseline: Any = None
    same_within: Any = None
    better: Any = None
    write: bool = True


class Answer(NamedTuple):
    """What came out: the files by format, those that changed, and what a person should know."""

    files: Dict[str, str]
    changed: List[str]
    warnings: List[str]


class _Job:
    """One call: campaigns are read once, whatever formats are asked for."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._found: List[Campaign] = []
        self._read: List[entries.Runs] = []
        self._judged: Optional[Dict[str, Any]] = None
        self.warnings: List[str] = []

    def found(self) -> List[Campaign]:
        if not self._found:
            self._found = [_campaign(self.options.results, name) for name in self.options.campaigns or ("",)]
        return self._found

    def runs(self) -> List[entries.Runs]:
        if not self._read:
            self._read = [entries.read(campaign, place) for place, campaign in enumerate(self.found())]
        return self._read

    def judged(self) -> Dict[str, Any]:
        if self._judged is None:
            options, asked = self.options, None
            if judgement.wanted(options.baseline):
                words = {name: getattr(options, name) for name in ("database_url", "same_within", "better")}
                asked = judgement.against(self.found()[-1], options.baseline, words)
            self._judged = judgement.judgement(self.runs(), asked)
        return self._judged

    def source(self) -> str:
        return os.path.abspath(os.path.expanduser(self.options.source)) if self.options.source else ""

    def output(self, default: str) -> str:
        return os.path.abspath(os.path.expanduser(self.options.output)) if self.options.output else default

    # -- formats -----------------------------------------------------------------------------------------------------------------

    def html(self) -> Tuple[str, str]:
        path, runs = self.output(self.found()[-1].report_path), self.runs()
        earlier, notes = past(runs[0], self.options.history, self.options.database_url) if len(runs) == 1 else ({}, [])
        runs[-1].notes.extend(notes)
        return path, page.render(runs, earlier, os.path.dirname(path), self.judged())

    def markdown(self) -> Tuple[str, str]:
        return self.output(self.found()[-1].path("report.md")), markdown.render(self.runs(), self.judged())

    def csv_html(self) -> Tuple[str, str]:
        path = self.source() or self.found()[-1].perf_path
        text = tables.csv_page(path)
        return self.output(path[: -len(".csv")] + ".html"), text

    def email(self) -> Tuple[str, str]:
        folder = self.source() or self.found()[-1].folder
        text, number = tables.mail(folder)
        if not number:
            self.warnings.append("there is no CSV file in %s: the mail is empty" % folder)
        return self.output(os.path.join(folder, "run_results.html")), text


FORMATS: Dict[str, Callable[[_Job], Tuple[str, str]]] = {
    "html": _Job.html,
    "markdown": _Job.markdown,
    "csv-html": _Job.csv_html,
    "email": _Job.email,
}


def make(options: Options) -> Answer:
    """Write every format asked for; a file that holds the same already is left alone."""
    formats = list(dict.fromkeys(options.formats or ("html",)))
    for name in formats:
        if name not in FORMATS:
            raise InvalidInput("mad_report_format %r: expected one of %s" % (name, ", ".join(FORMATS)))
    if options.output and len(formats) > 1:
        raise InvalidInput("mad_report_output names one file, and mad_report_format asks for %d: %s" % (len(formats), ", ".join(formats)))
    if options.source and not set(formats) & {"csv-html", "email"}:
        raise InvalidInput(
            "mad_report_source is for the formats csv-html (a CSV file) and email (a folder), not for %s" % ", ".join(formats)
        )
    job, answer = _Job(options), Answer({}, [], [])
    for name in formats:
        path, text = FORMATS[name](job)
        answer.files[name] = path
        if _write(path, text, options.write):
            answer.changed.append(path)
    answer.warnings.extend(job.warnings)
    return answer


def _write(path: str, text: str, write: bool) -> bool:
    try:
        if write:
            os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise InvalidInput("the folder of %s cannot be made: %s" % (path, error.strerror)) from error
    return write_if_changed(path, text.encode("utf-8", "replace"), write)


def _campaign(results: str, name: str) -> Campaign:
    """A campaign by name, or the newest, finished or not."""
    if name not in NEWEST:
        return find_campaign(results, name)
    known = campaigns(results)
    if not known:
        raise InvalidInput(
            "there is no campaign in %s: run mad.engine.run first, or name its folder with mad_results" % os.path.abspath(results)
        )
    return known[0]
