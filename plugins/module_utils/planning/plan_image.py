# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which image a run uses: variants of a model by Dockerfile, choices that the host decides, and the builds that follow."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..base.canonical import canonical_json, hash_value
from ..base.errors import ImageError, MadError
from ..base.secret_names import split_secrets
from ..building import dockerfiles
from ..facts import gpu
from .plan_env import GUEST_OS
from .plan_repo import Repository
from .unresolved import unresolved

ARCHITECTURE_ARG = "MAD_SYSTEM_GPU_ARCHITECTURE"
_APART = ("dockerfile", "dockercontext", "build_args", "secret_build", "gpu_architecture")  # in what builds of one name can differ
_BACKUPS = ("~", ".orig", ".rej", ".bak", ".swp", ".save")
Pair = Tuple[Dict[str, Any], Dict[str, Any]]  # image of runs, request of its build
LOCAL_IMAGE = "N/A (local image mode)"  # madengine's word for "no Dockerfile", it stands in perf.csv
_HOST_OS = (  # by the package manager, as madengine names hosts
    ("HOST_UBUNTU", ("debian", "ubuntu")),
    ("HOST_CENTOS", ("rhel", "centos", "fedora", "rocky", "almalinux")),
    ("HOST_SLES", ("sles", "suse", "opensuse")),
    ("HOST_AZURE", ("azurelinux", "mariner")),
)


class Mismatch(Exception):
    """The image is for other hardware: the run is SKIPPED with this reason."""


class Choice(NamedTuple):
    """One image and what must hold on the host for it: `when` has gpu_vendor, host_os or gpu_architecture, or nothing."""

    when: Dict[str, str]
    image: Dict[str, Any]  # as in a run; without a name when it is built: Builds gives names at the end
    request: Optional[Dict[str, Any]]  # what is built, None for an image that is given
    takes_architecture: bool  # the Dockerfile asks for the host's architecture and nobody said one
    problem: str  # why it cannot be built


class Variant(NamedTuple):
    """One planned image of a model: usually the only one, then its name is "". With several, the Dockerfile's path."""

    name: str
    choices: List[Choice]
    content: str  # hash of everything that goes into it, for the run id


