# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building images on a build host: from requests and staged sources to image records. What has its content already is not built again."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..base.canonical import hash_value
from ..base.errors import ImageError, MadError
from ..base.files import locked
from ..containers.build_log import BuildLog, Commands, log_name
from ..containers.image_engine import ImageEngine, Known, normal_id
from . import build_command
from .build_command import Options
from .build_source import describe

__all__ = ["Options", "build", "build_all", "log_path_of", "outcome", "predict"]

OnLine = Callable[[str, str], None]  # (image, line)
Work = Callable[[Mapping[str, Any]], Dict[str, Any]]  # request -> {"record", "changed", ...}
_HINTS = (
    ("no space left on device", "the build host's disk is full (engine storage or work folder): free some or name another mad_build_host"),
    ("cannot connect to the docker daemon", "the engine stopped answering during the build"),
    ("error during connect", "the engine stopped answering during the build"),
    (
        "docker.io/docker/dockerfile",
        "the `# syntax=` line makes BuildKit fetch its frontend from Docker Hub: remove it where there is no registry",
    ),
)


def build(
    request: Mapping[str, Any],
    source_dir: str,
    engine: ImageEngine,
    options: Options,
    secrets: Optional[Mapping[str, str]] = None,
    on_line: Optional[OnLine] = None,
    commands: Optional[Commands] = None,
    known: Optional[Known] = None,
) -> Dict[str, Any]:
    """Build one image unless an image of that name and content is there.

    `request` is a build request of plan.json; its key `source` (build_source.describe) is made from source_dir when absent. `secrets` are
    the values of the names in `secret_build`, `known` what was asked of the engine before. Returns {"record": image record, "changed"};
    raises MadError when there is no image in the end. Only a build writes a log.
    """
    source = request.get("source") or describe(request, source_dir)
    build_command.check(request, source, engine, options)
    job = _Job(request, source, engine, options, secrets or {}, known or Known(engine))
    found = job.unchanged()
    if found:
        return {"record": found, "changed": False}
    path = log_path_of(request, options)
    os.makedirs(options.log_dir, exist_ok=True)
    see = (lambda line: on_line(request["image"], line)) if on_line else None
    with locked(_lock_path(options, request["image"])), BuildLog(path, job.secrets.values(), see) as log:
        return job.run(source_dir, log, commands or Commands())


def log_path_of(request: Mapping[str, Any], options: Options) -> str:
    """The build log of a request."""
    return os.path.join(options.log_dir, log_name(request["model"], request["dockerfile"], request.get("gpu_architecture", "")))


def _lock_path(options: Options, image: str) -> str:
    folder = options.lock_dir or options.log_dir
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, ".build-%s.lock" % hash_value(image)[:16])


def references(requests: Sequence[Mapping[str, Any]]) -> List[str]:
    """Every image that building these may ask for: to be asked for at once."""
    names = [name for request in requests for name in [request["image"], *request["source"]["images"]]]
    return list(dict.fromkeys(names))


def predict(request: Mapping[str, Any], engine: ImageEngine, options: Options, known: Known) -> bool:
    """Whether build() would build: nothing is pulled, so an absent base image means yes. Errors as in build()."""
    source = request["source"]
    build_command.check(request, source, engine, options)
    return _Job(request, source, engine, options, {}, known).unchanged(predicted=True) is None


