# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a campaign while it runs, out of the results of our own tasks; and the lines that tell it. No terminal, no Ansible here.

The keys that are read: docs/contracts.md, "Progress".
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.results.status import UNJUDGED

COUNTS = ("total", "done", "success", "failure", "skipped", "running", "queued")
_WORST_FIRST = {"FAILURE": 0, "SKIPPED": 1, "SUCCESS": 2}
_LONGEST_TEXT = 100
_LEAST_WAIT = 5.0  # seconds: below twice this, a wait is told once


@dataclass(frozen=True)
class Event:
    """One change: kind is started, finished, built, waiting, unreachable or back."""

    kind: str
    host: str
    model: str = ""
    run: str = ""
    status: str = ""
    detail: str = ""
    failure_class: str = ""
    seconds: float | None = None


@dataclass
class Host:
    """What was last heard of one host."""

    counts: dict[str, int] = field(default_factory=dict)
    running: dict[str, tuple[str, float]] = field(default_factory=dict)  # run id: (model, start in seconds since the epoch)
    problem: str = ""
    waits_for: tuple[str, float] = ("", 0.0)  # the lock and who has it, and the seconds of waiting when that was told last


def plain(value: Any, longest: int = _LONGEST_TEXT) -> str:
    """Text of a result as one harmless piece of a line: no control or direction characters, no newlines, not endless."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value if value is not None else "")[: longest + 1])
    return text if len(text) <= longest else text[: longest - 3] + "..."


def duration(seconds: float) -> str:
    """12s, 4m05s, 1h02m, 2d03h."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return "%dd%02dh" % (days, hours % 24)
    if hours:
        return "%dh%02dm" % (hours, minutes % 60)
    return "%dm%02ds" % (minutes, whole % 60) if minutes else "%ds" % whole


