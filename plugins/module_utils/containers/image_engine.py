# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container engine as builder and mover of images: docker or podman by its command line, what it can do found out by trying."""

from __future__ import annotations

import functools
import json
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..base.errors import ImageError
from .engine import Engine, first_object
from .engines import probe_engine
from .probe import System, first_words

# On every image of ours: the hash of what it was built from. Containers inherit it, so it is none of the labels that runs are found by.
CONTENT_LABEL = "mad.content"
_ABSENT = ("no such image", "image not known", "no such object")


class Builder(NamedTuple):
    """What an engine's `build` offers."""

    buildkit: bool  # build secrets, mounts in RUN
    build_contexts: bool  # --build-context name=folder
    flags: List[str]  # what every build needs
    environment: Dict[str, str]  # what every build needs beside the engine's own


class ImageEngine(Engine):
    """One engine. Commands are argv lists and run with `environment`; stdin is never the caller's."""

    def __init__(self, kind: str, program: str, environment: Optional[Mapping[str, str]] = None, root: str = "") -> None:
        super().__init__(program, environment)
        self.environment["BUILDKIT_PROGRESS"] = "plain"
        self.kind = kind  # docker or podman: which dialect the program speaks
        self.root = root  # where the engine keeps its images

    def argv(self, *words: str) -> List[str]:
        """The command line of an engine command."""
        return [self.program, *words]

    def image(self, reference: str) -> Optional[Dict[str, Any]]:
        """What the engine knows about a local image (its inspect document), or None when it has none of that name."""
        code, output, errors = self.call("image", "inspect", reference)
        if code == 0:
            return first_object(output)
        if any(words in errors.lower() for words in _ABSENT):
            return None
        raise ImageError("%s cannot look for the image %s: %s" % (self.program, reference, first_words(errors)))

    def images(self, references: Sequence[str]) -> Dict[str, Optional[Dict[str, Any]]]:
        """image() of several, in one question where all are there or the engine names those that are not."""
        code, output, errors = self.call("image", "inspect", *references)
        if code and not any(words in errors.lower() for words in _ABSENT):
            raise ImageError("%s cannot look for images: %s" % (self.program, first_words(errors)))
        documents = _documents(output)
        absent = [name for name in references if code and re.search(r"(?<!\S)%s:?(?=\s)" % re.escape(name), errors + " ")]
        there = [name for name in references if name not in absent]
        if len(documents) != len(there):
            return {name: self.image(name) for name in references}
        found: Dict[str, Optional[Dict[str, Any]]] = dict(zip(there, documents))
        found.update(dict.fromkeys(absent))
        return found

    def image_id(self, reference: str) -> str:
        """`sha256:...` of a local image (its configuration: the same after push and pull, save and load), or ""."""
        found = self.image(reference)
        return normal_id(str(found["Id"])) if found else ""

    @functools.cached_property
    def builder(self) -> Builder:
        """podman's own builder, BuildKit inside docker, or the classic builder; asked for when something is built."""
        if self.kind == "podman":
            _code, text, _errors = self.call("build", "--help")
            flags = ["--format=docker", "--pull=missing", "--force-rm"]  # this format keeps its id through save and load
            return Builder("--secret" in text, "--build-context" in text, flags, {})
        found = None if self.environment.get("DOCKER_BUILDKIT") == "0" else self._buildkit()
        return found or Builder(False, False, ["--force-rm"], {"DOCKER_BUILDKIT": "0"})

    def _buildkit(self) -> Optional[Builder]:
        """BuildKit as it is here, or None. Try it: a client without its buildx plugin refuses even to print the help."""
        environment = {"DOCKER_BUILDKIT": "1"}
        code, text, _errors = self.call("build", "--help", environment=environment)
        if code or "--secret" not in text:
            return None
        # --load: builders outside the engine keep their images otherwise; --provenance=false: no index around the image
        flags = [flag for flag in ("--load", "--provenance=false") if flag.partition("=")[0] in text]
        return Builder(True, "--build-context" in text, flags, environment)

    def describe(self) -> Dict[str, Any]:
        """What a person wants to know about it."""
        offers = {"buildkit": self.builder.buildkit, "build_contexts": self.builder.build_contexts}
        return dict(offers, engine=self.kind, program=self.program)


class Known:
    """What an engine says of images, each asked for once; several at once where that is known beforehand."""

    def __init__(self, engine: ImageEngine, references: Sequence[str] = ()) -> None:
        self._engine = engine
        self._found: Dict[str, Optional[Dict[str, Any]]] = engine.images(references) if references else {}

    def image(self, reference: str) -> Optional[Dict[str, Any]]:
        """As ImageEngine.image."""
        if reference not in self._found:
            self._found[reference] = self._engine.image(reference)
        return self._found[reference]

    def image_id(self, reference: str) -> str:
        """As ImageEngine.image_id."""
        document = self.image(reference)
        return normal_id(str(document["Id"])) if document else ""

    def forget(self, reference: str) -> None:
        """It may have changed: ask again."""
        self._found.pop(reference, None)


def normal_id(text: str) -> str:
    """An image id with its algorithm in front (podman leaves it out)."""
    return text if not text or ":" in text else "sha256:" + text


def _documents(output: str) -> List[Dict[str, Any]]:
    """The entries of an inspect list; [] when it cannot be read."""
    try:
        return [dict(entry) for entry in json.loads(output)]
    except (ValueError, TypeError):
        return []


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def look(which: str, environment: Optional[Mapping[str, str]] = None) -> Tuple[Optional[ImageEngine], str]:
    """(the engine, or None, why there is none): `auto` takes docker, else podman; the first that answers."""
    known = os.environ if environment is None else environment
    problems = []
    for name in ("docker", "podman") if which == "auto" else (which,):
        found = probe_engine(System(environ=known), name)
        if found["available"]:
            return ImageEngine(name, found["command"], known, found["root"]), ""
        problems.append(found["problem"])
    return None, "; ".join(problems)


def find(which: str, environment: Optional[Mapping[str, str]] = None) -> ImageEngine:
    """The engine to build with, as look() finds it. ImageError says what each of them answered."""
    engine, problem = look(which, environment)
    if engine is None:
        raise ImageError(
            "no container engine can build images here (%s): install or start docker or podman, or name a mad_build_host that has one" % problem
        )
    return engine
