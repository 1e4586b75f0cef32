# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries: the name an image is pushed under, the credential file, and which credential opens what. Nothing here talks to an engine."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Tuple

from ..base.errors import InvalidInput
from ..base.files import read_json

HUB = "docker.io"
HUB_KEY = "dockerhub"  # its key in the credential file
_HUB_NAMES = frozenset((HUB, HUB_KEY, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"))
_HUB_VARIABLES = {"MAD_DOCKERHUB_USER": "username", "MAD_DOCKERHUB_PASSWORD": "password", "MAD_DOCKERHUB_REPO": "repository"}
# Entries that may come as JSON from an environment variable of the same name, with or without the file.
_JSON_VARIABLES = ("MAD_AWS_S3", "MAD_MINIO", "NAS_NODES", "PUBLIC_GITHUB_ROCM_KEY")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(r"%s(?:/%s)*\Z" % (_HOST, _COMPONENT))
_REPOSITORY = re.compile(r"%s(?:/%s)*\Z" % (_COMPONENT, _COMPONENT))
_WORD = re.compile(r"[^\s\x00-\x20\x7f-][^\s\x00-\x20\x7f]{0,1023}\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def normalise(registry: str) -> str:
    """The registry as engines write it: no scheme, no slash at the end, one name for Docker Hub; "" stays "". Bad text: InvalidInput."""
    text = re.sub(r"\Ahttps?://", "", registry.strip()).rstrip("/")
    if text in _HUB_NAMES or text == "index.docker.io/v1":
        return HUB
    if text and not _REGISTRY.match(text):
        raise InvalidInput(
            "mad_registry %r is not a registry: expected host[:port][/path] in lower case, like localhost:5000 or docker.io" % registry
        )
    return text


def check_reference(text: Any, what: str) -> str:
    """The name of an image, or a file or URL of one, as somebody gave it; what could not be one word of a command is refused. `what` begins the error."""
    if not isinstance(text, str) or not _WORD.match(text):
        raise InvalidInput("%s: expected the name of an image, without blanks and not beginning with '-', got %.200r" % (what, text))
    return text


def host_of(reference: str) -> str:
    """The registry host an image reference names (`localhost:5000/a/b:c` gives `localhost:5000`); Docker Hub when it names none."""
    first, slash, _rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return HUB if first in _HUB_NAMES else first
    return HUB


def is_loopback(host: str) -> bool:
    """Whether a registry host is this machine itself: engines talk plain HTTP to it."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name in ("localhost", "[::1]") or name.startswith("127.")


def credential_for(registry: str, credentials: Mapping[str, Any]) -> Dict[str, str]:
    """`{repository, username, password}` (those that are set) of the entry that belongs to a registry, or {}.

    Entries are looked up by the registry as given, then by its host; Docker Hub's entry is `dockerhub`.
    """
    keys = (HUB_KEY, HUB) if registry == HUB else (registry, host_of(registry + "/"))
    for key in keys:
        if key in credentials:
            return _registry_entry(key, credentials[key])
    return {}


def _registry_entry(key: str, entry: Any) -> Dict[str, str]:
    """The three texts of a registry's entry; empty ones count as absent."""
    if not isinstance(entry, Mapping):
        raise InvalidInput(
            'the credential file\'s entry %r must be {"repository", "username", "password"}, not %s' % (key, type(entry).__name__)
        )
    found = {}
    for name in ("repository", "username", "password"):
        value = entry.get(name)
        if value in (None, ""):
            continue
        if not isinstance(value, str):
            raise InvalidInput("the credential file's entry %r: %r must be text, not %s" % (key, name, type(value).__name__))
        found[name] = value
    if "username" in found and "password" not in found:
        raise InvalidInput("the credential file's entry %r has a username and no password" % key)
    return found


def push_name(image: str, registry: str, credential: Mapping[str, str]) -> str:
    """The name an image is pushed under.

    With a `repository` in the credential the image's own name becomes the tag (`R:<image>`), else it is the last part of the name;
    every registry but Docker Hub stands in front. Names that no registry takes are refused here, before anything is built.
    """
    repository = credential.get("repository", "").strip("/")
    prefix = "" if registry == HUB else registry + "/"
    if not repository:
        return prefix + _checked(image, _REPOSITORY, "a repository name (lower case letters, digits, single . _ - between them)", image)
    _checked(repository, _REPOSITORY, "a repository name", image)
    return "%s%s:%s" % (prefix, repository, _checked(image, _TAG, "a tag (at most 128 letters, digits and . _ -)", image))


def _checked(text: str, pattern: Any, what: str, image: str) -> str:
    """The text itself when it has the form; InvalidInput with the image's name otherwise."""
    if not pattern.match(text):
        raise InvalidInput("image %s cannot be pushed: %r is not %s" % (image, text, what))
    return text


def load_credentials(path: str, environment: Mapping[str, str]) -> Dict[str, Any]:
    """The credential file (path "": none) with what the environment says above it.

    MAD_DOCKERHUB_USER, MAD_DOCKERHUB_PASSWORD and MAD_DOCKERHUB_REPO set or override the entry `dockerhub`; a variable that has the name
    of an entry (MAD_AWS_S3, MAD_MINIO, NAS_NODES, PUBLIC_GITHUB_ROCM_KEY, or any entry of the file) replaces it by its JSON. Values never
    stand in errors.
    """
    credentials = read_json(path, "the credential file") if path else {}
    if not isinstance(credentials, dict):
        raise InvalidInput(
            'the credential file %s must be a JSON object {"<registry or name>": {...}}, not %s' % (path, type(credentials).__name__)
        )
    for name in sorted(set(_JSON_VARIABLES) | set(credentials)):
        if environment.get(name):
            credentials[name] = _json_variable(name, environment[name])
    hub = {key: environment[name] for name, key in _HUB_VARIABLES.items() if environment.get(name)}
    if hub:
        known = credentials.get(HUB_KEY)
        credentials[HUB_KEY] = dict(known if isinstance(known, dict) else {}, **hub)
    return credentials


def _json_variable(name: str, text: str) -> Any:
    """The JSON in an environment variable; the text itself may be secret and is not repeated."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            "the environment variable %s must hold JSON (it replaces the credential file's entry of that name)" % name
        ) from error


def build_secrets(cred: str, credentials: Mapping[str, Any]) -> Dict[str, str]:
    """`{<cred>_<KEY in upper case>: value}` for the credential a model card names; {} for "". A missing entry is an error."""
    if not cred:
        return {}
    if cred not in credentials:
        raise InvalidInput(
            "the model's cred %r is not in the credential file; entries there: %s. Set mad_credential_file or the environment variable %s"
            % (cred, ", ".join(sorted(map(str, credentials))) or "none", cred)
        )
    entry = credentials[cred]
    if not isinstance(entry, Mapping):
        raise InvalidInput("the credential file's entry %r must be an object, not %s" % (cred, type(entry).__name__))
    return {"%s_%s" % (cred, str(key).upper()): value for key, value in entry.items() if isinstance(value, str)}


def split_digest(text: str) -> Tuple[str, str]:
    """(name, sha256:...) of a `name@sha256:...` reference; ("", "") for anything else."""
    name, at, digest = text.partition("@")
    return (name, digest) if at and re.match(r"sha256:[0-9a-f]{64}\Z", digest) else ("", "")
