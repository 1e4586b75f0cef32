# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values of the section `k8s`, checked as the API server would check them, so that a person reads the key and not a 422."""

from __future__ import annotations

import difflib
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ..base import scalars
from ..base.errors import InvalidInput

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_QUANTITY = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?\Z")
_NAME_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {unit + "i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTPE", 1)}
_FACTORS = {**_DECIMAL, **_BINARY}


def line(value: Any, key: str) -> str:
    """Text of one line."""
    text = scalars.to_text(value, key).strip()
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise scalars.wrong(key, "text of one line", value)
    return text


def dns_label(value: Any, key: str) -> str:
    """A namespace, or the name of a volume."""
    text = line(value, key)
    if not _LABEL.match(text):
        raise scalars.wrong(key, "lower case letters, digits and '-', at most 63", value)
    return text


def object_name(value: Any, key: str) -> str:
    """The name of an object that exists in the cluster."""
    text = line(value, key)
    if len(text) > 253 or not _SUBDOMAIN.match(text):
        raise scalars.wrong(key, "the name of an object (lower case letters, digits, '-' and '.', at most 253)", value)
    return text


def object_names(value: Any, key: str) -> Tuple[str, ...]:
    """Names, also as text with commas."""
    return tuple(object_name(name, key) for name in scalars.to_list(value, key))


def quantity(value: Any, key: str) -> str:
    """An amount such as 500m, 16 or 64Gi."""
    text = line(value, key)
    if isinstance(value, bool) or not _QUANTITY.match(text):
        raise scalars.wrong(key, "an amount such as 8, 500m or 64Gi", value)
    return text


def amount(text: str) -> float:
    """A checked quantity as a number."""
    match = re.match(r"([0-9.]+)(?:[eE]([+-]?[0-9]+)|([a-zA-Z]*))\Z", text)
    if not match:
        return 0.0
    return float(match.group(1)) * (10.0 ** int(match.group(2)) if match.group(2) else _FACTORS[match.group(3)])


def byte_count(value: Any, key: str) -> int:
    """A quantity as a number of bytes."""
    return int(amount(quantity(value, key)))


def count(value: Any, key: str) -> int:
    """A whole number, 0 or more."""
    return scalars.to_int(value, key, 0)


def seconds(value: Any, key: str) -> int:
    """Seconds, at least one."""
    return scalars.to_int(value, key, 1, "a number of seconds from 1")


def path(value: Any, key: str) -> str:
    """An absolute path without `..`."""
    text = line(value, key)
    if not text.startswith("/") or ":" in text or "/../" in text + "/":
        raise scalars.wrong(key, "an absolute path without ':' and '..'", value)
    return text.rstrip("/") or "/"


def sub_path(value: Any, key: str) -> str:
    """A path below something else."""
    text = line(value, key)
    if text.startswith("/") or "../" in text + "/":
        raise scalars.wrong(key, "a relative path without '..'", value)
    return text


def choice(value: Any, key: str, words: Iterable[str]) -> str:
    """One of a few words, whatever their case."""
    known = {word.lower(): word for word in words}
    text = line(value, key)
    if text.lower() not in known:
        raise scalars.wrong(key, "one of %s" % ", ".join(known.values()), value)
    return known[text.lower()]


def qualified(name: str, key: str) -> str:
    """A label's or annotation's key, or the name of a resource: [prefix/]name."""
    prefix, slash, last = name.rpartition("/")
    if not _NAME_PART.match(last) or (slash and not (len(prefix) <= 253 and _SUBDOMAIN.match(prefix))):
        raise InvalidInput(
            "%s: %s is not a name as Kubernetes takes it ([prefix/]name, such as example.com/team)" % (key, scalars.shown(name))
        )
    return name


def label_dict(value: Any, key: str) -> Dict[str, str]:
    """Labels; those of ours are refused."""
    found = annotation_dict(value, key)
    for name, text in found.items():
        if text and not _NAME_PART.match(text):
            raise scalars.wrong("%s.%s" % (key, name), "letters, digits, '-', '_' and '.', at most 63", text)
    return found


def annotation_dict(value: Any, key: str) -> Dict[str, str]:
    """Annotations; those of ours are refused."""
    found = scalars.text_dict(value, key)
    for name in found:
        qualified(name, key)
        if name.startswith("mad.engine/"):
            raise InvalidInput("%s: %s is set by mad.engine: runs are found again by it" % (key, name))
    return found


def selector(value: Any, key: str) -> Dict[str, str]:
    """Labels that a node must carry."""
    found = scalars.text_dict(value, key)
    for name, text in found.items():
        qualified(name, key)
        if text and not _NAME_PART.match(text):
            raise scalars.wrong("%s.%s" % (key, name), "the value of a label", text)
    return found


def resources(value: Any, key: str) -> Dict[str, str]:
    """{resource: amount} beside CPU, memory and GPUs, such as rdma/hca: 1."""
    if not isinstance(value, Mapping):
        raise scalars.wrong(key, "a dict", value)
    return {qualified(str(name), key): quantity(item, "%s.%s" % (key, name)) for name, item in value.items()}


def raw_dict(value: Any, key: str) -> Dict[str, Any]:
    """A part of an object in Kubernetes' own words; the API server checks what is inside."""
    if not isinstance(value, Mapping):
        raise scalars.wrong(key, "a dict", value)
    plain: Dict[str, Any] = scalars.plain(value, key)
    return plain


def raw_list(value: Any, key: str) -> Tuple[Dict[str, Any], ...]:
    """A list of dicts in Kubernetes' own words."""
    if not isinstance(value, (list, tuple)):
        raise scalars.wrong(key, "a list of dicts", value)
    return tuple(raw_dict(item, "%s[%d]" % (key, index)) for index, item in enumerate(value))


def hint(name: str, known: Iterable[str]) -> str:
    """What a misspelt key may have meant, else all that are known."""
    words = sorted(known)
    near: Optional[List[str]] = difflib.get_close_matches(name, words, n=1)
    return "; did you mean %s?" % near[0] if near else "; known are %s" % ", ".join(words)
