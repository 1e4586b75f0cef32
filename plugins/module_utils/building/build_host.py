# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole work of a build host in one call: unpack the sources, log in, build side by side, push, save archives, pack the logs.

Its folders below the work folder (mode 0711, shared with the supervisor):

    builds/source/<hash>/               sources of a campaign's builds, named by content: sent once
    builds/logs/<campaign>.<12 hex>/    build logs
    builds/locks/  builds/auth-<pid>-*  locks by image name; logins as long as a build runs
    images/<64 hex>.tar[.json]          saved images with their checksums
    outbox/<random>                     logs and images on their way to the controller
"""

from __future__ import annotations

import contextlib
import os
import secrets as random_names
import tarfile
import tempfile
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from ..base.canonical import hash_file
from ..base.errors import ImageError, MadError
from ..base.work_folder import default_work_dir, folder_name, own_folder
from ..containers import archives, image_archive, image_engine, registry, registry_client
from ..containers.build_log import BuildLog, Commands
from . import build_source, builder


class Job(NamedTuple):
    """What the controller asks for; plain JSON but for the secrets."""

    requests: List[Dict[str, Any]]  # build requests with `source` (build_source.describe)
    source_id: str  # build_source.archive_id of all of them
    campaign: str
    host: str  # the inventory's name of this machine
    archive: str = ""  # the packed sources, just sent
    archive_sha256: str = ""
    work_dir: str = ""
    engine: str = "auto"
    registry: str = ""  # push there when set
    save: List[str] = []  # names of images that other hosts need as archives
    have: List[str] = []  # digests whose archives the controller has
    no_cache: bool = False
    pull: str = "missing"
    allow_secret_build_args: bool = False
    timeout: float = 0
    parallel: int = 2


class Secrets(NamedTuple):
    """Values that stand in no file, no argument list and no result."""

    build: Dict[str, Dict[str, str]] = {}  # image name -> {NAME: value}
    logins: Dict[str, Dict[str, str]] = {}  # registry -> {"username", "password", "repository"}


def run(job: Job, secrets: Secrets, commands: Optional[Commands] = None) -> Dict[str, Any]:
    """Do the job.

    {"missing_source": true} alone when the sources are needed and not here: send them and ask again. Else {"missing_source": false,
    "outcomes": [builder outcome with "push": {"name", "digest", "sent"} or {"name", "error"}, and with "archive" of image_archive.save],
    "engine": {...}, "logs": {"path", "bytes", "sha256"} or null, "notes": [...]}. Never raises for an image: each failure is an outcome.
    """
    try:
        engine = image_engine.find(job.engine)
        known = image_engine.Known(engine, builder.references(job.requests))
    except MadError as error:
        return _result([_failed(request, error) for request in job.requests], {}, None, [])
    host = _Host(job, secrets, commands or Commands(), known)
    if job.archive:
        host.take_sources()
    if not os.path.isdir(host.source) and host.needs_sources(engine):
        return {"missing_source": True}
    notes: List[str] = []
    with registry_client.logins(engine, host.builds):
        refused = host.log_in(engine, notes)
        with contextlib.suppress(OSError):
            os.utime(host.source)  # its age is that of its last use
        outcomes = builder.build_all(job.requests, lambda request: host.work(request, engine, refused), job.parallel)
    return _result(outcomes, engine.describe(), host.pack_logs(outcomes), notes)


def predict(job: Job) -> Dict[str, Any]:
    """What run() would do, as far as it can be known without doing anything: outcomes without records."""
    try:
        engine = image_engine.find(job.engine)
        known = image_engine.Known(engine, builder.references(job.requests))
    except MadError as error:
        return _result([_failed(request, error) for request in job.requests], {}, None, [])
    options = _options(job, "")

    def work(request: Mapping[str, Any]) -> Dict[str, Any]:
        return {"changed": builder.predict(request, engine, options, known), "record": None}

    outcomes = [builder.outcome(request, work) for request in job.requests]
    return _result(outcomes, engine.describe(), None, [])


def _result(outcomes: List[Dict[str, Any]], engine: Dict[str, Any], logs: Optional[Dict[str, Any]], notes: List[str]) -> Dict[str, Any]:
    return {"missing_source": False, "outcomes": outcomes, "engine": engine, "logs": logs, "notes": notes}


def _failed(request: Mapping[str, Any], error: MadError) -> Dict[str, Any]:
    def fail(_request: Mapping[str, Any]) -> Dict[str, Any]:
        raise error

    return builder.outcome(request, fail)


def _options(job: Job, builds: str) -> builder.Options:
    logs = os.path.join(builds, "logs", folder_name(job.campaign, job.host))
    locks = os.path.join(builds, "locks")
    return builder.Options(logs, job.no_cache, job.pull, job.allow_secret_build_args, job.timeout, job.host, locks)


class _Host:
    """The folders of this build host and the steps that use them."""

    def __init__(self, job: Job, secrets: Secrets, commands: Commands, known: image_engine.Known) -> None:
        self.job, self.secrets, self.commands = job, secrets, commands
        self.work_dir = job.work_dir or default_work_dir()
        self.builds = os.path.join(self.work_dir, "builds")
        self.source = os.path.join(self.builds, "source", job.source_id)
        self.options = _options(job, self.builds)
        self.known = known
        own_folder(self.work_dir, 0o711)
        own_folder(self.builds, 0o700)

    def take_sources(self) -> None:
        """Check and unpack what was sent."""
        if hash_file(self.job.archive) != self.job.archive_sha256:
            raise ImageError("the archive of the build sources was damaged on its way to %s" % self.job.host)
        if not os.path.isdir(self.source):
            build_source.unpack(self.job.archive, self.source)

    def needs_sources(self, engine: image_engine.ImageEngine) -> bool:
        """Whether any image must be built (pull: always may find a newer base image, so it counts as yes)."""
        return self.job.pull == "always" or any(self._must_build(request, engine) for request in self.job.requests)

    def _must_build(self, request: Mapping[str, Any], engine: image_engine.ImageEngine) -> bool:
        try:
            return builder.predict(request, engine, self.options, self.known)
        except MadError:
            return False  # it will fail for a reason of its own

    def log_in(self, engine: image_engine.ImageEngine, notes: List[str]) -> str:
        """Log in wherever there is a credential; returns why pushing is impossible ("": it is not). Refused logins to others are notes."""
        refused = ""
        for name in sorted(self.secrets.logins):
            try:
                registry_client.login(engine, name, self.secrets.logins[name])
            except MadError as error:
                if name == self.job.registry:
                    refused = error.message
                else:
                    notes.append(error.message)
        return refused

    def work(self, request: Mapping[str, Any], engine: image_engine.ImageEngine, refused: str) -> Dict[str, Any]:
        """One image: build, push, save."""
        values = self.secrets.build.get(request["image"], {})
        done = builder.build(request, self.source, engine, self.options, values, commands=self.commands, known=self.known)
        image, digest = request["image"], done["record"]["digest"]
        if self.job.registry:
            done["push"] = self._push(request, engine, refused, list(values.values()))
        elif image in self.job.save and digest not in self.job.have:
            done["archive"] = self._save(engine, image, digest)
        return done

    def _push(self, request: Mapping[str, Any], engine: image_engine.ImageEngine, refused: str, hidden: List[str]) -> Dict[str, Any]:
        """Push one image; a failure is told, not raised: the image is built all the same."""
        name = ""
        try:
            name = registry.push_name(request["image"], self.job.registry, self.secrets.logins.get(self.job.registry, {}))
            if refused:
                raise ImageError(refused)
            os.makedirs(self.options.log_dir, exist_ok=True)  # an image that was there already has made none
            with BuildLog(builder.log_path_of(request, self.options), hidden, append=True) as log:
                digest, sent = registry_client.push(engine, request["image"], name, log, self.commands)
        except MadError as error:
            return {"name": name, "error": error.message}
        return {"name": name, "digest": digest, "sent": sent}

    def _save(self, engine: image_engine.ImageEngine, image: str, digest: str) -> Dict[str, Any]:
        """Save one image; its archive goes out under another name (a hard link: images are large)."""
        saved = image_archive.save(engine, image, digest, os.path.join(self.work_dir, "images"))
        outside = os.path.join(self._outbox(), random_names.token_hex(16) + ".tar")
        os.link(saved["path"], outside)
        os.chmod(outside, 0o644)
        return dict(saved, path=outside)

    def _outbox(self) -> str:
        """Where files wait for the login user, who may be another one than become made us: names there cannot be guessed or listed."""
        outbox = os.path.join(self.work_dir, "outbox")
        own_folder(outbox, 0o711)
        return outbox

    def pack_logs(self, outcomes: Sequence[Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
        """The build logs of this call as one file for the controller; None when nothing was built or pushed."""
        requests = {request["image"]: request for request in self.job.requests}
        wanted = [requests[found["image"]] for found in outcomes if found["status"] != "SKIPPED" or found.get("push")]
        paths = sorted({builder.log_path_of(request, self.options) for request in wanted})
        paths = [path for path in paths if os.path.exists(path)]
        if not paths:
            return None
        path = os.path.join(self._outbox(), random_names.token_hex(16) + ".tar.gz")
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for log in paths:
                archives.add_file(archive, log, os.path.basename(log))
        os.chmod(path, 0o644)
        return {"path": path, "bytes": os.path.getsize(path), "sha256": hash_file(path)}


def unpack_logs(path: str, folder: str) -> List[str]:
    """The controller's side of pack_logs: plain `.log` files without folders, each moved into place whole; returns the paths."""
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".logs-", dir=folder) as temporary, open(path, "rb") as stream:
        names = archives.unpack(stream, temporary, links=False, wanted=lambda name: "/" not in name and name.endswith(".log"))
        for name in names:
            os.replace(os.path.join(temporary, name), os.path.join(folder, name))
    return [os.path.join(folder, name) for name in names]


def registries_of(requests: Iterable[Mapping[str, Any]], push_to: str) -> List[str]:
    """Every registry these builds may talk to: where images are pushed, and the hosts of their base images."""
    hosts = {registry.host_of(image) for request in requests for image in (request.get("source") or {}).get("images", ())}
    return sorted(hosts | ({push_to} if push_to else set()))
