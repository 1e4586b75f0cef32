# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build needs to know from a Dockerfile's instructions: images it starts from, arguments it takes, features it asks for."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S.*?)\s*\Z")
# A shell's words, quotes and all: only a word of its own opens a here-document, not `<<<text`, `$((1<<n))` or what stands in quotes.
_WORD = re.compile(r"(?:[^\s\"'\\]|\\.|\"(?:[^\"\\]|\\.)*\"|'[^']*')+")
_HEREDOC = re.compile(r"[0-9]*<<(-?)([\"']?)([A-Za-z0-9_][A-Za-z0-9_.-]*)\2\Z")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?(?:\s+|\Z)")
_VARIABLE = re.compile(r"\\?\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?([-+])([^}]*))?\})")


class Instruction(NamedTuple):
    """One instruction: keyword in upper case, `--name=value` flags in order, the rest on one line, whether a here-document follows."""

    keyword: str
    flags: List[str]
    rest: str
    heredoc: bool


class Facts(NamedTuple):
    """What `read()` finds: external images in order (variables filled in), declared ARG names with their defaults (None: none), needs."""

    images: List[str]
    base: str  # of the last stage, followed through earlier stages: what the image stands on
    arguments: Dict[str, Optional[str]]
    needs_buildkit: bool  # RUN --mount, here-documents, COPY --link and the like
    contexts: List[str]  # names after --from= or from= that are no stages and have no tag: images, or build contexts that are given


def _escape(lines: List[str]) -> str:
    """The escape character: a directive may change it before the first other line."""
    for line in lines:
        match = _DIRECTIVE.match(line.strip())
        if not match:
            return "\\"
        if match.group(1).lower() == "escape":
            return match.group(2)
    return "\\"


def _logical_lines(text: str) -> Iterator[str]:
    """Instructions on one line each: comments dropped, continuations joined, here-document bodies skipped (their start stays)."""
    lines = text.replace("\r\n", "\n").split("\n")
    escape = _escape(lines)
    position, pending = 0, ""
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.lstrip().startswith("#") or (pending and not line.strip()):
            continue
        if line.rstrip().endswith(escape):
            pending += line.rstrip()[:-1] + " "
            continue
        logical, pending = (pending + line).strip(), ""
        if logical:
            yield logical
            position = _after_heredocs(logical, lines, position)
    if pending.strip():
        yield pending.strip()


def _after_heredocs(logical: str, lines: List[str], position: int) -> int:
    """The line after the bodies of the here-documents that this instruction opens."""
    if logical.split(None, 1)[0].upper() not in ("RUN", "COPY", "ADD"):
        return position
    for dash, word in _heredocs(logical):
        while position < len(lines):
            line = lines[position].lstrip("\t") if dash else lines[position]
            position += 1
            if line == word:
                break
    return position


def _heredocs(logical: str) -> List[Tuple[str, str]]:
    """("-" where tabs in front do not count, else "", the word that ends it) of each here-document that an instruction opens."""
    found = (_HEREDOC.match(word) for word in _WORD.findall(logical) if "<<" in word)
    return [(match.group(1), match.group(3)) for match in found if match]


def instructions(text: str) -> List[Instruction]:
    """The instructions of a Dockerfile."""
    found = []
    for logical in _logical_lines(text):
        keyword, _blank, rest = logical.partition(" ") if " " in logical else logical.partition("\t")
        rest, flags = rest.strip(), []
        match = _FLAG.match(rest)
        while match:
            flags.append(match.group(0).strip())
            rest = rest[match.end() :]
            match = _FLAG.match(rest)
        keyword = keyword.strip().upper()
        found.append(Instruction(keyword, flags, rest, keyword in ("RUN", "COPY", "ADD") and bool(_heredocs(rest))))
    return found


