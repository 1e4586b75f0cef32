# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single values as people give them (JSON, YAML, survey text, command line) turned into one type, or refused by name."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .errors import InvalidInput
from .secret_names import is_secret_name

_TRUE = frozenset(("true", "yes", "on", "1", "y", "t"))
_FALSE = frozenset(("false", "no", "off", "0", "n", "f"))
LONGEST_SECONDS = 10**9  # 31 years; clocks of operating systems overflow beyond 10**10
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*\Z")
_UNSAVED = re.compile("[\x00\ud800-\udfff]")
_SHOWN = 200  # characters of a bad value that an error repeats


# Keys of a context that people write into a cluster's section of it, and where they belong.
AT_THE_TOP = {
    **{key: "write %s at the top of the context" % key for key in ("deploy", "distributed", "env_vars", "gpu_vendor", "guest_os", "timeout", "debug")},
    **{key: "write distributed.%s" % key for key in ("nnodes", "nproc_per_node", "launcher", "backend", "port", "master_port")},
}


def shown(value: Any) -> str:
    """A value as an error repeats it: short, quoted, on one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def named(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (" and %d more" % (len(names) - most) if len(names) > most else "")


def kind_of(value: Any) -> str:
    """What a person calls the type of a value."""
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((str, "text"), ((int, float), "a number"), ((list, tuple), "a list"), (Mapping, "a dict")):
        if isinstance(value, kind):
            return name
    return "nothing" if value is None else type(value).__name__


def wrong(key: str, expected: str, value: Any) -> InvalidInput:
    """The one form of a type error; the value of a secret is not repeated."""
    text = "(secret)" if is_secret_name(key.rsplit(".", 1)[-1]) else shown(value)
    return InvalidInput("%s: expected %s, not %s: %s" % (key, expected, kind_of(value), text))


def is_unset(value: Any) -> bool:
    """Whether a value means "not answered": nothing, empty or blank text, an empty list, an empty dict."""
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, (list, tuple, Mapping)) and not value)


def to_bool(value: Any, key: str) -> bool:
    """true and false, also as text (true, yes, on, 1) or number (1, 0)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int)):
        word = str(value).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise wrong(key, "true or false", value)


def to_int(value: Any, key: str, lowest: int, expected: str = "") -> int:
    """A whole number not below `lowest`, also as text."""
    expected = expected or "a whole number from %d" % lowest
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and _INTEGER.match(value))):
        raise wrong(key, expected, value)
    if int(value) < lowest:
        raise wrong(key, expected, value)
    return int(value)


def to_seconds(value: Any, key: str, expected: str) -> int:
    """Seconds from -1, which clocks can carry."""
    seconds = to_int(value, key, -1, expected)
    if seconds > LONGEST_SECONDS:
        raise wrong(key, "%s, at most %d" % (expected, LONGEST_SECONDS), value)
    return seconds


def to_text(value: Any, key: str) -> str:
    """Text; numbers and true/false become text as Python writes them. NUL is refused: no process can carry it."""
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise wrong(key, "text", value)
    if isinstance(value, str):
        _check_text(value, key)
    return str(value)


def _check_text(text: str, key: str) -> None:
    """Refuse what neither a process nor a UTF-8 file can carry."""
    if _UNSAVED.search(text):
        raise wrong(key, "text without NUL bytes and halves of surrogate pairs", text)


def to_list(value: Any, key: str) -> List[str]:
    """A list of texts, also as text separated by commas or newlines; blanks around and empty parts do not count."""
    if is_unset(value):
        return []
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        raise wrong(key, "a list or text with commas", value)
    texts = [to_text(part, key).strip() for part in parts]
    return [text for text in texts if text]


def text_dict(value: Any, key: str) -> Dict[str, str]:
    """A dict of texts; each bad value is named with its key."""
    if not isinstance(value, Mapping):
        raise wrong(key, "a dict", value)
    return {str(name): to_text(item, "%s.%s" % (key, name)) for name, item in value.items()}


def plain(value: Any, key: str) -> Any:
    """The same value in JSON's own types: tuples become lists, subclasses of text plain text; what JSON cannot say is refused."""
    return _plain(value, (key,))


def _plain(value: Any, where: Tuple[Any, ...]) -> Any:
    """`where`: the key, or the place of what holds this, how it is written there, and its name; it becomes text for an error only."""
    kind = type(value)
    if kind is str:
        if _UNSAVED.search(value):
            _check_text(value, _place(where))
        return value
    if value is None or kind is bool or kind is int:
        return value
    if kind is dict or isinstance(value, Mapping):
        return {_plain_key(name, where): _plain(item, (where, "%s.%s", name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (where, "%s[%d]", index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, _place(where))
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise wrong(_place(where), "text, a number, true or false, a list or a dict", value)


def _plain_key(name: Any, where: Tuple[Any, ...]) -> str:
    if not isinstance(name, str):
        raise wrong("a key of %s" % _place(where), "text", name)
    if _UNSAVED.search(name):
        _check_text(name, "a key of %s" % _place(where))
    return str.__str__(name)


def _place(where: Tuple[Any, ...]) -> str:
    return str(where[0]) if len(where) == 1 else where[1] % (_place(where[0]), where[2])
