# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building images on a build host: from requests and staged sources to image records. What has its content already is not built again."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import quoting
from .build_log import BuildLog, Commands, log_name
from .build_source import describe, secret_arguments
from .canonical import hash_value
from .engine import check_words
from .errors import ImageError, InvalidInput, MadError
from .files import locked
from .image_engine import CONTENT_LABEL, ImageEngine, normal_id
from .secret_names import mask

CONTENT_SCHEMA = 1
_RESERVED_NAMES = ("PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH")  # as an env-only build argument they would change the client itself
_RESERVED_STARTS = ("DOCKER_", "BUILDKIT_", "BUILDX_", "CONTAINER", "REGISTRY_AUTH", "XDG_")
_HINTS = (
    ("no space left on device", "the build host's disk is full (engine storage or work folder): free some or name another mad_build_host"),
    ("cannot connect to the docker daemon", "the engine stopped answering during the build"),
    ("error during connect", "the engine stopped answering during the build"),
    ("the --mount option requires buildkit", "this Dockerfile needs BuildKit: install docker buildx or podman on the build host"),
)


class Options(NamedTuple):
    """How to build; the same for every image of one call."""

    log_dir: str
    no_cache: bool = False
    pull: str = "missing"  # or `always`: refresh base images first where their registry answers
    allow_secret_build_args: bool = False
    timeout: float = 0  # seconds for one build, 0: none
    host: str = ""  # the inventory's name of this machine, for records and errors
    lock_dir: str = ""  # of two controllers that build the same image here one waits; "" takes log_dir


OnLine = Callable[[str, str], None]  # (image, line)


def build(
    request: Mapping[str, Any],
    source_dir: str,
    engine: ImageEngine,
    options: Options,
    secrets: Optional[Mapping[str, str]] = None,
    on_line: Optional[OnLine] = None,
    commands: Optional[Commands] = None,
) -> Dict[str, Any]:
    """Build one image unless an image of that name and content is there.

    `request` is a build request of plan.json; its key `source` (build_source.describe) is made from source_dir when absent. `secrets` are
    the values of the names in `secret_build`. Returns {"record": image record, "changed"}; raises MadError when there is no image in the
    end.
    """
    secrets = secrets or {}
    source = request.get("source") or describe(request, source_dir)
    os.makedirs(options.log_dir, exist_ok=True)
    log_path = log_path_of(request, options)
    with locked(_lock_path(options, request["image"])), BuildLog(log_path, secrets.values(), _for_image(on_line, request["image"])) as log:
        job = _Job(request, source, engine, options, secrets, log, commands or Commands())
        return job.run(source_dir)


def log_path_of(request: Mapping[str, Any], options: Options) -> str:
    """The build log of a request."""
    return os.path.join(options.log_dir, log_name(request["model"], request["dockerfile"], request.get("gpu_architecture", "")))


def _for_image(on_line: Optional[OnLine], image: str) -> Optional[Callable[[str], None]]:
    return (lambda line: on_line(image, line)) if on_line else None


def _lock_path(options: Options, image: str) -> str:
    folder = options.lock_dir or options.log_dir
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, ".build-%s.lock" % hash_value(image)[:16])


def check(request: Mapping[str, Any], source: Mapping[str, Any], engine: ImageEngine, options: Options) -> None:
    """What makes a build impossible before it begins: credentials as ARG, features that the engine's builder lacks, names that are none."""
    exposed = secret_arguments(request, source)
    if exposed and not options.allow_secret_build_args:
        raise InvalidInput(_secret_form(request, exposed))
    for name in exposed:
        if name in _RESERVED_NAMES or name.startswith(_RESERVED_STARTS):
            raise InvalidInput("%s: the build argument %s would change the engine's client; rename it" % (request["dockerfile"], name))
    for name in request.get("build_args", {}):
        if not quoting.is_env_name(name):
            raise InvalidInput(
                "model %s: docker_build_arg %r is not a name (letters, digits and _, no leading digit)" % (request["model"], name)
            )
    lacking = [
        what
        for what, needed, there in (
            ("BuildKit (RUN --mount, here-documents, COPY --link)", source["needs_buildkit"], engine.buildkit),
            ("build contexts (--from=tools)", source["needs_tools"], engine.build_contexts),
        )
        if needed and not there
    ]
    if lacking:
        raise ImageError(
            "%s of model %s needs %s, which %s on the build host does not offer: install docker buildx or podman there"
            % (request["dockerfile"], request["model"], " and ".join(lacking), engine.program)
        )


