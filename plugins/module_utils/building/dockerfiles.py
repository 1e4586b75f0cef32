# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Dockerfiles belong to a model and to a host: candidates by prefix, their CONTEXT headers, the matching rule, image names."""

from __future__ import annotations

import ast
import hashlib
import os
import posixpath
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..base.errors import InvalidInput
from ..base.scalars import to_text
from .dockerignore import context_filter

__all__ = ["Candidate", "candidates", "context_filter", "describe", "exclusive", "header", "image_name", "matches", "vendor"]

HEADER = "# CONTEXT "
HEADER_LINES = 5
_UPPER = ("gpu_vendor", "guest_os", "host_os")  # words that are compared without regard to case
# Keys that only the host can say when the context does not.
DETECTED = ("gpu_vendor", "host_os")
_DEFAULTS = {"ctx_test": "None"}  # a context without it means this value
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*\Z")
_LONGEST = 200  # characters of an image name; 255 with registry and tag is the engines' limit


class Candidate(NamedTuple):
    """One Dockerfile: path relative to the repository; its header, or None when it has none."""

    path: str
    header: Optional[Dict[str, str]]


def header(text: str, name: str) -> Optional[Dict[str, str]]:
    """The dict of a `# CONTEXT {...}` line among the first five, values as text; None without one; InvalidInput when it is malformed."""
    for number, line in enumerate(text.split("\n", HEADER_LINES)[:HEADER_LINES], 1):
        if HEADER not in line:
            continue
        where = "%s:%d" % (name, number)
        try:
            value = ast.literal_eval(line.split(HEADER, 1)[1].strip())
        # MemoryError and RecursionError are how the parser says "nested too deeply".
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            raise InvalidInput(
                "%s: the CONTEXT header is not a dict: expected # CONTEXT {'gpu_vendor': 'AMD', 'guest_os': 'UBUNTU'}" % where
            ) from error
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise InvalidInput("%s: the CONTEXT header must be a dict with texts as keys" % where)
        return {key: _value(key, to_text(item, "%s: CONTEXT key %s" % (where, key))) for key, item in value.items()}
    return None


def _value(key: str, value: Any) -> str:
    return str(value).strip().upper() if key in _UPPER else str(value)


def candidates(repo: str, prefix: str) -> List[Candidate]:
    """Every file `<prefix>.*` of the repository, by name; ignore files are none."""
    if not prefix:
        return []
    folder, start = posixpath.split(prefix)
    try:
        names = sorted(os.listdir(os.path.join(repo, folder)))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InvalidInput("%s cannot be listed: %s" % (os.path.join(repo, folder), error.strerror)) from error
    found = []
    for name in names:
        path = posixpath.join(folder, name)
        if name.startswith(start + ".") and not name.endswith(".dockerignore") and os.path.isfile(os.path.join(repo, path)):
            found.append(Candidate(path, header(_first_lines(os.path.join(repo, path)), path)))
    return found


def _first_lines(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return "".join(stream.readline(65536) for _line in range(HEADER_LINES))
    except OSError as error:
        raise InvalidInput("%s cannot be read: %s" % (path, error.strerror)) from error


def matches(found: Optional[Mapping[str, str]], context: Mapping[str, Any]) -> bool:
    """Whether a header admits a context: no key of it has another value there.

    Keys that the context lacks exclude nothing. A file without a header matches nothing.
    """
    if found is None:
        return False
    for key, wanted in found.items():
        value = context.get(key, _DEFAULTS.get(key))
        if isinstance(value, (str, int, float)) and _value(key, value) != wanted:
            return False
    return True


def exclusive(headers: Sequence[Mapping[str, str]], context: Mapping[str, Any]) -> bool:
    """Whether never two of these headers match at once, whatever a host is: each pair differs in a key that only the host can say."""
    for index, one in enumerate(headers):
        for other in headers[index + 1 :]:
            if not any(key in one and key in other and one[key] != other[key] and key not in context for key in DETECTED):
                return False
    return True


def describe(found: Sequence[Candidate], prefix: str, context: Mapping[str, Any]) -> str:
    """The sentence of "no Dockerfile matches": all candidates with their headers, and what they were compared with."""
    if not found:
        hint = "; the key is the path without its ending: docker/x for docker/x.ubuntu.amd.Dockerfile" if prefix.endswith("Dockerfile") else ""
        return "no Dockerfile: no file %s.* in the repository%s" % (prefix or "(the card has no dockerfile)", hint)
    compared = {key for candidate in found for key in candidate.header or {}}
    have = ", ".join("%s %s" % (key, context.get(key, _DEFAULTS.get(key, "not set"))) for key in sorted(compared)) or "nothing to compare"
    listed = "; ".join("%s %s" % (candidate.path, _shown_header(candidate)) for candidate in found)
    return "no Dockerfile matches (%s). Candidates: %s" % (have, listed)


def _shown_header(candidate: Candidate) -> str:
    if candidate.header is None:
        return "has no '# CONTEXT {...}' in its first %d lines" % HEADER_LINES
    return "has CONTEXT {%s}" % ", ".join("%s: %s" % item for item in sorted(candidate.header.items()))


def vendor(candidate: Candidate) -> str:
    """The GPU vendor a Dockerfile is for: its header's, else what its name says (.amd., .nvidia., .intel.), else ""."""
    if candidate.header and candidate.header.get("gpu_vendor"):
        return candidate.header["gpu_vendor"]
    words = posixpath.basename(candidate.path).lower().split(".")
    return next((word.upper() for word in words if word in ("amd", "nvidia", "intel")), "")


def image_name(model: str, dockerfile: str, variant: str = "") -> str:
    """`ci-<model>_<file without .Dockerfile>[_<variant>]` in lower case, '/' as '_'.

    What no engine takes as a name (other characters, runs of separators, more than 200 characters) is replaced, and 8 hex digits of the
    original keep two such names apart.
    """
    base = posixpath.basename(dockerfile)
    base = base[: -len(".Dockerfile")] if base.endswith(".Dockerfile") else base
    name = "ci-%s_%s%s" % (model.replace("/", "_"), base, "_" + variant if variant else "")
    lowered = name.lower()
    if _NAME.match(lowered) and len(lowered) <= _LONGEST:
        return lowered
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    clean = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]*-[^a-z0-9]*", "-", re.sub(r"[^a-z0-9._-]+", "-", lowered)))
    clean = re.sub(r"([._])[._-]+", r"\1", clean)
    return "%s-%s" % (clean[: _LONGEST - 9].strip("._-"), mark)
