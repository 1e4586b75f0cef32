# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner: one process per campaign folder, detached on the inventory host. It makes the Jobs, follows all of them by one watch per kind of object,
reads their logs, and writes the same files as the supervisor of a host.

It may be killed at any moment: the Jobs go on, and the next runner finds them by their labels. Threads: one per watch, one per log that is being
read, a few workers that talk to the API server; everything is decided in the main thread.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

from ..base import files, work_folder
from ..base.errors import MadError
from ..host import ending, host_state, processes
from ..host.host_state import HostFolder
from ..host.supervisor import detach, write_quickly
from ..results import record
from . import k8s_judge, k8s_names
from .k8s_client import Api, ApiError, Connection
from .k8s_ending import PodEnding, nodes_of, outcome_of
from .k8s_feed import Feed, News
from .k8s_judge import Fault
from .k8s_trial import Settings, Trial, objects_path

HEARTBEAT = 10.0
_TICK = 1.0  # seconds between looks at what only time changes
_GATHER = 0.05  # seconds from one look to the next: in between news gather, for each look takes the interpreter from the threads that do the work
_WORKERS = 4  # more of them cost more time at the interpreter's lock than they win
_STREAMS = 256  # logs that are read at the same time; the others wait for their turn
_CRASHES = 3  # tries of a worker before its error ends the attempt

Object = Dict[str, Any]