def substitute(text: str, values: Mapping[str, Optional[str]]) -> str:
    """$NAME, ${NAME}, ${NAME:-word} and ${NAME:+word} filled in; an unknown name gives nothing, as in an engine."""

    def fill(match: re.Match[str]) -> str:
        if match.group(0).startswith("\\"):
            return match.group(0)[1:]
        value = values.get(match.group(1) or match.group(2)) or ""
        if match.group(3) == "-":
            return value or match.group(4)
        return (match.group(4) if value else "") if match.group(3) == "+" else value

    return _VARIABLE.sub(fill, text)


def _arguments(rest: str) -> Dict[str, Optional[str]]:
    """The names one ARG instruction declares, with their defaults."""
    found: Dict[str, Optional[str]] = {}
    for name, value in re.findall(r"(?:\A|\s)([A-Za-z_][A-Za-z0-9_]*)((?:=(?:\"[^\"]*\"|'[^']*'|\S*))?)(?=\s|\Z)", rest):
        found[name] = value[1:].strip("\"'") if value else None
    return found


def _references(instruction: Instruction) -> Iterator[str]:
    """Names after --from= (COPY, ADD) and in RUN --mount=...,from=."""
    for flag in instruction.flags:
        name, _equals, value = flag[2:].partition("=")
        if name == "from":
            yield value
        elif name == "mount":
            for part in value.split(","):
                if part.startswith("from="):
                    yield part[5:]


class _Reader:
    """Goes through the instructions once; a class because stages, arguments and images grow together."""

    def __init__(self, build_args: Mapping[str, str]) -> None:
        self.build_args = build_args
        self.values: Dict[str, Optional[str]] = {}  # ARGs before the first FROM, as given or by default
        self.arguments: Dict[str, Optional[str]] = {}
        self.stages: Dict[str, str] = {}  # stage name or number: the image it stands on
        self.images: List[str] = []
        self.contexts: Set[str] = set()
        self.base = ""
        self.needs_buildkit = False

    def take(self, instruction: Instruction) -> None:
        """One instruction."""
        if instruction.keyword == "ARG":
            self._argument(instruction.rest)
        elif instruction.keyword == "FROM":
            self._stage(instruction.rest)
        flags = [flag[2:].partition("=")[0] for flag in instruction.flags]
        advanced = any(flag in ("mount", "link", "network", "security", "parents", "exclude") for flag in flags)
        self.needs_buildkit = self.needs_buildkit or instruction.heredoc or advanced or (instruction.keyword == "COPY" and "chmod" in flags)
        for reference in _references(instruction):
            self._reference(reference)

    def _argument(self, rest: str) -> None:
        declared = _arguments(rest)
        self.arguments.update({name: value for name, value in declared.items() if value is not None or name not in self.arguments})
        if not self.stages:
            for name, value in declared.items():
                self.values[name] = self.build_args[name] if name in self.build_args else substitute(value or "", self.values)

    def _stage(self, rest: str) -> None:
        words = substitute(rest, self.values).split()
        image = words[0] if words else ""
        if image.lower() not in self.stages and image != "scratch":
            self._image(image)
        self.base = self.stages.get(image.lower(), image)
        self.stages[str(len([name for name in self.stages if name.isdigit()]))] = self.base
        if len(words) == 3 and words[1].upper() == "AS":
            self.stages[words[2].lower()] = self.base

    def _reference(self, reference: str) -> None:
        if reference.lower() in self.stages or "$" in reference:
            return
        if re.match(r"[a-z0-9_-]+\Z", reference):  # no tag, no slash: an image or a named build context; only the engine knows
            self.contexts.add(reference)
        else:
            self._image(reference)

    def _image(self, image: str) -> None:
        if image and image not in self.images:
            self.images.append(image)


def read(text: str, build_args: Mapping[str, str]) -> Facts:
    """The facts of a Dockerfile when built with these arguments."""
    reader = _Reader(build_args)
    for instruction in instructions(text):
        reader.take(instruction)
    return Facts(reader.images, reader.base, reader.arguments, reader.needs_buildkit, sorted(reader.contexts))