def utc(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(found: Mapping[str, Any]) -> str:
    """waiting for /var/tmp/mad-host.lock, held by pid 4711 (campaign c1), 40s: what a host answers as `waits_for`, in words."""
    return "waiting for %s%s, %s" % (plain(found.get("lock")), _holder(found), duration(_seconds(found.get("seconds")) or 0.0))


def _holder(found: Mapping[str, Any]) -> str:
    pid, campaign = _number(found.get("pid")), plain(found.get("campaign"))
    return ", held by pid %d%s" % (pid, " (campaign %s)" % campaign if campaign else "") if pid else ""


class Progress:
    """The state of one campaign. `take` and `unreachable` feed it, `events` holds what was not told yet."""

    def __init__(self) -> None:
        self.campaign = ""
        self.campaign_dir = ""
        self.resume_command = ""
        self.hosts: dict[str, Host] = {}
        self.events: list[Event] = []
        self.whole: dict[str, int] = {}  # counts of the whole campaign, from a controller step
        self.before: dict[str, int] = {}  # of those, what the plan said: rows from before this play, and this play's runs as queued or running
        self.final = False  # perf_store has judged: its counts are the truth
        self.exit_code: int | None = None
        self.table = ""
        self.again: int | None = None  # runs that the next play of this campaign does; None: nobody has counted them
        self.judged_failures = 0  # failed runs that only mad_rerun=failed does again; invalid ones fail the same way until somebody mends them
        self.resume_told = False  # the table's own last line says how to go on
        self._finished: set[tuple[str, str]] = set()

    # -- taking in --------------------------------------------------------------------------------------------------------------

    def take(self, step: str, host: str, result: Mapping[str, Any], now: float) -> None:
        """A result of the step ("container_run") for a host; keys of an unexpected form are as if they were not there."""
        for name in ("campaign", "campaign_dir", "resume_command"):
            if isinstance(result.get(name), str) and result[name]:
                setattr(self, name, result[name])
        counts = _counts(result.get("counts"))
        if step in ("campaign_plan", "campaign_info", "perf_store"):
            self._take_whole(step, counts, result)
            return
        if isinstance(result.get("built"), Sequence):
            self._take_built(host, result["built"])
        if "counts" in result or "running" in result or "ended" in result:
            known = self.hosts.setdefault(host, Host())
            known.counts = counts or known.counts
            self._heard(known, host)
            self._take_finished(known, host, _entries(result.get("ended")), now)
            self._take_running(known, host, result.get("running"), now)
            self._take_waiting(known, host, _mapping(result.get("waits_for")))

    def unreachable(self, host: str, message: str) -> None:
        """A host that runs something of ours did not answer; told once until it answers again."""
        known = self.hosts.get(host)
        if known is not None and not known.problem:
            known.problem = plain(message) or "no answer"
            self.events.append(Event("unreachable", host, detail=known.problem))

    def _heard(self, known: Host, host: str) -> None:
        if known.problem:
            known.problem = ""
            self.events.append(Event("back", host))

    def _take_whole(self, step: str, counts: dict[str, int], result: Mapping[str, Any]) -> None:
        self.whole = {**self.whole, **counts}
        if step == "campaign_plan":
            self.before = counts
        if step == "perf_store":
            self.final = bool(counts)
            self.exit_code = result["exit_code"] if isinstance(result.get("exit_code"), int) else None
            self.table = plain(result.get("table"), 1000)
            self._take_rest(result)

    def _take_rest(self, result: Mapping[str, Any]) -> None:
        """What the next play would do, and what it would not."""
        found = _mapping(result.get("mad_summary"))
        self.again = _number(found.get("again"))
        judged = [count for name, count in _mapping(found.get("classes")).items() if name not in (*UNJUDGED, "invalid")]
        self.judged_failures = sum(_number(count) or 0 for count in judged)
        lines = result.get("lines")
        told = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        self.resume_told = bool(self.resume_command) and any(self.resume_command in line for line in told)

    def _take_built(self, host: str, built: Sequence[Any]) -> None:
        for entry in _entries(built):
            name, status = plain(entry.get("model") or entry.get("image")), plain(entry.get("status"))
            seconds = _seconds(entry.get("seconds"))
            self.events.append(Event("built", host, name, status=status, detail=plain(entry.get("reason")), seconds=seconds))

    def _take_finished(self, known: Host, host: str, finished: list[Mapping[str, Any]], now: float) -> None:
        for entry in finished:
            run = plain(entry.get("run"))
            model, started = known.running.pop(run, (plain(entry.get("model")), None))
            if (host, run) in self._finished:
                continue
            self._finished.add((host, run))
            failure_class = plain(entry.get("failure_class"))
            detail = plain(entry.get("metric")) or failure_class
            seconds = _seconds(entry.get("seconds"))
            if seconds is None and started is not None:
                seconds = now - started  # until somebody noticed
            self.events.append(Event("finished", host, model, run, plain(entry.get("status")), detail, failure_class, seconds))

    def _take_running(self, known: Host, host: str, running: Any, now: float) -> None:
        if not isinstance(running, list):
            return
        now_running: dict[str, tuple[str, float]] = {}
        for entry in _entries(running):
            run, model = plain(entry.get("run")), plain(entry.get("model"))
            if run not in known.running:
                self.events.append(Event("started", host, model, run))
            now_running[run] = (model, now - (_seconds(entry.get("seconds")) or 0.0))
        known.running = now_running

    def _take_waiting(self, known: Host, host: str, found: Mapping[str, Any]) -> None:
        """A host whose lock another campaign has: told at first, when somebody else has it, and each time the waiting has doubled."""
        if not found:
            known.waits_for = ("", 0.0)
            return
        holder, seconds = plain(found.get("lock")) + _holder(found), _seconds(found.get("seconds")) or 0.0
        if holder != known.waits_for[0] or seconds >= 2 * known.waits_for[1]:
            known.waits_for = (holder, max(seconds, _LEAST_WAIT))
            self.events.append(Event("waiting", host, detail=waiting(found)))

    # -- asking -----------------------------------------------------------------------------------------------------------------

    def left(self) -> bool:
        """Whether the next play of this campaign has something to do."""
        if not self.final or self.resume_told:
            return True
        return self.whole.get("done") != self.whole.get("total") if self.again is None else self.again > 0

    @property
    def started(self) -> bool:
        """Whether anything of the campaign may be running on a host."""
        return any(host.running or host.counts for host in self.hosts.values())

    def counts(self) -> dict[str, int]:
        """Of the whole campaign: what the controller said, brought up to date by what the hosts said since.

        A host counts the runs of this play only; what had its row before, and what no host executes, is only in the plan's counts.
        """
        nothing, running = dict.fromkeys(COUNTS, 0), len(self.running())
        if self.final:
            pending = self.whole.get("running", 0)
            return {**nothing, **self.whole, "running": min(running, pending), "queued": max(0, pending - running)}
        if not self.hosts:
            return {**nothing, **self.whole}
        summed = {name: sum(host.counts.get(name, 0) for host in self.hosts.values()) for name in COUNTS}
        before = {**nothing, **self.before}
        found = {name: summed[name] + before[name] for name in ("done", "success", "failure", "skipped")}
        unheard = before["queued"] + before["running"] - summed["done"] - running
        queued = max(summed["queued"], unheard)
        return {**found, "total": max(summed["total"], self.whole.get("total", 0)), "running": running, "queued": queued}

    def running(self) -> list[tuple[str, str, str, float]]:
        """(host, model, run, start), the longest first."""
        found = [(name, model, run, start) for name, host in self.hosts.items() for run, (model, start) in host.running.items()]
        return sorted(found, key=lambda entry: (entry[3], entry[0], entry[2]))

    # -- telling ----------------------------------------------------------------------------------------------------------------

    def tell(self, limit: int) -> list[str]:
        """The changes since the last call, one line each; above `limit` of them, what went well is only counted."""
        events, self.events = self.events, []
        if len(events) <= limit:
            return [_line(event) for event in events]
        lines = _summed(events)
        bad = sorted((event for event in events if _is_bad(event)), key=lambda event: event.kind)
        kept = bad[: max(0, limit - len(lines) - 1)]
        lines += [_line(event) for event in kept]
        if len(bad) > len(kept):
            lines.append("... and %d more failures and silent hosts, see %s" % (len(bad) - len(kept), self.campaign_dir or "the results"))
        return lines

    def summary(self, now: float) -> str:
        """17 of 60 runs done (15 ok, 2 failed, 0 skipped), 6 running on 6 hosts, 37 queued; longest: model on n3 for 1h02m."""
        counts = self.counts()
        running = self.running() if counts["running"] else []
        text = "{done} of {total} runs done ({success} ok, {failure} failed, {skipped} skipped)".format(**counts)
        if running:
            text += ", %d running on %s" % (len(running), _hosts(len({entry[0] for entry in running})))
        if counts["queued"]:
            text += ", %d queued" % counts["queued"]
        silent = sum(1 for host in self.hosts.values() if host.problem)
        if silent:
            text += ", %s silent" % _hosts(silent)
        if running:
            host, model, _run, start = running[0]
            text += "; longest: %s on %s for %s" % (model, host, duration(now - start))
        return text


def _hosts(number: int) -> str:
    return "%d host%s" % (number, "" if number == 1 else "s")


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping):
        return {}
    return {name: value[name] for name in COUNTS if isinstance(value.get(name), int) and not isinstance(value[name], bool)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, (list, tuple)) else []


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e10 else None


