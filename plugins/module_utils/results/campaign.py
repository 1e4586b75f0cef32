# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign folder on the controller: its names, its paths and its ledger files. No other code knows them.

    <results>/<campaign>/plan.json                    the flight plan, one run per line
    <results>/<campaign>/plans/<12 hex of host>.json  its part for one host, so that 500 hosts do not read it 500 times; made from it
    <results>/<campaign>/build_manifest.json          what was built
    <results>/<campaign>/images/                      image archives on their way to hosts
    <results>/<campaign>/runs/<run id>/attempt-N.json {"schema", "run_id", "attempt", "launch": {...}, "result": record}; launch is
                                                      written before waiting, result when the attempt has ended
    <results>/<campaign>/collected/<12 hex of host>.json  which runs' logs and artifacts came home from it
    <results>/<campaign>/runs/<run id>/result.json    the record of the newest attempt: the row of the ledger
    <results>/<campaign>/runs/<run id>/.lock, run.log, artifacts/   of that attempt; those of older ones lie in attempt-N/
    <results>/<campaign>/perf.csv, perf_entry.csv, perf_entry.json, summary.json, report.html
    <results>/<campaign>/.identity                    tells this campaign from another of the same name in another results folder
    <results>/<campaign>/comparison.json              medians of the baseline that relative_change in perf.csv refers to
    <results>/history.db, last-summary.json

Every write is atomic (temporary file, fsync, rename); a retry adds an attempt and never overwrites one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..base import files
from ..base.errors import InvalidInput, MadError
from ..base.merge import merge
from . import plan_files, run_files
from .record import plain
from .status import needs_run

# A campaign's name becomes a folder, part of container names, a label (at most 63 characters on Kubernetes) and a job name.
_CAMPAIGN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,38}[A-Za-z0-9])?\Z")
_RESERVED = frozenset(("last", "history.db", "last-summary.json"))
_RUN_ID = re.compile(r"[0-9a-f]{16}\Z")
_ATTEMPT_FILE = re.compile(r"attempt-([1-9][0-9]{0,5})\.json\Z")
LAST_SUMMARY = "last-summary.json"
HISTORY = "history.db"
_TOGETHER = 100  # files of so many runs are written at once


def check_name(name: str) -> str:
    """The name itself if it may name a campaign; else InvalidInput that says the rule."""
    if not _CAMPAIGN.match(name) or name in _RESERVED or ".." in name:
        raise InvalidInput(
            "mad_campaign %r cannot be a campaign's name: 1 to 40 letters, digits, '_', '.' or '-', a letter or digit first and last, "
            "no '..', not one of %s" % (name[:80], ", ".join(sorted(_RESERVED)))
        )
    return name


def check_run_id(run_id: str) -> str:
    """The id itself if it is one (16 hex digits); ids come from files and hosts and become paths, so each one is looked at."""
    if not isinstance(run_id, str) or not _RUN_ID.match(run_id):
        raise InvalidInput("%r is not a run id (16 hex digits)" % str(run_id)[:80])
    return run_id


def _check_attempt(attempt: Any) -> int:
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 1 <= attempt <= 999999:
        raise InvalidInput("%r is not an attempt number (1, 2, ...)" % (attempt,))
    return attempt


