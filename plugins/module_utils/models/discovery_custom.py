# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom models: the repository's own Python, run in processes of its own, in parallel, with a time limit.

One process answers one question about one directory: which models are there, or what are the cards of these ones after
their update_model(). So the update_model() of a model that nobody selected is never called.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..base.errors import InvalidInput
from .discovery_cache import Cache

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "list_models.py")
_PAUSE = 0.005  # seconds between looks at the running processes
_GRACE = 2.0  # seconds for a process to end by itself after it has answered
_TAIL_BYTES = 8192
_TAIL_LINES = 12
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")


class Question(NamedTuple):
    """What is asked of one get_models_json.py: all models (`update` None), or the cards of the (position, name) given."""

    directory: str
    path: str
    update: Optional[List[Tuple[int, str]]] = None

    @property
    def source(self) -> str:
        """The file, relative to the repository."""
        return "scripts/%s/%s" % (self.directory, os.path.basename(self.path))


class _Process:
    """One running list_models.py. Its process group never outlives `end()`."""

    def __init__(self, question: Question, repo: str, folder: str, timeout: float) -> None:
        self.question = question
        self._answer = os.path.join(folder, "answer.json")
        self._output = os.path.join(folder, "output")
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._timed_out = False
        request = os.path.join(folder, "request.json")
        with open(request, "w", encoding="utf-8") as stream:
            json.dump({"repo": repo, "answer": self._answer, **question._asdict()}, stream)
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule
                [sys.executable, "-B", "-u", _PROGRAM, request],
                stdin=subprocess.PIPE,  # never written: its end tells the process that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=repo,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
            )

    def finished(self) -> bool:
        """True once it has ended or must be ended."""
        if self._ended():
            return True
        now = time.monotonic()
        if os.path.exists(self._answer):
            self._deadline = min(self._deadline, now + _GRACE)
        self._timed_out = now >= self._deadline
        return self._timed_out

    def _ended(self) -> bool:
        """Look without reaping: while the process is a zombie, its number still names its group and nothing else."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except AttributeError:  # macOS before Python 3.13
            return self._process.poll() is not None
        except ChildProcessError:  # somebody ignores SIGCHLD
            return True

    def end(self) -> None:
        """Kill whatever is left of the process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter: macOS, about zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()

    def result(self) -> Dict[str, Any]:
        """The answer after `end()`; InvalidInput with the file and the last lines if there is none."""
        try:
            with open(self._answer, encoding="utf-8") as stream:
                answer = json.load(stream)
        except OSError:
            raise InvalidInput("%s: %s%s" % (self.question.source, self._what_happened(), self._tail())) from None
        if "refused" in answer:
            raise InvalidInput("%s: %s" % (self.question.source, answer["refused"]))
        found: Dict[str, Any] = answer
        return found

    def _what_happened(self) -> str:
        code = self._process.returncode
        if self._timed_out:
            return "its models were not listed within %g s (mad_discover_timeout), so it was stopped" % self._timeout
        if code < 0:
            return "its Python was killed by signal %d before it listed its models" % -code
        return "its Python ended with exit code %d before it listed its models" % code

    def _tail(self) -> str:
        """The last lines of what it printed, made safe for a terminal."""
        with open(self._output, "rb") as stream:
            stream.seek(max(0, os.path.getsize(self._output) - _TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
        shown = [_UNPRINTABLE.sub("?", line.expandtabs())[:300] for line in lines if line.strip()][-_TAIL_LINES:]
        return "; its last lines:\n" + "\n".join("  " + line for line in shown) if shown else "; it printed nothing"


class Custom:
    """Answers about the custom models of one repository, from the cache or from processes."""

    def __init__(self, repo: str, cache: Cache, timeout: float, jobs: int) -> None:
        self._repo = repo
        self._cache = cache
        self._timeout = timeout
        self._jobs = jobs if jobs > 0 else os.cpu_count() or 1

    @property
    def warnings(self) -> List[str]:
        """What a person should know, though the answers are right."""
        return [self._cache.problem] if self._cache.problem else []

    def ask(self, questions: Sequence[Question]) -> List[List[Dict[str, Any]]]:
        """The models of each question, in order: dicts with "card", and "lazy" when all were asked for."""
        keys = [self._cache.key(os.path.dirname(question.path), question.update) for question in questions]
        known = [self._cache.get(key) for key in keys]
        open_ones = [position for position, models in enumerate(known) if models is None]
        fresh = dict(zip(open_ones, self._run([questions[position] for position in open_ones])))
        for position, answer in fresh.items():
            question = questions[position]
            if keys[position] and keys[position] == self._cache.key(os.path.dirname(question.path), question.update):
                self._cache.put(keys[position], answer["models"], answer["inputs"])
        if fresh:
            self._cache.prune()
        return [fresh[position]["models"] if models is None else models for position, models in enumerate(known)]

    def _run(self, questions: Sequence[Question]) -> List[Dict[str, Any]]:
        """The answers of processes, at most `jobs` at a time; all failures in one error."""
        if not questions:
            return []
        with tempfile.TemporaryDirectory(prefix="mad-discovery-") as folder:
            ended = self._run_in(folder, questions)
            answers, failures = [], []
            for process in ended:
                try:
                    answers.append(process.result())
                except InvalidInput as error:
                    failures.append(error.message)
        if failures:
            raise InvalidInput("\n".join(failures[:3] + (["and %d more files failed" % (len(failures) - 3)] if len(failures) > 3 else [])))
        return answers

    def _run_in(self, folder: str, questions: Sequence[Question]) -> List[_Process]:
        """All processes after their end, in order. Whatever interrupts this, none of them stays."""
        started: List[_Process] = []
        running: List[_Process] = []
        try:
            while running or len(started) < len(questions):
                while len(running) < self._jobs and len(started) < len(questions):
                    own = os.path.join(folder, str(len(started)))
                    os.mkdir(own)
                    process = _Process(questions[len(started)], self._repo, own, self._timeout)
                    started.append(process)
                    running.append(process)
                done = [process for process in running if process.finished()]
                for process in done:
                    process.end()
                    running.remove(process)
                if not done:
                    time.sleep(_PAUSE)
        finally:
            for process in running:
                process.end()
        return started