def _is_bad(event: Event) -> bool:
    return event.kind == "unreachable" or event.status == "FAILURE"


def _line(event: Event) -> str:
    took = " in %s" % duration(event.seconds) if event.seconds is not None else ""
    detail = ": " + event.detail if event.detail else ""
    if event.kind == "started":
        return "%s: started %s (run %s)" % (event.host, event.model, event.run)
    if event.kind == "finished":
        return "%s: %s %s%s%s (run %s)" % (event.host, event.status, event.model, took, detail, event.run)
    if event.kind == "built":
        verb = {"SUCCESS": "built", "SKIPPED": "image unchanged:", "FAILURE": "BUILD FAILED:"}.get(event.status, event.status)
        return "%s: %s %s%s%s" % (event.host, verb, event.model, "" if event.status == "SKIPPED" else took, detail)
    if event.kind == "waiting":
        return "%s: %s" % (event.host, event.detail)
    if event.kind == "unreachable":
        return "%s: does not answer, its runs go on: %s" % (event.host, event.detail)
    return "%s: answers again" % event.host


_KINDS = {
    "built": "images",
    "started": "runs started",
    "finished": "runs finished",
    "waiting": "hosts wait for their machine lock",
    "unreachable": "hosts do not answer",
    "back": "hosts answer again",
}


def _summed(events: Sequence[Event]) -> list[str]:
    """One line per kind of change."""
    groups = {kind: [event for event in events if event.kind == kind] for kind in _KINDS}
    return [_sum_line(kind, found) for kind, found in groups.items() if found]


def _sum_line(kind: str, events: Sequence[Event]) -> str:
    """413 runs finished on 100 hosts: 13 FAILURE, 400 SUCCESS (oom 8, timeout 5)."""
    text = "%d %s" % (len(events), _KINDS[kind])
    hosts = len({event.host for event in events})
    if hosts > 1 and kind in ("built", "started", "finished"):
        text += " on %d hosts" % hosts
    statuses = Counter(event.status for event in events if event.status)
    if statuses:
        ordered = sorted(statuses, key=lambda status: (_WORST_FIRST.get(status, 3), status))
        text += ": " + ", ".join("%d %s" % (statuses[status], status) for status in ordered)
    classes = Counter(event.failure_class for event in events if event.failure_class)
    return text + (" (%s)" % ", ".join("%s %d" % pair for pair in classes.most_common()) if classes else "")