def _secret_form(request: Mapping[str, Any], names: Sequence[str]) -> str:
    """The error that shows how a Dockerfile takes a secret."""
    mounts = "\n".join("  RUN --mount=type=secret,id=%s  <command that reads /run/secrets/%s>" % (name, name) for name in names)
    return (
        "%s of model %s takes %s as ARG: build arguments stay readable in the image for ever. Take it as a build secret instead:\n%s\n"
        "or, if it must be an argument, set mad_allow_secret_build_args: true"
        % (request["dockerfile"], request["model"], ", ".join(names), mounts)
    )


class _Job:
    """One build: the things that every step of it needs."""

    def __init__(
        self,
        request: Mapping[str, Any],
        source: Mapping[str, Any],
        engine: ImageEngine,
        options: Options,
        secrets: Mapping[str, str],
        log: BuildLog,
        commands: Commands,
    ) -> None:
        self.request, self.source, self.engine, self.options = request, source, engine, options
        self.secrets, self.log, self.commands = secrets, log, commands
        self.image: str = request["image"]

    def run(self, source_dir: str) -> Dict[str, Any]:
        """All of it."""
        started = time.monotonic()
        check(self.request, self.source, self.engine, self.options)
        bases = {name: self._base(name) for name in self.source["images"]}
        content = content_hash(self.request, self.source, bases)
        argv, environment = self._command(content)
        record = self._record(argv, content)
        known = None if self.options.no_cache else self.engine.image(self.image)
        if known and _content_of(known) == content:
            self.log.line("mad.engine: %s has this content already (%s): not built again" % (self.image, content[:16]))
            return {"record": dict(record, digest=normal_id(known["Id"]), build_duration=0.0), "changed": False}
        self._execute(argv, environment, source_dir)
        built = self.engine.image(self.image)
        if built is None or _content_of(built) != content:
            raise ImageError(
                self._failure("the builder ended with 0, but the engine has no such image: it was removed or replaced meanwhile")
            )
        return {"record": dict(record, digest=normal_id(built["Id"]), build_duration=round(time.monotonic() - started, 3)), "changed": True}

    def _base(self, name: str) -> str:
        """The id of an image the Dockerfile starts from, pulled when it is not here (or when asked to)."""
        here = self.engine.image_id(name)
        if here and self.options.pull != "always":
            return here
        code = self.log.run(self.engine.argv("pull", name), self.engine.environment, self.commands)
        fresh = self.engine.image_id(name) if code == 0 else ""
        if fresh:
            return fresh
        if here:
            self.log.line("mad.engine: %s cannot be refreshed, the local image %s is used" % (name, here))
            return here
        raise ImageError(self._failure("its base image %s is not on the build host and cannot be pulled" % name))

    def _command(self, content: str) -> Tuple[List[str], Dict[str, str]]:
        """(argv, environment) of the build. Secret values stand in the environment only; paths are relative to the source folder."""
        engine, environment = self.engine, dict(self.engine.environment)
        argv = engine.argv("build", "--network=host", *engine.build_flags)
        argv += ["--no-cache"] if self.options.no_cache else []
        argv += ["--label", "%s=%s" % (CONTENT_LABEL, content)]
        if self.source["tools"] and engine.build_contexts:
            argv += ["--build-context", "tools=./%s" % self.source["tools"]]
        argv += ["--tag", self.image, "--file", "./" + self.source["dockerfile"]]
        for name, value in sorted(self.request.get("build_args", {}).items()):
            argv += ["--build-arg", "%s=%s" % (name, value)]
        argv += self._secret_options(environment) + ["./" + self.source["context"]]
        check_words(argv, "the build command of image %s" % self.image)
        return argv, environment

    def _secret_options(self, environment: Dict[str, str]) -> List[str]:
        """Options for the secrets: mounts where the builder has them, allowed arguments by name only."""
        words: List[str] = []
        arguments = set(secret_arguments(self.request, self.source))
        for number, name in enumerate(sorted(self.secrets)):
            if name in arguments:
                environment[name] = self.secrets[name]
                words += ["--build-arg", name]
            elif self.engine.buildkit:
                variable = "MAD_BUILD_SECRET_%d" % number  # never the secret's own name: it could be DOCKER_HOST
                environment[variable] = self.secrets[name]
                words += ["--secret", "id=%s,env=%s" % (_secret_id(name), variable)]
        return words

    def _execute(self, argv: List[str], environment: Dict[str, str], source_dir: str) -> None:
        self.log.line("mad.engine: " + self._shown(argv))
        code = self.log.run(argv, environment, self.commands, self.options.timeout, source_dir)
        if code:
            raise ImageError(self._failure("%s build %s" % (self.engine.kind, _ended(code))))

    def _shown(self, argv: List[str]) -> str:
        """The command as people read it."""
        return mask(quoting.quote_argv([os.path.basename(argv[0])] + argv[1:]), self.secrets.values())

    def _failure(self, what: str) -> str:
        """One message for a person: which image, where, what, the likely reason, the last lines."""
        tail = self.log.tail()
        text = "\n".join(tail).lower()
        hint = next((": " + words for pattern, words in _HINTS if pattern in text), "")
        where = " on %s" % self.options.host if self.options.host else ""
        head = "image %s of model %s (%s) was not built%s: %s%s" % (
            self.image,
            self.request["model"],
            self.request["dockerfile"],
            where,
            what,
            hint,
        )
        return head + "\nlast lines of %s:\n  %s" % (os.path.basename(self.log.path), "\n  ".join(tail) if tail else "(nothing)")

    def _record(self, argv: List[str], content: str) -> Dict[str, Any]:
        """The image record of the manifest, as far as it is known before the build."""
        request, base = self.request, self.source["base"]
        record = {
            "model": request["model"],
            "docker_image": self.image,
            "dockerfile": request["dockerfile"],
            "base_docker": base,
            "docker_sha": self._base_digest(base),
            "build_command": self._shown(argv),
            "log_file": os.path.basename(self.log.path),
            "gpu_vendor": request.get("gpu_vendor", ""),
            "content": content,
            "build_host": self.options.host,
        }
        if request.get("gpu_architecture"):
            record["gpu_architecture"] = request["gpu_architecture"]
        return record

    def _base_digest(self, base: str) -> str:
        """The registry digest of the base image, else its id; "" when there is none (scratch)."""
        known = self.engine.image(base) if base and base != "scratch" else None
        if not known:
            return ""
        digests = [text.partition("@")[2] for text in known.get("RepoDigests") or [] if "@sha256:" in text]
        return digests[0] if digests else normal_id(known["Id"])