class Campaign:
    """One campaign folder. Making the object touches nothing; `make()` makes the folder."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self.name = check_name(os.path.basename(self.folder))
        self.results_dir = os.path.dirname(self.folder)
        self.collected = run_files.Collected(self.path("collected"))

    # -- paths ---------------------------------------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        """A path inside the folder; the parts come from this module's callers, never from a file or a host."""
        return os.path.join(self.folder, *parts)

    @property
    def plan_path(self) -> str:
        return self.path("plan.json")

    @property
    def manifest_path(self) -> str:
        return self.path("build_manifest.json")

    @property
    def images_dir(self) -> str:
        return self.path("images")

    @property
    def perf_path(self) -> str:
        return self.path("perf.csv")

    @property
    def perf_entry_path(self) -> str:
        return self.path("perf_entry.csv")

    @property
    def perf_entry_json_path(self) -> str:
        return self.path("perf_entry.json")

    @property
    def summary_path(self) -> str:
        return self.path("summary.json")

    @property
    def report_path(self) -> str:
        return self.path("report.html")

    @property
    def comparison_path(self) -> str:
        return self.path("comparison.json")

    def comparison(self) -> Dict[str, Any]:
        """comparison.json, {} where there is none that can be read: then perf.csv has no relative_change."""
        with contextlib.suppress(MadError):
            return run_files.read_dict(self.comparison_path, "the comparison") or {}
        return {}

    @property
    def diagnosis_path(self) -> str:
        return self.path("diagnosis.json")

    @property
    def last_summary_path(self) -> str:
        return os.path.join(self.results_dir, LAST_SUMMARY)

    @property
    def history_path(self) -> str:
        return os.path.join(self.results_dir, HISTORY)

    def run_dir(self, run_id: str, make: bool = False) -> str:
        """The folder of one run; `make` makes it."""
        folder = self.path("runs", check_run_id(run_id))
        if make:
            os.makedirs(folder, exist_ok=True)
        return folder

    def result_path(self, run_id: str) -> str:
        return os.path.join(self.run_dir(run_id), "result.json")

    def attempt_path(self, run_id: str, attempt: int) -> str:
        return os.path.join(self.run_dir(run_id), "attempt-%d.json" % _check_attempt(attempt))

    def log_path(self, run_id: str) -> str:
        return os.path.join(self.run_dir(run_id), "run.log")

    def exists(self) -> bool:
        """Whether a plan was saved here: without one the folder is not a campaign."""
        return os.path.isfile(self.plan_path)

    def make(self) -> Campaign:
        """Make the folder (the results folder too) and return self."""
        try:
            os.makedirs(self.path("runs"), exist_ok=True)
        except OSError as error:
            raise InvalidInput("mad_results: the campaign folder %s cannot be made: %s" % (self.folder, error.strerror)) from error
        return self

    def identity(self) -> str:
        """16 hex digits that no other campaign has, made once: hosts remember campaigns by name, and names come again (a results folder is wiped)."""
        path = self.path(".identity")
        if not os.path.exists(path):
            scratch = self.path(".identity-%s" % secrets.token_hex(8))
            files.write_atomic(scratch, secrets.token_hex(8).encode())
            with contextlib.suppress(FileExistsError):
                os.link(scratch, path)  # of two controllers one makes it
            os.unlink(scratch)
        return files.read_text(path, "the campaign's identity").strip()

    def lock(self, blocking: bool = True) -> contextlib.AbstractContextManager[bool]:
        """An exclusive flock of this campaign among controllers; yields False when not blocking and taken."""
        return files.locked(self.path(".lock"), blocking)

    def plan(self) -> Dict[str, Any]:
        """plan.json; InvalidInput when it is absent, unreadable or not a plan."""
        if not self.exists():
            raise InvalidInput("%s is no campaign: it has no plan.json; make one with mad.engine.run or check mad_campaign" % self.folder)
        plan = files.read_json(self.plan_path, "the plan")
        if not isinstance(plan, dict) or not isinstance(plan.get("runs"), list):
            raise InvalidInput("the plan %s holds no list of runs" % self.plan_path)
        for number, run in enumerate(plan["runs"], 1):
            if not isinstance(run, dict) or not _RUN_ID.match(str(run.get("id"))):
                raise InvalidInput("the plan %s is damaged: its entry %d is no run with an id of 16 hex digits" % (self.plan_path, number))
        return plan

    def save_plan(self, plan: Mapping[str, Any]) -> bool:
        """Write plan.json and its part for each host; returns whether it changed."""
        self.make()
        known = None
        if self.exists():
            with contextlib.suppress(MadError):
                known = files.read_json(self.plan_path, "the plan")
        if known == plan:
            return False
        lines = [plan_files.line(run) for run in plan["runs"]] if isinstance(plan["runs"], list) else []
        files.write_atomic(self.plan_path, plan_files.plan_text(plan, lines).encode("utf-8", "surrogateescape"))
        self._save_parts(plan, lines)
        return True

    def host_plan(self, host: str) -> Dict[str, Any]:
        """plan.json with the runs and facts of one host only, at a cost that does not grow with the number of hosts."""
        with contextlib.suppress(MadError, OSError):
            part = files.read_json(self._part_path(host), "the host's part of the plan")
            if isinstance(part, dict) and part.get("of") == self._stamp() and part.get("host") == host:
                return dict(part["plan"])
        return plan_files.part(self.plan(), host)

    def _part_path(self, host: str) -> str:
        return self.path("plans", hashlib.sha256(host.encode("utf-8", "surrogateescape")).hexdigest()[:12] + ".json")

    def _stamp(self) -> List[int]:
        """Tells one plan.json from the next: every write makes a new file."""
        known = os.stat(self.plan_path)
        return [known.st_ino, known.st_mtime_ns, known.st_size]

    def _save_parts(self, plan: Mapping[str, Any], lines: Sequence[str]) -> None:
        """A part that is missing or old costs time, never truth: so it is written without waiting for the disk."""
        own: Dict[str, List[str]] = {}
        for index, line in enumerate(lines):
            own.setdefault(plan_files.host_of(plan["runs"][index]), []).append(line)
        if len(own) < 2:
            return
        os.makedirs(self.path("plans"), exist_ok=True)
        stamp = self._stamp()
        for host in own:
            part = plan_files.plan_text(plan_files.part(dict(plan, runs=[]), host), own[host])
            text = '{"of": %s, "host": %s, "plan": %s}\n' % (plan_files.line(stamp), plan_files.line(host), part)
            temporary = self._part_path(host) + ".tmp"
            with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text)
            os.replace(temporary, self._part_path(host))

    # -- the ledger ----------------------------------------------------------------------------------------------------------

    def attempts(self, run_id: str) -> List[int]:
        """Numbers of the attempts that left a file, ascending."""
        try:
            names = os.listdir(self.run_dir(run_id))
        except FileNotFoundError:
            return []
        found = (_ATTEMPT_FILE.match(name) for name in names)
        return sorted(int(match.group(1)) for match in found if match)

    def attempt(self, run_id: str, attempt: int) -> Optional[Dict[str, Any]]:
        """The document of one attempt, None when there is none; MadError when it cannot be read."""
        return run_files.read_dict(self.attempt_path(run_id, attempt), "the attempt file")

    def launched(self, run_id: str, attempt: int) -> bool:
        """Whether a launch of this attempt was acknowledged (its ids stand in the attempt file)."""
        try:
            document = self.attempt(run_id, attempt)
        except MadError:
            return True  # something was written here: calling it never launched would start it twice
        return bool(document and (document.get("launch") or document.get("result") or document.get("run_id") != run_id))

    def next_attempt(self, run_id: str) -> int:
        """The number for the next try: one more than the newest attempt that was launched; 1 when none was."""
        known = self.attempts(run_id)
        while known and not self.launched(run_id, known[-1]):
            known.pop()
        return known[-1] + 1 if known else 1

    def save_attempt(self, document: Mapping[str, Any]) -> bool:
        """Merge `{"run_id", "attempt", "launch": {...}}` into attempt-N.json (before waiting); returns whether it changed."""
        return self.save_attempts([document])

    def save_attempts(self, documents: Sequence[Mapping[str, Any]]) -> bool:
        """The same for many; returns whether any changed."""
        for document in documents:
            check_run_id(document.get("run_id", ""))
            _check_attempt(document.get("attempt"))
        changed = False
        for some in _chunks(documents):
            with self._held([str(document["run_id"]) for document in some]) as batch:
                for document in some:
                    change = functools.partial(_merged, document)
                    changed |= self._change_attempt(batch, document["run_id"], document["attempt"], change)
        return changed

    def save_result(self, record: Mapping[str, Any]) -> bool:
        """Keep a finished record: in attempt-N.json, and as result.json unless a newer attempt stands there. Returns whether it changed.

        InvalidInput for what no reader could take: it comes from a host.
        """
        return bool(self.save_results([record]))

    def save_results(self, records: Iterable[Mapping[str, Any]]) -> List[Dict[str, Any]]:
        """The same for many, of different runs; returns those that changed. One that is none is said when the others are kept."""
        problem: Optional[InvalidInput] = None
        checked: List[Dict[str, Any]] = []
        for record in records:
            try:
                checked.append(self._checked(plain(record)))
            except InvalidInput as error:
                problem = problem or error
        changed: List[Dict[str, Any]] = []
        for some in _chunks(checked):
            with self._held([record["run_id"] for record in some]) as batch:
                changed += [record for record in some if self._keep(batch, record)]
        if problem:
            raise problem
        return changed

    def _checked(self, record: Dict[str, Any]) -> Dict[str, Any]:
        run_id, dummy = check_run_id(record.get("run_id", "")), _check_attempt(record.get("attempt"))
        if record.get("campaign") != self.name:
            raise InvalidInput("run %s belongs to campaign %r, not to %r" % (run_id, record.get("campaign"), self.name))
        run_files.check_record(record, run_id, "that was sent")
        return record

    def _keep(self, batch: files.Batch, record: Dict[str, Any]) -> bool:
        run_id, attempt, changed = record["run_id"], record["attempt"], False
        if record.get("launched") or self.launched(run_id, attempt):  # replaced as a whole: a record is never a mixture of two
            changed = self._change_attempt(batch, run_id, attempt, lambda known: dict(known, result=record))
        known = self._result_or_none(run_id) or {}
        if known.get("attempt", 0) > attempt:
            return changed
        if known and known["attempt"] < attempt:
            run_files.put_aside(self.run_dir(run_id), known["attempt"])
        return run_files.write_if_changed(batch, self.result_path(run_id), record, known) or changed

    @contextlib.contextmanager
    def _held(self, run_ids: Sequence[str]) -> Iterator[files.Batch]:
        """A batch for files of these runs. Their locks are held until they are on disk, for two controllers may work in one campaign; they
        are taken in one order, so that none waits for another."""
        with contextlib.ExitStack() as stack:
            for run_id in sorted(set(run_ids)):
                stack.enter_context(files.locked(os.path.join(self.run_dir(run_id, make=True), ".lock")))
            yield stack.enter_context(files.Batch())

    def _change_attempt(
        self, batch: files.Batch, run_id: str, attempt: int, change: Callable[[Dict[str, Any]], Dict[str, Any]]
    ) -> bool:
        try:
            known = self.attempt(run_id, attempt) or {}
        except MadError:
            known = {}  # unreadable: what we know now is better
        document = change({"schema": 1, "run_id": run_id, "attempt": attempt, **known})
        return run_files.write_if_changed(batch, self.attempt_path(run_id, attempt), document, known, functools.partial(files.json_bytes, indent=None))

    def _result_or_none(self, run_id: str) -> Optional[Dict[str, Any]]:
        with contextlib.suppress(MadError):
            return self.result(run_id)
        return None

    def result(self, run_id: str) -> Optional[Dict[str, Any]]:
        """The record of one run, None when it has no row yet.

        A result.json that cannot be read is replaced in the answer by the copy in the newest attempt file; MadError when that is
        gone too.
        """
        path = self.result_path(run_id)
        try:
            return run_files.check_record(run_files.read_dict(path, "the result"), run_id, path)
        except MadError:
            copy = self._copy_in_attempts(run_id)
            if copy is None:
                raise
            return copy

    def _copy_in_attempts(self, run_id: str) -> Optional[Dict[str, Any]]:
        for attempt in reversed(self.attempts(run_id)):
            with contextlib.suppress(MadError):
                path = self.attempt_path(run_id, attempt)
                record = run_files.check_record((self.attempt(run_id, attempt) or {}).get("result"), run_id, path)
                if record:
                    return record
        return None

    def run_ids(self) -> List[str]:
        """Ids of all runs that have a folder, sorted; anything else that lies there is not ours."""
        try:
            names = os.listdir(self.path("runs"))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _RUN_ID.match(name))

    def results(self) -> Tuple[Dict[str, Dict[str, Any]], Dict[str, str]]:
        """({run id: record}, {run id: why its result cannot be read})."""
        records: Dict[str, Dict[str, Any]] = {}
        problems: Dict[str, str] = {}
        for run_id in self.run_ids():
            try:
                record = self.result(run_id)
            except MadError as error:
                problems[run_id] = error.message
            else:
                if record is not None:
                    records[run_id] = record
        return records, problems

    def unfinished(self, rerun: str = "missing") -> List[str]:
        """Ids of planned runs that a play with this mad_rerun would run; [] for a folder whose plan cannot be read."""
        with contextlib.suppress(MadError, KeyError, TypeError):
            return [run["id"] for run in self.plan()["runs"] if needs_run(self._result_or_none(run["id"]), rerun)]
        return []


