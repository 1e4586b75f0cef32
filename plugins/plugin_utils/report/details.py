# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page of one run shows beyond its line in the table: reason, log, environment, provenance, the command to repeat it.

Thousands of these are large and few of them are looked at, so they travel compressed, CHUNK runs together; the page unpacks a chunk when
one of its runs is opened.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.mad.engine.plugins.module_utils.base.quoting import quote_argv
from ansible_collections.mad.engine.plugins.module_utils.models import tags
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.perf import clean
from ansible_collections.mad.engine.plugins.module_utils.results.record import plain

from .entries import Entry, Runs

Asked = Mapping[str, Sequence[tags.Tag]]

CHUNK = 64
_BUDGET = 12 << 20  # bytes of log in one report, before compression
_WEIGHT = {"FAILURE": 4, "SUCCESS": 1}  # whose log is read when something is wrong
_MOST = {"FAILURE": 16 << 10, "SUCCESS": 4 << 10}
_LONGEST_LINE = 500
_UNCLEAN = re.compile(rb"[^\t\n\x20-\x7e]")  # what needs a second look
_HOST_FACTS = ("hostname", "kernel", "os", "python", "cpu", "memory_bytes", "numa_balancing", "gpu", "engines")


def budgets(entries: Sequence[Entry]) -> Dict[str, int]:
    """Bytes of log that a run of each status may bring, so that a report of any size stays one that opens."""
    shares = sum(_WEIGHT.get(entry.status, 0) for entry in entries) or 1
    return {status: min(_MOST[status], weight * _BUDGET // shares) for status, weight in _WEIGHT.items()}


def packed(found: Sequence[Tuple[Runs, Entry]]) -> Iterator[str]:
    """The details of all runs, in order, as base64 of zlib streams of JSON lists of CHUNK runs."""
    limits = budgets([entry for dummy, entry in found])
    asked = {place: asked_by(runs.plan) for place, runs in {id(runs): runs for runs, dummy in found}.items()}
    for start in range(0, len(found), CHUNK):
        part = [details(runs, entry, limits.get(entry.status, 0), asked[id(runs)]) for runs, entry in found[start : start + CHUNK]]
        yield base64.b64encode(zlib.compress(compact(part).encode("utf-8"), 6)).decode("ascii")


def compact(value: Any) -> str:
    """JSON without blanks. Most values are fit for it as they are, and looking at each of them takes longer than writing it."""
    form: Dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    try:
        text = json.dumps(value, **form)
        text.encode("utf-8")
        return text
    except ValueError:  # a NaN in a damaged file, half a character in a name
        return json.dumps(plain(value), **form)


def details(runs: Runs, entry: Entry, limit: int, asked: Optional[Asked] = None) -> Dict[str, Any]:
    """Everything that the page of one run shows; empty parts are left out."""
    record, run = entry.record, entry.run
    lines, note = log_tail(runs.campaign, record, limit)
    found = {
        "reason": record["reason"],
        "notes": record["notes"],
        "errors": [[error["number"], error["line"]] for error in record["errors"]],
        "log": lines,
        "log_note": note,
        "log_bytes": record["files"].get("log_bytes"),
        "artifacts": record["files"].get("artifacts"),
        "metrics": [[result.model, result.text, result.unit, result.better] for result in entry.results],
        "extra": [metric.get("extra") or {} for metric in record["metrics"]] if any(m.get("extra") for m in record["metrics"]) else [],
        "args": record["args"].strip(),
        "command": quote_argv((run.get("command") or {}).get("argv") or ()),
        "env": run.get("env"),
        "secret_env": run.get("secret_env"),
        "options": quote_argv(run.get("options") or ()),
        "image": record["image"],
        "provenance": provenance(runs, entry),
        "launcher": record["launcher"],
        "timings": record["timings"],
        "exit_code": record["exit_code"],
        "gpus": record["gpus"],
        "cpus": record["cpus"],
        "place": record["place"],
        "target": record["target"],
        "host": {key: record["host"][key] for key in _HOST_FACTS if key in record["host"]},
        "repeat": repeat_command(runs, entry, asked),
        "attempts": _attempts(runs.campaign, record),
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


def provenance(runs: Runs, entry: Entry) -> Dict[str, Any]:
    """Which code this was."""
    record, repo = entry.record, runs.plan.get("repo") or {}
    return {
        "run_id": record["run_id"],
        "attempt": record["attempt"],
        "repository": repo.get("path") or "",
        "repository_commit": record["repo_commit"] or repo.get("commit") or "",
        "repository_has_changes": bool(record["dirty"] or repo.get("dirty")),
        "model_commit": record["git_commit"],
        "mad_engine": str(runs.plan.get("version") or ""),
        "judged_by": record["source"],
    }


def _attempts(campaign: Campaign, record: Mapping[str, Any]) -> List[List[Any]]:
    """Earlier attempts: number, status, class, reason."""
    found = []
    for number in campaign.attempts(record["run_id"]) if record["attempt"] > 1 else ():
        if number != record["attempt"]:
            try:
                older = (campaign.attempt(record["run_id"], number) or {}).get("result")
            except ValueError:
                older = None
            known = older if isinstance(older, dict) else {}
            found.append([number, *(str(known.get(key) or "") for key in ("status", "failure_class", "reason"))])
    return found


# -- the log -----------------------------------------------------------------------------------------------------------------------


def log_tail(campaign: Campaign, record: Mapping[str, Any], limit: int) -> Tuple[List[str], str]:
    """(last lines of run.log within `limit` bytes, what is left out); without a log the excerpt in the record."""
    data, size = _end_of(campaign.log_path(record["run_id"]), limit)
    if not data:
        lines = list(record["log_excerpt"]) if limit else []
        return lines, "the last lines, as the record keeps them" if lines else ""
    raw = data.split(b"\n")
    whole = len(data) == size
    if not whole and len(raw) > 1:
        raw = raw[1:]  # its beginning is cut off
    if raw and not raw[-1]:
        raw.pop()
    unclean = _UNCLEAN.search(data)
    lines = [_shortened(clean(line.rstrip(b"\r").rpartition(b"\r")[2]) if unclean else line.decode("ascii")) for line in raw]
    return lines, "" if whole else "the last %d lines of %s bytes" % (len(lines), format(size, ",d"))


def _end_of(path: str, limit: int) -> Tuple[bytes, int]:
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - limit))
            return stream.read(limit) if limit else b"", size
    except OSError:
        return b"", 0


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " ... (%d characters)" % len(line)


# -- the command -------------------------------------------------------------------------------------------------------------------


def asked_by(plan: Mapping[str, Any]) -> Asked:
    """The tags that a plan was made with, by the words that models share with them."""
    found: Dict[str, List[tags.Tag]] = {}
    for text in (plan.get("options") or {}).get("tags") or ():
        tag = tags.parse(str(text))
        for word in tag.words:
            found.setdefault(word, []).append(tag)
    return found


def repeat_command(runs: Runs, entry: Entry, asked: Optional[Asked] = None) -> str:
    """The command line that makes this run again, in a campaign of its own: the play's own words, for one model and one host."""
    plan, model = runs.plan, str(entry.record["model"])
    words = [str(word) for word in plan.get("command") or ("ansible-playbook", "mad.engine.run")]
    if runs.hosts > 1:
        words += ["--limit", entry.host]
    if not (plan.get("options") or {}).get("manifest"):
        words += ["-e", "mad_tags=" + model + _extras(asked_by(plan) if asked is None else asked, entry.record)]
    if int((plan.get("options") or {}).get("repeats") or 1) > 1:
        words += ["-e", "mad_repeats=1"]
    return quote_argv(words)


def _extras(asked: Asked, record: Mapping[str, Any]) -> str:
    """The arguments that the tag which chose this run gave it, as the tag says them. They stand at the end of the card's."""
    card, model = record["card"] or {}, str(record["model"])
    labels = list(card.get("tags") or ())
    possible = [tag for word in (model, *labels, "all") for tag in asked.get(word, ()) if tag.matches(model, labels)]
    fitting = [tag for tag in possible if str(card.get("args") or "").endswith(tag.args)] or possible[:1]
    return "".join(":" + part for part in max(fitting, key=lambda tag: len(tag.args)).extras) if fitting else ""
