# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to registries through an engine: logins that leave nothing behind, pushes, and the digest of what was pushed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

from ..base.errors import ImageError
from . import registry
from .build_log import BuildLog, Commands
from .image_engine import ImageEngine, last_line

_FOLDER = "auth-"
_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})")


@contextlib.contextmanager
def logins(engine: ImageEngine, folder: str) -> Iterator[None]:
    """A private configuration (mode 0700) for the engine's client as long as the block lasts: logins go there and are removed with it.

    The user's own configuration stays in force below it (other logins, proxies, plugins). Folders of earlier processes that were killed are
    removed from `folder` too.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _sweep(folder)
    private = tempfile.mkdtemp(prefix="%s%d-" % (_FOLDER, os.getpid()), dir=folder)
    saved = dict(engine.environment)
    try:
        if engine.kind == "podman":
            engine.environment["REGISTRY_AUTH_FILE"] = _podman_auth(private, saved)
        else:
            engine.environment["DOCKER_CONFIG"] = _docker_config(private, saved)
        yield
    finally:
        engine.environment.clear()
        engine.environment.update(saved)
        shutil.rmtree(private, ignore_errors=True)


def _sweep(folder: str) -> None:
    """Remove what processes that no longer live left in `folder`."""
    for name in os.listdir(folder):
        match = re.match(r"%s([0-9]+)-" % _FOLDER, name)
        if match and not os.path.exists("/proc/%s" % match.group(1)):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _docker_config(private: str, environment: Mapping[str, str]) -> str:
    """A copy of the user's client configuration without credential helpers (they would keep our login); plugins and contexts by link."""
    own = environment.get("DOCKER_CONFIG") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".docker")
    with contextlib.suppress(OSError):
        for name in os.listdir(own):
            if name != "config.json":
                os.symlink(os.path.join(own, name), os.path.join(private, name))
    settings = _read_settings(os.path.join(own, "config.json"))
    settings.pop("credsStore", None)
    _write_private(os.path.join(private, "config.json"), settings)
    return private


def _podman_auth(private: str, environment: Mapping[str, str]) -> str:
    """A copy of the user's logins: of all files in which podman looks for them, for it looks in no other than the one that we name."""
    home, runtime = environment.get("HOME") or os.path.expanduser("~"), environment.get("XDG_RUNTIME_DIR") or "/run/user/%d" % os.geteuid()
    places = [
        os.path.join(runtime, "containers", "auth.json"),
        "/run/containers/%d/auth.json" % os.geteuid(),
        os.path.join(environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers", "auth.json"),
        os.path.join(environment.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json"),
    ]
    auths: Dict[str, Any] = {}
    for place in [environment["REGISTRY_AUTH_FILE"]] if environment.get("REGISTRY_AUTH_FILE") else reversed(places):
        found = _read_settings(place).get("auths")
        auths.update(found if isinstance(found, dict) else {})
    path = os.path.join(private, "auth.json")
    _write_private(path, {"auths": auths})
    return path


def _read_settings(path: str) -> Dict[str, Any]:
    """A client's JSON file, or {} (the client itself will complain about a broken one when it matters)."""
    try:
        with open(path, encoding="utf-8") as stream:
            settings = json.load(stream)
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _write_private(path: str, settings: Mapping[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(settings, stream)


def login(engine: ImageEngine, name: str, credential: Mapping[str, str]) -> None:
    """Log in to a registry inside a `logins` block, password through stdin. No username: nothing to do. ImageError when refused."""
    if not credential.get("username"):
        return
    host = registry.host_of(name + "/")
    words = ["login", "--username", credential["username"], "--password-stdin", *_plain_http(engine, host), host]
    code, output, errors = engine.call(*words, stdin=credential["password"])
    if code:
        said = last_line(errors or output).replace(credential["password"], "********")
        raise ImageError("the registry %s refused the login as %s: %s" % (host, credential["username"], said))


def _plain_http(engine: ImageEngine, host: str) -> Tuple[str, ...]:
    """podman must be told what docker knows: a registry on this machine needs no TLS."""
    return ("--tls-verify=false",) if engine.kind == "podman" and registry.is_loopback(host) else ()


def push(engine: ImageEngine, image: str, name: str, log: BuildLog, commands: Commands) -> Tuple[str, bool]:
    """Push a local image under a name (registry.push_name); returns (its digest in the registry, whether anything had to be sent).

    ImageError when the registry did not take it.
    """
    code, output, errors = engine.call("tag", image, name)
    if code:
        raise ImageError("image %s cannot be named %s: %s" % (image, name, last_line(errors or output)))
    lines: List[str] = []
    with tempfile.NamedTemporaryFile(prefix=".digest-", dir=os.path.dirname(log.path)) as digest_file:
        words = ["--digestfile", digest_file.name] if engine.kind == "podman" else []
        words += _plain_http(engine, registry.host_of(name))
        code = log.run(engine.argv("push", *words, name), engine.environment, commands, watch=lines.append)
        digest = digest_file.read().decode("ascii", "replace").strip() or _digest_in(lines)
    if code or not digest:
        ended = "ended with %d" % code if code else "named no digest"
        said = (log.tail() or ["no output"])[-1]
        raise ImageError("image %s was not pushed as %s: %s push %s: %s" % (image, name, engine.kind, ended, said))
    return digest, any(_was_sent(line) for line in lines)


def _digest_in(lines: Iterable[str]) -> str:
    """The digest that docker prints at the end of a push."""
    found = [match.group(1) for match in map(_PUSHED.search, lines) if match]
    return found[-1] if found else ""


def _was_sent(line: str) -> bool:
    """Whether a line of a push says that a layer went over the wire: docker's `<layer>: Pushed`, podman's `Copying blob <digest>`."""
    return line.endswith(": Pushed") or (line.startswith("Copying blob") and "skipped" not in line)
