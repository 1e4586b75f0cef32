# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One build as a command: what makes it impossible, its content hash, its words and environment, its record. Nothing runs here."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..base import quoting
from ..base.canonical import hash_value
from ..base.errors import ImageError, InvalidInput
from ..base.secret_names import mask
from ..containers.build_log import log_name
from ..containers.engine import check_words
from ..containers.image_engine import CONTENT_LABEL, ImageEngine, Known, normal_id
from .build_source import secret_arguments

CONTENT_SCHEMA = 1
_RESERVED_NAMES = ("PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH")  # as an env-only build argument they would change the client itself
_RESERVED_STARTS = ("DOCKER_", "BUILDKIT_", "BUILDX_", "CONTAINER", "REGISTRY_AUTH", "XDG_")


class Options(NamedTuple):
    """How to build; the same for every image of one call."""

    log_dir: str
    no_cache: bool = False
    pull: str = "missing"  # or `always`: refresh base images first where their registry answers
    allow_secret_build_args: bool = False
    timeout: float = 0  # seconds for one build, 0: none
    host: str = ""  # the inventory's name of this machine, for records and errors
    lock_dir: str = ""  # of two controllers that build the same image here one waits; "" takes log_dir


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
    needs = (
        ("BuildKit (RUN --mount, here-documents, COPY --link)", source["needs_buildkit"], engine.builder.buildkit),
        ("build contexts (--from=tools)", source["needs_tools"], engine.builder.build_contexts),
    )
    lacking = [what for what, needed, there in needs if needed and not there]
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


def content_of(document: Mapping[str, Any]) -> str:
    """The content label of an inspected image, "" when it has none."""
    labels = (document.get("Config") or {}).get("Labels") or {}
    return str(labels.get(CONTENT_LABEL, ""))


def command(
    request: Mapping[str, Any], source: Mapping[str, Any], engine: ImageEngine, options: Options, secrets: Mapping[str, str], content: str
) -> Tuple[List[str], Dict[str, str]]:
    """(argv, environment) of the build. Secret values stand in the environment only; paths are relative to the source folder."""
    environment = dict(engine.environment, **engine.builder.environment)
    argv = engine.argv("build", "--network=host", *engine.builder.flags)
    argv += ["--no-cache"] if options.no_cache else []
    argv += ["--label", "%s=%s" % (CONTENT_LABEL, content)]
    if source["tools"] and engine.builder.build_contexts:
        argv += ["--build-context", "tools=./%s" % source["tools"]]
    argv += ["--tag", request["image"], "--file", "./" + source["dockerfile"]]
    for name, value in sorted(request.get("build_args", {}).items()):
        argv += ["--build-arg", "%s=%s" % (name, value)]
    argv += _secret_options(secret_arguments(request, source), engine.builder.buildkit, secrets, environment) + ["./" + source["context"]]
    check_words(argv, "the build command of image %s" % request["image"])
    return argv, environment


def _secret_options(arguments: Sequence[str], mounts: bool, secrets: Mapping[str, str], environment: Dict[str, str]) -> List[str]:
    """Options for the secrets: mounts where the builder has them, allowed arguments by name only. Values go into the environment."""
    words: List[str] = []
    for number, name in enumerate(sorted(secrets)):
        if name in arguments:
            environment[name] = secrets[name]
            words += ["--build-arg", name]
        elif mounts:
            variable = "MAD_BUILD_SECRET_%d" % number  # never the secret's own name: it could be DOCKER_HOST
            environment[variable] = secrets[name]
            words += ["--secret", "id=%s,env=%s" % (_secret_id(name), variable)]
    return words


def _secret_id(name: str) -> str:
    """The name itself if it can stand in a --secret option."""
    if not name or any(not (letter.isalnum() or letter in "_-.") for letter in name):
        raise InvalidInput("%r cannot be the id of a build secret (letters, digits and . _ -)" % name)
    return name


def shown(argv: Sequence[str], secrets: Mapping[str, str]) -> str:
    """A command as people read it."""
    return mask(quoting.quote_argv([os.path.basename(argv[0]), *argv[1:]]), secrets.values())


def record(
    request: Mapping[str, Any], source: Mapping[str, Any], known: Known, options: Options, shown_command: str, content: str
) -> Dict[str, Any]:
    """The image record of the manifest, but for digest and duration."""
    base, architecture = source["base"], request.get("gpu_architecture", "")
    found = {
        "model": request["model"],
        "docker_image": request["image"],
        "dockerfile": request["dockerfile"],
        "base_docker": base,
        "docker_sha": _base_digest(base, known),
        "build_command": shown_command,
        "log_file": log_name(request["model"], request["dockerfile"], architecture),
        "gpu_vendor": request.get("gpu_vendor", ""),
        "content": content,
        "build_host": options.host,
    }
    return dict(found, gpu_architecture=architecture) if architecture else found


def _base_digest(base: str, known: Known) -> str:
    """The registry digest of the base image, else its id; "" when there is none (scratch)."""
    document = known.image(base) if base and base != "scratch" else None
    if not document:
        return ""
    digests = [text.partition("@")[2] for text in document.get("RepoDigests") or [] if "@sha256:" in text]
    return digests[0] if digests else normal_id(document["Id"])