def match_context(context: Mapping[str, Any], facts: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """What Dockerfile headers are compared with: the context, its defaults, and what was detected where the context is silent."""
    found = dict({"guest_os": GUEST_OS}, **context)
    if facts is not None:
        found.setdefault("gpu_vendor", (facts.get("gpu") or {}).get("vendor") or "NONE")
        system = facts.get("os") or {}
        words = {str(system.get("id") or "").lower()} | {str(word).lower() for word in system.get("like") or []}
        for name, ids in _HOST_OS:
            if words & set(ids):
                found.setdefault("host_os", name)
    return found


def given_image(name: str) -> Variant:
    """MAD_CONTAINER_IMAGE: an image that exists."""
    image = {
        "name": name,
        "dockerfile": LOCAL_IMAGE,
        "base_docker": "",
        "given": True,
        "digest": unresolved("known when the image is on the host"),
        "registry_image": "",
        "docker_sha": "",
        "build_duration": None,
    }
    return Variant("", [Choice({}, image, None, False, "")], hash_value(["image", name]))


def manifest_image(record: Mapping[str, Any], name: str) -> Variant:
    """An image of a build manifest (a record of manifest.read())."""
    image = {
        "name": record["docker_image"],
        "dockerfile": record["dockerfile"] or LOCAL_IMAGE,
        "base_docker": record["base_docker"],
        "given": bool(record["given"]) or not record["digest"],  # without an id the host takes the image of this name
        "digest": record["digest"] or unresolved("known when the image is on the host"),
        "registry_image": record["registry_image"],
        "docker_sha": record["docker_sha"],
        "build_duration": record["build_duration"],
        **({"push_error": record["push_error"]} if record.get("push_error") else {}),
    }
    when = {key: record[key].upper() if key == "gpu_vendor" else record[key] for key in ("gpu_vendor", "gpu_architecture") if record[key]}
    # Where an image comes from is not what it is: only one without an id is told by its place.
    content = hash_value(["image", record["docker_image"], "" if record["digest"] else record["registry_image"], record["digest"]])
    return Variant(name, [Choice(when, image, None, False, "")], content)


class Images:
    """Finds the variants of models in one repository."""

    def __init__(self, repository: Repository, environ_secrets: Mapping[str, str]) -> None:
        self.repository = repository
        self.secrets = sorted(environ_secrets)
        self.warnings: Dict[str, None] = {}  # each once, in their order

    def variants(self, card: Mapping[str, Any], context: Mapping[str, Any], architectures: Sequence[str]) -> List[Variant]:
        """All that the context admits, before any host is known. ImageError that lists the candidates when there is none."""
        prefix = str(card.get("dockerfile") or "")
        found = self.repository.candidates(prefix)
        declared = match_context(context, None)
        matching = [candidate for candidate in found if dockerfiles.matches(candidate.header, declared)]
        self._warn_odd(found)
        if not matching:
            raise ImageError("model %s: %s" % (card["name"], dockerfiles.describe(found, prefix, declared)))
        if ARCHITECTURE_ARG in _arguments(card, context) and architectures:
            self._warn("mad_target_archs has no effect where docker_build_arg.%s is set in mad_context or a card" % ARCHITECTURE_ARG)
            architectures = ()
        sets = {candidate.path: self._choices(card, context, candidate, architectures) for candidate in matching}
        if dockerfiles.exclusive([candidate.header or {} for candidate in matching], declared):
            return [self._variant("", [choice for choices in sets.values() for choice in choices])]
        return [self._variant(path, choices) for path, choices in sets.items()]

    def _warn(self, text: str) -> None:
        self.warnings[text] = None

    def _warn_odd(self, found: Sequence[dockerfiles.Candidate]) -> None:
        for candidate in found:
            if candidate.header is None:
                self._warn("%s has no '# CONTEXT {...}' in its first lines, so it is never built" % candidate.path)
            elif candidate.path.endswith(_BACKUPS):
                self._warn("%s looks like a backup of an editor, and is built like any other Dockerfile of its models; remove it" % candidate.path)

    @staticmethod
    def _variant(name: str, choices: List[Choice]) -> Variant:
        content = {(choice.request["dockerfile"], choice.request["context_hash"]) for choice in choices if choice.request}
        return Variant(name, choices, hash_value(sorted(content)))

    def _choices(
        self, card: Mapping[str, Any], context: Mapping[str, Any], candidate: dockerfiles.Candidate, architectures: Sequence[str]
    ) -> List[Choice]:
        """One image per Dockerfile, or one per architecture when some are asked for."""
        header = candidate.header or {}
        when = {key: header[key] for key in dockerfiles.DETECTED if key in header and key not in context}
        request = self._request(card, context, candidate)
        problem, arguments, base = "", [], ""
        try:
            source = self.repository.source(request)
            arguments, base = source["arguments"], source["base"]
            request["context_hash"] = source["hash"]
        except MadError as error:
            problem, request["context_hash"] = error.message, "unreadable"
        base = request["build_args"].get("BASE_DOCKER") or base
        takes = ARCHITECTURE_ARG in arguments and ARCHITECTURE_ARG not in request["build_args"]
        if not architectures:
            return [Choice(when, _image(request, base), request, takes, problem)]
        found = []
        for architecture in architectures:
            own = _with_architecture(request, architecture, takes)
            found.append(Choice(dict(when, gpu_architecture=architecture), _image(own, base), own, False, problem))
        return found

    def _request(self, card: Mapping[str, Any], context: Mapping[str, Any], candidate: dockerfiles.Candidate) -> Dict[str, Any]:
        plain, secret = split_secrets(_arguments(card, context))
        folder = str(card.get("dockercontext") or ("." if "primus" in candidate.path.lower() else "./docker"))
        return {
            "image": dockerfiles.image_name(str(card["name"]), candidate.path),
            "model": card["name"],
            "dockerfile": candidate.path,
            "dockercontext": folder,
            "build_args": plain,
            "secret_build": sorted(set(secret) | set(self.secrets)),
            "cred": str(card.get("cred") or ""),
            "gpu_vendor": dockerfiles.vendor(candidate),
            "gpu_architecture": plain.get(ARCHITECTURE_ARG, ""),
            "context_hash": "",
        }


def _arguments(card: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, str]:
    """Build arguments: what a card pins for its own images, below what the context says for all."""
    return dict(card.get("docker_build_arg") or {}, **context.get("docker_build_arg", {}))


def _with_architecture(request: Mapping[str, Any], architecture: str, takes: bool) -> Dict[str, Any]:
    """The request for one architecture of mad_target_archs: named with it, as madengine does."""
    arguments = dict(request["build_args"], **({ARCHITECTURE_ARG: architecture} if takes else {}))
    name = dockerfiles.image_name(str(request["model"]), str(request["dockerfile"]), architecture)
    return dict(request, image=name, build_args=arguments, gpu_architecture=architecture)


def _image(request: Mapping[str, Any], base: str) -> Dict[str, Any]:
    return {
        "name": request["image"],
        "dockerfile": request["dockerfile"],
        "base_docker": base,
        "given": False,
        "digest": unresolved("known when it is built"),
        "registry_image": "",
        "docker_sha": "",
        "build_duration": None,
    }


def no_image(reason: str) -> Variant:
    """A model that has no image: an error as soon as one is needed."""
    return Variant("", [Choice({}, unresolved(reason), {}, False, reason)], hash_value(["no image"]))


def fitting(choices: Sequence[Choice], context: Mapping[str, Any], facts: Optional[Mapping[str, Any]]) -> List[Choice]:
    """The choices that vendor and system of a host admit (of an unknown host: all), whatever its architecture."""
    have = match_context(context, facts)
    return [
        choice
        for choice in choices
        if all(have.get(key, value) == value for key, value in choice.when.items() if key in dockerfiles.DETECTED)
    ]


def pick(choices: Sequence[Choice], context: Mapping[str, Any], facts: Mapping[str, Any]) -> Optional[Choice]:
    """The choice that a host decides; None when its vendor or system fits none, Mismatch when only its architecture does not."""
    found = fitting(choices, context, facts)
    if not found:
        return None
    host = str((facts.get("gpu") or {}).get("architecture") or "")
    for choice in found:
        wanted = choice.when.get("gpu_architecture")
        if wanted is None or gpu.architecture(wanted) == gpu.architecture(host):
            return choice
    built = ", ".join(str(choice.when["gpu_architecture"]) for choice in found)
    raise Mismatch("the image is for %s; the host has %s" % (built, host or "no GPU"))


class Builds:
    """Every image that some run uses, by content: equal ones are built once, unequal ones get names of their own at the end."""

    def __init__(self, ignore_architecture: bool = False) -> None:
        self.ignore_architecture = ignore_architecture  # a build alone is for whatever host comes
        self._found: Dict[str, Pair] = {}

    def image(self, choice: Choice, architecture: str) -> Dict[str, Any]:
        """The image of a choice for a host's architecture: one shared dict per content, named by `requests`."""
        if choice.request is None:
            return choice.image
        request = choice.request
        if choice.takes_architecture and architecture and not self.ignore_architecture:
            request = dict(
                request, build_args=dict(request["build_args"], **{ARCHITECTURE_ARG: architecture}), gpu_architecture=architecture
            )
        key = canonical_json(
            [request["image"], request["dockerfile"], request["dockercontext"], request["build_args"], request["secret_build"]]
        )
        if key not in self._found:
            self._found[key] = (dict(choice.image), dict(request, hosts=[], build_host=""))
        return self._found[key][0]

    def requests(self) -> List[Dict[str, Any]]:
        """The build of every image, in the order of first use."""
        return [request for _image, request in self._found.values()]

    def name_all(self) -> None:
        """Names: the plain one where it is unambiguous, with the architecture or 8 hex digits of what is built where it is not."""
        by_name: Dict[str, List[Pair]] = {}
        for pair in self._found.values():
            by_name.setdefault(pair[1]["image"], []).append(pair)
        for pairs in by_name.values():
            if len(pairs) < 2:
                continue
            architectures = [request["gpu_architecture"] for _image, request in pairs]
            distinct = all(architectures) and len(set(architectures)) == len(pairs)
            for image, request in pairs:
                mark = request["gpu_architecture"] if distinct else hash_value([request[name] for name in _APART])[:8]
                image["name"] = request["image"] = dockerfiles.image_name(str(request["model"]), str(request["dockerfile"]), mark)