def content_hash(request: Mapping[str, Any], source: Mapping[str, Any], bases: Mapping[str, str]) -> str:
    """What an image is made of: sources after .dockerignore, arguments without secrets, the ids of its base images, the architecture."""
    return hash_value(
        {
            "schema": CONTENT_SCHEMA,
            "source": source["hash"],
            "build_args": dict(request.get("build_args", {})),
            "bases": dict(bases),
            "architecture": request.get("gpu_architecture", ""),
        }
    )


def predict(request: Mapping[str, Any], engine: ImageEngine, options: Options) -> bool:
    """Whether build() would build (check mode): nothing is pulled, so an absent base image means yes. Errors as in build()."""
    source = request["source"]
    check(request, source, engine, options)
    bases = {name: engine.image_id(name) for name in source["images"]}
    known = engine.image(request["image"])
    return bool(options.no_cache or not all(bases.values()) or not known or _content_of(known) != content_hash(request, source, bases))


def _content_of(known: Mapping[str, Any]) -> str:
    """The content label of an inspected image."""
    labels = (known.get("Config") or {}).get("Labels") or {}
    return str(labels.get(CONTENT_LABEL, ""))


def _secret_id(name: str) -> str:
    """The name itself if it can stand in a --secret option."""
    if not name or any(not (letter.isalnum() or letter in "_-.") for letter in name):
        raise InvalidInput("%r cannot be the id of a build secret (letters, digits and . _ -)" % name)
    return name


def _ended(code: int) -> str:
    return "was killed by signal %d" % -code if code < 0 else "ended with %d" % code


Work = Callable[[Mapping[str, Any]], Dict[str, Any]]  # request -> {"record", "changed", ...}


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
    found["seconds"] = round(time.monotonic() - started, 3)
    return found