def _merged(document: Mapping[str, Any], known: Mapping[str, Any]) -> Dict[str, Any]:
    return merge(known, document)


def _chunks(entries: Iterable[Any]) -> Iterator[List[Any]]:
    """Each run once, and so few that their locks are far from any limit on open files."""
    some: Dict[str, Any] = {}
    for entry in entries:
        if len(some) == _TOGETHER or entry["run_id"] in some:
            yield list(some.values())
            some = {}
        some[entry["run_id"]] = entry
    if some:
        yield list(some.values())


def timestamp(now: Optional[float] = None) -> str:
    """The default name of a campaign: UTC, `20261122T101500Z`."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def _candidates(results: str) -> Iterator[Campaign]:
    """Campaigns below a results folder, newest plan first."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(results):
            with contextlib.suppress(InvalidInput, OSError):
                campaign = Campaign(os.path.join(results, name))
                found.append((os.stat(campaign.plan_path).st_mtime, name, campaign))
    for _when, _name, campaign in sorted(found, key=lambda entry: entry[:2], reverse=True):
        yield campaign


def campaigns(results: str) -> List[Campaign]:
    """All campaigns below a results folder, newest plan first."""
    return list(_candidates(results))


def find_campaign(results: str, name: str) -> Campaign:
    """A campaign that exists: by its name, or `last` for the newest unfinished one. Makes nothing."""
    if name != "last":
        campaign = Campaign(os.path.join(results, check_name(name)))
        if not campaign.exists():
            raise InvalidInput("there is no campaign %r in %s" % (name, os.path.abspath(results)))
        return campaign
    newest = ""
    for campaign in _candidates(results):
        if campaign.unfinished():
            return campaign
        newest = newest or campaign.name
    hint = "; the newest one, %s, is finished: name it to run it again (with mad_rerun)" % newest if newest else ""
    raise InvalidInput("mad_campaign=last: no unfinished campaign in %s%s" % (os.path.abspath(results), hint))