class Runner:
    """Runs the list of one folder. `main()` returns when nothing is left to run or to be waited for."""

    def __init__(self, folder: HostFolder) -> None:
        self.folder = folder
        self.settings = folder.settings()
        self.connection = Connection.of(self.settings)
        self.own_lock: Optional[int] = None
        self.trials: Dict[str, Trial] = {}  # by run id
        self.by_job: Dict[str, Trial] = {}  # by the Job's name
        self.pending: List[Any] = []  # [(run, attempt number)]
        self.version = -1
        self.news: queue.SimpleQueue[Optional[News]] = queue.SimpleQueue()  # a signal handler may put into it
        self.machines: Dict[str, Any] = {}  # node -> facts, {} where nobody may look
        self.fruitless: Dict[str, int] = {}
        self.synced: Set[str] = set()
        self.listed_jobs: Dict[str, Object] = {}
        self.listed_pods: List[Object] = []
        self.told_to_stop = False
        self.writing = threading.Lock()  # records are computed one at a time: several threads would only wait for the interpreter in turns
        self.last_beat = self.last_round = 0.0
        self.over: Dict[str, int] = {}  # run id -> the attempt that was its last one
        self.dirty: Set[str] = set()  # runs that something happened to; the others are looked at once a tick
        self.feeds: List[Feed] = []
        self.fatal: Optional[ApiError] = None

    def main(self) -> bool:
        """Take the folder and run; False when another runner has it."""
        self.own_lock = host_state.try_lock(self.folder.file("supervisor.lock"))
        if self.own_lock is None:
            return False
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, lambda number, frame: self.wake())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending.reserve_space(self.folder)
        self._look()
        self.api = Api(self.connection)
        self._watch()
        gc.freeze()  # what is here stays
        gc.set_threshold(20000, 20, 50)  # thousands of the cluster's objects are kept while their Jobs run, and none of them is in a cycle
        self.workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="worker")
        self.readers = ThreadPoolExecutor(_STREAMS, thread_name_prefix="log")
        while self._step():
            time.sleep(_GATHER)
            self._hear(_TICK)
        self._leave()
        return True

    def _on_term(self, dummy_number: int, dummy_frame: Any) -> None:
        self.told_to_stop = True
        self.wake()

    def wake(self) -> None:
        """Look at everything at once."""
        self.last_round = 0.0
        self.news.put(None)

    def touch(self, run_id: str) -> None:
        """Something happened to a run; called by other threads."""
        self.dirty.add(run_id)
        self.news.put(None)

    # -- what the cluster tells --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """One watch for each kind of object, of everything that this campaign has through this inventory host."""
        known = self.folder.host()
        host = "%s=%s" % (k8s_names.HOST, k8s_names.label_value(str(known.get("host"))))
        labels = "%s,%s" % (k8s_names.selector(str(known.get("campaign"))), host)
        for resource in ("jobs", "pods"):
            feed = Feed(self.api, resource, labels, self.news.put)
            self.feeds.append(feed)
            feed.start()
        deadline = time.monotonic() + self.api.patience
        while len(self.synced) < len(self.feeds) and not self.told_to_stop:
            self._hear(_TICK)
            self._beat()
            if self.fatal or time.monotonic() > deadline:
                trouble = self.fatal.message if self.fatal else "; ".join(feed.trouble for feed in self.feeds if feed.trouble)
                raise MadError("the cluster cannot be watched: %s" % trouble)
        self._adopt()

    def _hear(self, seconds: float) -> None:
        """Take what was told; wait for the first of it."""
        wait = seconds
        while True:
            try:
                news = self.news.get(timeout=wait) if wait else self.news.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if news is not None:
                self._take(news)

    def _take(self, news: News) -> None:
        if news.error is not None:
            self.fatal = news.error
            return
        if news.listed is not None:
            self._take_list(news.resource, news.listed, news.asked)
        elif news.object is not None:
            self._take_object(news.resource, news.object, news.gone)

    def _take_list(self, resource: str, listed: List[Object], asked: float) -> None:
        """Everything that there was at the moment `asked`; what we knew before and is not in it is gone."""
        seen = {str(value["metadata"]["uid"]) for value in listed}
        for trial in self.trials.values():
            if resource == "jobs" and trial.job and 0 < trial.launched_at < asked and trial.job["metadata"]["uid"] not in seen:
                trial.gone = True
            if resource == "pods":
                for uid in [uid for uid in trial.pods if uid not in seen]:
                    self._lose_pod(trial, uid)
        self.synced.add(resource)
        for value in listed:
            self._take_object(resource, value, False)
        if resource == "jobs":
            self.listed_jobs = {str(value["metadata"]["name"]): value for value in listed}
        elif resource == "pods":
            self.listed_pods = listed

    def _take_object(self, resource: str, value: Object, gone: bool) -> None:
        labels = value["metadata"].get("labels") or {}
        if resource == "jobs":
            trial = self.by_job.get(str(value["metadata"]["name"]))
            if trial:
                trial.job, trial.gone = value, gone
                self.dirty.add(trial.run["id"])
        else:
            trial = self.by_job.get(str(labels.get("batch.kubernetes.io/job-name") or labels.get("job-name") or ""))
            uid = str(value["metadata"]["uid"])
            if trial:
                self.dirty.add(trial.run["id"])
                trial.pods[uid] = value
                if gone:
                    self._lose_pod(trial, uid)

    @staticmethod
    def _lose_pod(trial: Trial, uid: str) -> None:
        """A pod that is gone ended in some way; what we knew last of it stays."""
        pod = dict(trial.pods[uid])
        if not k8s_judge.ended(pod):
            pod["status"] = dict(pod.get("status") or {}, phase="Failed")
        trial.pods[uid] = pod

    # -- what is to be done ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read settings and runs again."""
        self.settings = self.folder.settings()
        self.version = int(self.settings.get("version") or 0)
        self.pending = []
        for run in self.folder.runs():
            if run["id"] in self.trials:
                continue
            standing = self.folder.standing(run)
            if standing.state != "done":
                self.pending.append((run, standing.attempt))
        self._beat(force=True)

    def _adopt(self) -> None:
        """Attempts that were begun by a runner before us, or whose Job exists although nobody here knows it: they are ours at once."""
        waiting, self.pending = self.pending, []
        for run, number in waiting:
            attempt = self.folder.attempt(run["id"], number)
            name = k8s_names.job_name(str(run["campaign"]), run["id"], number, str(run["model"]))
            if attempt.launch() or name in self.listed_jobs:
                self._begin(run, number)
            else:
                self.pending.append((run, number))
        for resource, values in (("jobs", list(self.listed_jobs.values())), ("pods", self.listed_pods)):
            for value in values:
                self._take_object(resource, value, False)

    def _step(self) -> bool:
        """Whether there is anything left to do here."""
        if self.told_to_stop:
            return False
        if self.fatal:
            raise self.fatal
        whole = time.monotonic() - self.last_round >= _TICK
        if whole:
            self.last_round = time.monotonic()
            if self._settings_changed():
                self._look()
            self._obey()
        self._start_what_fits()
        due, self.dirty = (set(self.trials) if whole else self.dirty), set()
        for run_id in sorted(due):
            if run_id in self.trials:
                self._advance(self.trials[run_id])
        self._beat()
        return bool(self.trials or self.pending) or self._settings_changed()

    def _settings_changed(self) -> bool:
        return int(self.folder.settings().get("version") or 0) != self.version

    def _obey(self) -> None:
        """`cancel` and `stop`: nothing more starts, also of what waits in the cluster; what never began gets its record."""
        cancel, stop = self.folder.reason("cancel"), self.folder.reason("stop")
        if cancel is None and stop is None:
            return
        if cancel is not None:
            for trial in self.trials.values():
                trial.error = trial.error or Fault("cancelled", cancel, "cancelled")
        for trial in self.trials.values():
            if not trial.begun():
                trial.hold_back(cancel or str(stop))
        pending, self.pending = self.pending, []
        for run, number in pending:
            self._end_pending(run, number)

    def _end_pending(self, run: Mapping[str, Any], number: int) -> None:
        """What `cancel` or `stop` makes of an attempt that has not begun."""
        decision = self.folder.end_of_pending(run, number, self.folder.reason("cancel"), self.folder.reason("stop"))
        if decision:
            self._unrun(run, number, decision["failure_class"], decision["reason"])

    def _unrun(self, run: Mapping[str, Any], number: int, failure_class: str, reason: str) -> None:
        """The record of an attempt that was not made."""
        attempt = self.folder.attempt(run["id"], number)
        attempt.claim()
        attempt.save_result(record.make_unrun_record(dict(run, attempt=number), failure_class, reason))

    def _start_what_fits(self) -> None:
        limit = int(self.settings.get("max_jobs") or 0) or len(self.trials) + len(self.pending)
        while self.pending and len(self.trials) < limit:
            run, number = self.pending.pop(0)
            if not os.path.exists(objects_path(self.folder, run["id"], number)):
                self._unrun(run, number, "preempted", "no objects were rendered for attempt %d; run the campaign again" % number)
                continue
            self._begin(run, number)

    def _begin(self, run: Mapping[str, Any], number: int) -> None:
        attempt = self.folder.attempt(run["id"], number)
        attempt.claim()
        os.makedirs(attempt.file("io"), mode=0o700, exist_ok=True)
        name = k8s_names.job_name(str(run["campaign"]), run["id"], number, str(run["model"]))
        trial = Trial(self.api, self.folder, run, attempt, name, Settings(self.settings), lambda: self.touch(str(run["id"])))
        self.trials[run["id"]] = trial
        self.dirty.add(run["id"])
        self.by_job[name] = trial

    # -- one attempt -------------------------------------------------------------------------------------------------------------

    def _advance(self, trial: Trial) -> None:
        """The next step of an attempt, if it is due."""
        if trial.busy.is_set() or time.monotonic() < trial.later:
            return
        if trial.crash is not None:
            self._stumbled(trial)
            return
        if trial.finished:
            self._after(trial)
            return
        if not trial.launched and trial.error is None:
            self._work(trial, trial.launch)
            return
        verdict = trial.verdict()
        trial.follow(self.readers.submit)
        trial.look_at_wait(verdict)
        trial.look_for_hangs(verdict)
        if trial.error is not None and not trial.deleted:
            self._work(trial, trial.remove)
        elif trial.error is not None:
            if trial.is_quiet():
                self._work(trial, lambda: self._end_early(trial))
        elif (trial.gone or (verdict.over and trial.all_seen())) and trial.all_read():
            self._work(trial, lambda: self._finish(trial))
        elif trial.wants_events(verdict):
            self._work(trial, trial.ask_events)

    def _work(self, trial: Trial, step: Callable[[], None]) -> None:
        trial.busy.set()

        def task() -> None:
            try:
                step()
                self.fruitless.pop(trial.run["id"], None)
            except Exception as error:  # noqa: BLE001 a worker's error belongs to its attempt: it is tried again, then becomes the reason
                if not isinstance(error, MadError):
                    traceback.print_exc()
                trial.crash = error
            finally:
                trial.busy.clear()
                self.touch(trial.run["id"])

        self.workers.submit(task)

    def _stumbled(self, trial: Trial) -> None:
        """A step that failed: a refusal ends the attempt, everything else is tried again."""
        error, trial.crash = trial.crash, None
        if isinstance(error, ApiError) and trial.wait_for_quota(error):
            return
        count = self.fruitless[trial.run["id"]] = self.fruitless.get(trial.run["id"], 0) + 1
        final = (
            isinstance(error, ApiError)
            and error.status in (400, 401, 403, 404, 422)
            or isinstance(error, MadError)
            and not isinstance(error, ApiError)
        )
        if not final and count < _CRASHES:
            return
        known = error if isinstance(error, MadError) else MadError("internal error of the runner: %r" % error)
        if trial.error is None:
            launch_class = "launch" if not trial.launched and known.failure_class == "invalid" else known.failure_class
            trial.error = Fault(launch_class, known.message)
        else:  # it could not even be ended: the record says so, and what is left in the cluster
            self._write(
                trial, trial.error._replace(reason="%s; and its Job could not be removed: %s" % (trial.error.reason, known.message))
            )
            trial.finished = True

    def _end_early(self, trial: Trial) -> None:
        """The record of what our own decision ended: its Job is gone, and what its pods said is read."""
        trial.gone = True
        trial.stop_reading()
        if trial.held_back and not trial.begun():
            self._end_pending(trial.run, trial.attempt.number)
            if not trial.attempt.result():  # a retry that never was: whoever asks for it once more begins at the beginning
                ending.remove_folder(trial.attempt.path, lambda path: None)
        else:
            self._write(trial, trial.error)
        trial.finished = True

    def _finish(self, trial: Trial) -> None:
        """The record first, then the Job goes."""
        fault = None
        if trial.gone and not trial.verdict().over:
            fault = trial.verdict().fault or Fault("infra", "its Job was removed from outside while it ran")
        result = self._write(trial, fault)
        keep = bool((trial.run.get("keep") or {}).get("alive")) or (trial.settings.keep_failed and result.get("status") == "FAILURE")
        if not keep and not trial.gone:
            if trial.settings.ttl_seconds is None:
                trial.remove()
            else:
                self.api.patch("jobs", trial.name, {"spec": {"ttlSecondsAfterFinished": trial.settings.ttl_seconds}})
        trial.finished = True

    def _write(self, trial: Trial, fault: Optional[Fault]) -> Object:
        """Outcome and record, which is returned; safe to repeat."""
        known = trial.attempt.result()
        if known:
            return known
        with self.writing:
            return self._write_now(trial, fault)

    def _write_now(self, trial: Trial, fault: Optional[Fault]) -> Object:
        verdict, nodes = trial.verdict(), nodes_of(trial)
        for node in nodes:
            self._ask_machine(str((node.pod.get("spec") or {}).get("nodeName") or ""))
        outcome = outcome_of(trial.run, verdict, nodes, fault)
        outcome["notes"] = [*outcome["notes"], *trial.notes]
        written = PodEnding(self.folder, trial.run, trial.attempt, outcome, nodes, self.machines).write()
        if not (trial.run.get("keep") or {}).get("alive"):
            ending.remove_folder(trial.attempt.file("io"), lambda path: None)
        return written

    def _ask_machine(self, name: str) -> None:
        """Facts of a node, asked once; reading nodes is a right that not everybody has, and nothing depends on it."""
        if name and name not in self.machines:
            try:
                self.machines[name] = k8s_judge.node_facts(self.api.get("nodes", name))
            except ApiError:
                self.machines[name] = {}

    def _after(self, trial: Trial) -> None:
        """It has its record: another attempt, or the end of the run."""
        del self.trials[trial.run["id"]]
        del self.by_job[trial.name]
        standing = self.folder.standing(trial.run)
        if standing.state == "pending":
            self.pending.append((trial.run, standing.attempt))
        elif standing.state == "done":
            self.over[trial.run["id"]] = standing.attempt

    # -- the rest ----------------------------------------------------------------------------------------------------------------

    def _beat(self, force: bool = False) -> None:
        now, me = time.time(), os.getpid()
        if not force and now - self.last_beat < _TICK:
            return
        running = sorted(self.trials)
        waits = {run_id: trial.wait.reason for run_id, trial in self.trials.items() if trial.wait}
        if not force and now - self.last_beat < HEARTBEAT and (running, waits) == getattr(self, "_shown", None):
            return
        self.last_beat, self._shown = now, (running, waits)
        state = {
            "pid": me,
            "started": processes.start_ticks(me),
            "boot_id": processes.boot_id(),
            "heartbeat": now,
            "running": running,
            "queued": len(self.pending),
            "waits": waits,
            "trouble": [feed.trouble for feed in self.feeds if feed.trouble],
            "version": self.version,
        }
        with contextlib.suppress(OSError):
            write_quickly(self.folder.file("state.json"), state)

    def _is_over(self, run: Mapping[str, Any]) -> bool:
        """Whether nothing of a run is left to do: we saw its last attempt end and nobody has asked for a later one since, or its folder says so."""
        return int(run.get("attempt") or 1) <= self.over.get(run["id"], 0) or self.folder.standing(run).state == "done"

    def _leave(self) -> None:
        """Secrets go when nothing is left to run; under the lock of staging, so that those of new runs stay."""
        for feed in self.feeds:
            feed.stop()
        with files.locked(self.folder.file("stage.lock"), blocking=False) as mine:
            runs = self.folder.runs() if mine else []
            if mine and all(self._is_over(run) for run in runs):
                self.folder.forget_secrets()
                for run in runs:
                    for number in range(1, 1 + len(self.folder.attempts(run["id"])) + int(run.get("retries") or 0)):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(objects_path(self.folder, run["id"], number))
                for name in (ending.RESERVE, "crashes"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.folder.file(name))
        self._beat(force=True)


def run_program(argv: Sequence[str]) -> int:
    """`supervise <folder> [<descriptor to close when detached>]`: the same words as the supervisor's."""
    if len(argv) not in (2, 3) or argv[0] != "supervise":
        sys.stderr.write("usage: supervise FOLDER [DESCRIPTOR]\n")
        return 4
    folder = HostFolder(argv[1])
    work_folder.check_owner(folder.path)
    detach(folder.file("supervisor.log"), int(argv[2]) if len(argv) == 3 else None)()
    status = 0
    try:
        Runner(folder).main()
    except Exception as error:  # noqa: BLE001 the log is the only one who listens; the next poll reads it and starts another runner
        traceback.print_exc()
        folder.note_crash(str(error) or repr(error))
        status = 1
    sys.stderr.flush()
    os._exit(status)  # threads that wait for the network must not keep the process