class _Job:
    """One build: the things that every step of it needs."""

    def __init__(
        self,
        request: Mapping[str, Any],
        source: Mapping[str, Any],
        engine: ImageEngine,
        options: Options,
        secrets: Mapping[str, str],
        known: Known,
    ) -> None:
        self.request, self.source, self.engine, self.options = request, source, engine, options
        self.secrets, self.known = secrets, known

    def unchanged(self, predicted: bool = False) -> Optional[Dict[str, Any]]:
        """The record of the image that is here already with this content; None when there is none or it must be built all the same."""
        if self.options.no_cache or (self.options.pull == "always" and not predicted):
            return None
        bases = {name: self.known.image_id(name) for name in self.source["images"]}
        return self._same(build_command.content_hash(self.request, self.source, bases)) if all(bases.values()) else None

    def _same(self, content: str) -> Optional[Dict[str, Any]]:
        """The record of the image here if it has this content."""
        document = self.known.image(self.request["image"])
        if not document or build_command.content_of(document) != content:
            return None
        argv, _environment = self._command(content)
        return dict(self._record(argv, content), digest=normal_id(document["Id"]), build_duration=0.0)

    def run(self, source_dir: str, log: BuildLog, commands: Commands) -> Dict[str, Any]:
        """Pull, look again (somebody may have built it while we waited for the lock), build."""
        started = time.monotonic()
        self.known.forget(self.request["image"])
        bases = {name: self._base(name, log, commands) for name in self.source["images"]}
        content = build_command.content_hash(self.request, self.source, bases)
        same = None if self.options.no_cache else self._same(content)
        if same:
            log.line("mad.engine: %s has this content already: not built again" % self.request["image"])
            return {"record": same, "changed": False}
        argv, environment = self._command(content)
        log.line("mad.engine: " + build_command.shown(argv, self.secrets))
        code = log.run(argv, environment, commands, self.options.timeout, source_dir)
        if code:
            raise ImageError(self._failure("%s build %s" % (self.engine.kind, _ended(code)), log))
        self.known.forget(self.request["image"])
        built = self._same(content)
        if built is None:
            gone = "the builder ended with 0, but the engine has no such image: it was removed or replaced meanwhile"
            raise ImageError(self._failure(gone, log))
        return {"record": dict(built, build_duration=round(time.monotonic() - started, 3)), "changed": True}

    def _base(self, name: str, log: BuildLog, commands: Commands) -> str:
        """The id of an image the Dockerfile starts from, pulled when it is not here (or when asked to)."""
        here = self.known.image_id(name)
        if here and self.options.pull != "always":
            return here
        code = log.run(self.engine.argv("pull", name), self.engine.environment, commands)
        self.known.forget(name)
        fresh = self.known.image_id(name)
        if fresh and code:
            log.line("mad.engine: %s cannot be refreshed, the local image %s is used" % (name, fresh))
        if not fresh:
            raise ImageError(self._failure("its base image %s is not on the build host and cannot be pulled" % name, log))
        return fresh

    def _command(self, content: str) -> Tuple[List[str], Dict[str, str]]:
        return build_command.command(self.request, self.source, self.engine, self.options, self.secrets, content)

    def _record(self, argv: Sequence[str], content: str) -> Dict[str, Any]:
        shown = build_command.shown(argv, self.secrets)
        return build_command.record(self.request, self.source, self.known, self.options, shown, content)

    def _failure(self, what: str, log: BuildLog) -> str:
        """One message for a person: which image, where, what, the likely reason, the last lines."""
        tail = log.tail()
        text = "\n".join(tail).lower()
        hint = next((": " + words for pattern, words in _HINTS if pattern in text), "")
        where = " on %s" % self.options.host if self.options.host else ""
        named = (self.request["image"], self.request["model"], self.request["dockerfile"])
        head = "image %s of model %s (%s) was not built%s: %s%s" % (*named, where, what, hint)
        return head + "\nlast lines of %s:\n  %s" % (os.path.basename(log.path), "\n  ".join(tail) if tail else "(nothing)")


def _ended(code: int) -> str:
    return "was killed by signal %d" % -code if code < 0 else "ended with %d" % code


def build_all(requests: Sequence[Mapping[str, Any]], work: Work, parallel: int = 2) -> List[Dict[str, Any]]:
    """Do `work` for each request, several side by side; one outcome per request, in order; none stops another.

    outcome = {"image", "model", "status": "SUCCESS" | "SKIPPED" (unchanged) | "FAILURE", "seconds", "reason", "failure_class",
    "record" or null} and what else `work` returned.
    """
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        return list(pool.map(lambda request: outcome(request, work), requests))


def outcome(request: Mapping[str, Any], work: Work) -> Dict[str, Any]:
    """What became of one request; an exception becomes a failure."""
    started = time.monotonic()
    found: Dict[str, Any] = {"image": request["image"], "model": request["model"], "record": None, "reason": "", "failure_class": ""}
    try:
        done = work(request)
        found.update(done, status="SUCCESS" if done.pop("changed") else "SKIPPED")
    except MadError as error:
        found.update(status="FAILURE", reason=error.message, failure_class="invalid" if error.failure_class == "invalid" else "image")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other images must still be built and this one must be a recorded failure
        words = "%s: %s" % (error.filename, error.strerror) if isinstance(error, OSError) else "%s: %s" % (type(error).__name__, error)
        found.update(
            status="FAILURE", reason="image %s of model %s: %s" % (request["image"], request["model"], words), failure_class="image"
        )
    found.pop("changed", None)
    found["seconds"] = round(time.monotonic() - started, 3)
    return found