def open_campaign(results: str, name: str = "", now: Optional[float] = None, make: bool = True) -> Campaign:
    """The campaign to work in: a new one named by the time (no name), the newest unfinished (`last`), or the named one, new or known.

    `make` false (check mode) makes no folder.
    """
    if name == "last":
        return find_campaign(results, name)
    if name:
        campaign = Campaign(os.path.join(results, check_name(name)))
        return campaign.make() if make else campaign
    stamp = timestamp(now)
    for number in range(1, 1000):
        campaign = Campaign(os.path.join(results, stamp if number == 1 else "%s-%d" % (stamp, number)))
        if _take(campaign, make):
            return campaign
    raise InvalidInput("a thousand campaigns named %s exist in %s" % (stamp, results))


def _take(campaign: Campaign, make: bool) -> bool:
    """Take a free name: mkdir decides between two controllers in the same second."""
    if not make:
        return not os.path.lexists(campaign.folder)
    try:
        os.makedirs(campaign.results_dir, exist_ok=True)
        os.mkdir(campaign.folder)
    except FileExistsError:
        if not os.path.isdir(campaign.results_dir):
            raise InvalidInput("mad_results %s is not a folder" % campaign.results_dir) from None
        return False
    except OSError as error:
        raise InvalidInput("mad_results: the campaign folder %s cannot be made: %s" % (campaign.folder, error.strerror)) from error
    campaign.make()
    return True
