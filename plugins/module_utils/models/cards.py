# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model cards: what an entry of models.json must hold, and the one form in which the rest of the project sees it.

Checking happens twice. `entry()` looks at what selection needs (name, tags) and is cheap enough for every model of a
repository; `complete()` reads every key and is done for the selected models only, so that the broken card of one model
does not stop the others.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..base.quoting import is_env_name

REQUIRED = ("name", "dockerfile", "scripts", "args")
LONGEST_NAME = 200  # bytes; with the suffixes of logs and archives it must fit a file name (255)
LONGEST_TEXT = 65536  # characters; one argument of a process can carry 128 KiB

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*\Z")  # spares the slow check
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAVED = re.compile("[\x00\ud800-\udfff]")  # what neither a process nor a UTF-8 file can carry
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_LARGEST = 10**18  # a larger number has more digits than its text may have


def abridged(value: Any, limit: int = 80) -> str:
    """A value as a person should see it in a message: quoted, on one line, never longer than `limit` and some."""
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit + 2 else text[:limit] + "..."


def described(value: Any) -> str:
    """What was found where something else was expected, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, word in ((str, "the text"), ((int, float), "the number"), (list, "the list"), (dict, "the object")):
        if isinstance(value, kind):
            return "%s %s" % (word, abridged(value))
    return abridged(value)


class Place(NamedTuple):
    """Where in the repository a value stands."""

    source: str
    model: str
    key: str

    def wrong(self, expected: str, value: Any) -> InvalidInput:
        """The error for a value that is not what it should be."""
        where = "%s: model %s, key '%s'" % (self.source, abridged(self.model), self.key)
        return InvalidInput("%s: expected %s, got %s" % (where, expected, described(value)))


class Entry:
    """A model as selection sees it: its full name, its tags, and where the rest is. `directory` is "" for root models."""

    __slots__ = ("name", "tags", "raw", "source", "directory", "index", "lazy")

    def __init__(
        self, name: str, tags: List[str], raw: Dict[str, Any], source: str, directory: str, index: int, lazy: bool = False
    ) -> None:
        self.name = name
        self.tags = tags
        self.raw = raw
        self.source = source
        self.directory = directory
        self.index = index
        self.lazy = lazy

    def same_card(self, other: Entry) -> bool:
        """True if both would give the same card."""
        return not self.lazy and not other.lazy and self.directory == other.directory and self.raw == other.raw


def entry(raw: Any, source: str, directory: str, index: int, lazy: bool = False) -> Entry:
    """Check what selection needs of one element of a source. `index` is its position (from 0)."""
    if not isinstance(raw, dict):
        raise InvalidInput("%s: entry %d: expected an object (a model card), got %s" % (source, index + 1, described(raw)))
    name = raw.get("name")
    if not isinstance(name, str):
        what = "got %s" % described(name) if "name" in raw else "the key is missing"
        raise InvalidInput("%s: entry %d, key 'name': expected a text, %s" % (source, index + 1, what))
    full = "%s/%s" % (directory, name) if directory else name
    if not _PLAIN_NAME.match(full) or len(full) > LONGEST_NAME:
        check_name(full, "%s: entry %d, key 'name'" % (source, index + 1))
    return Entry(full, _words(raw.get("tags"), Place(source, full, "tags")), raw, source, directory, index, lazy)


def check_name(name: str, where: str) -> None:
    """Refuse a name that could not name files, logs and rows later; `where` begins the message.

    Blanks inside, quotes, `$()` and unicode are fine: nothing of a name ever reaches a shell unquoted.
    """
    reason = _name_problem(name)
    if reason:
        raise InvalidInput("%s: %s cannot be the name of a model: %s" % (where, abridged(name), reason))


def _name_problem(name: str) -> str:
    if _CONTROL.search(name):
        return "it holds a control character (newline, tab, escape, ...) or bytes that are no UTF-8, which would break log lines and tables"
    if len(name.encode("utf-8")) > LONGEST_NAME:
        return "it is longer than %d bytes, and file names are made of it" % LONGEST_NAME
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "it is empty or has an empty part, '.' or '..' between its slashes, and paths are made of it"
    if name != name.strip():
        return "it begins or ends with a blank, so that no tag could select it"
    return ""


def _text(value: Any, place: Place) -> str:
    """Text; whole and broken numbers are taken as text, as they stand in many cards (`"training_precision": 16`)."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise place.wrong("a text", value)


def _words(value: Any, place: Place) -> List[str]:
    """A list of words, or one text with commas between them."""
    if value is None:
        return []
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        raise place.wrong("a list of texts or one text with commas", value)
    words = [(word if isinstance(word, str) else _text(word, place)).strip() for word in value]
    return [word for word in words if word]


def _whole(value: Any, place: Place) -> int:
    if isinstance(value, str) and _INTEGER.match(value.strip()):
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST and value == int(value):
        return int(value)
    raise place.wrong("a whole number", value)


def _seconds(value: Any, place: Place) -> int:
    """A timeout; 0 or less is none of the card's own."""
    expected = "a whole number of seconds, at most %d" % scalars.LONGEST_SECONDS
    try:
        seconds = _whole(value, place)
    except InvalidInput:
        raise place.wrong(expected, value) from None
    if seconds > scalars.LONGEST_SECONDS:
        raise place.wrong(expected, value)
    return seconds


def _gpus(value: Any, place: Place) -> str:
    """The number of GPUs as text: "-1" means all, "0" none."""
    expected = "a whole number of GPUs, 0 or more, or -1 for all"
    try:
        count = _whole(value, place)
    except InvalidInput:
        raise place.wrong(expected, value) from None
    if count < -1:
        raise place.wrong(expected, value)
    return str(count)


def _flag(value: Any, place: Place) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise place.wrong("true or false", value)


def _object(value: Any, place: Place) -> Dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise place.wrong("an object", value)


def _texts(value: Any, place: Place) -> List[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise place.wrong("a list of texts", value)


def _variables(value: Any, place: Place) -> Dict[str, str]:
    """Environment variables. true and false are refused: programs disagree about True, true and 1."""
    result = {}
    for name, content in _object(value, place).items():
        inner = place._replace(key="%s.%s" % (place.key, name))
        if not is_env_name(name):
            raise inner.wrong("a name of letters, digits and _ without a leading digit", name)
        if isinstance(content, (bool, dict, list)) or content is None:
            raise inner.wrong('a text (write "1" or "true" in quotes)', content)
        result[name] = _text(content, inner)
    return result


def _build_arguments(value: Any, place: Place) -> Dict[str, str]:
    """Build arguments, read as those of a context are."""
    return scalars.text_dict(_object(value, place), "%s: model %s, key '%s'" % (place.source, abridged(place.model), place.key))


def _path(value: Any, place: Place) -> str:
    """A path inside the repository, as it was written."""
    text = _text(value, place)
    _within(text, place, text)
    return text


def _within(text: str, place: Place, given: str) -> str:
    """The normalised path, refused if it leaves the repository."""
    path = posixpath.normpath(text) if text else ""
    if path.startswith(("/", "../")) or path == "..":
        raise place.wrong("a path inside the repository", given)
    return path


_READERS: Dict[str, Callable[[Any, Place], Any]] = {
    "name": _text,
    "dockerfile": _text,
    "scripts": _text,
    "args": _text,
    "dockercontext": _path,
    "multiple_results": _path,
    "n_gpus": _gpus,
    "timeout": _seconds,
    "nnodes": _whole,
    "tags": _words,
    "skip_gpu_arch": _words,
    "env_vars": _variables,
    "docker_build_arg": _build_arguments,
    "deprecated": _flag,
    "is_deprecated": _flag,
    "resumable": _flag,
    "log_error_pattern_scan": _flag,
    "log_error_patterns": _texts,
    "log_error_benign_patterns": _texts,
    "distributed": _object,
    "slurm": _object,
    "k8s": _object,
    "kubernetes": _object,
}
_READERS.update((key, _text) for key in ("owner", "training_precision", "data", "cred", "url", "additional_docker_run_options"))

_EMPTY_MEANS_UNSET = ("n_gpus", "timeout", "nnodes")


def complete(entry: Entry, args: str) -> Tuple[Dict[str, Any], List[str]]:
    """(card, warnings): the card in its normal form (docs/contracts.md) with the tag's args appended to its own."""
    _require(entry)
    _check_texts(entry)
    card = dict(entry.raw)
    for key, value in entry.raw.items():
        if key not in _READERS:
            continue
        if value is None or (value == "" and key in _EMPTY_MEANS_UNSET):
            del card[key]
        else:
            card[key] = _READERS[key](value, Place(entry.source, entry.name, key))
    warnings = _odd_keys(entry)
    _fill(card, entry, args)
    return card, warnings


def blank(entry: Entry) -> Dict[str, Any]:
    """What of a card stands in a row that says what is wrong with it: nothing that could be wrong."""
    card: Dict[str, Any] = {"name": entry.name, "dockerfile": "", "scripts": "", "args": ""}
    _fill_defaults(card)
    return dict(card, tags=list(entry.tags), source=entry.source)


def _require(entry: Entry) -> None:
    missing = [key for key in REQUIRED if entry.raw.get(key) is None]
    if missing:
        raise InvalidInput(
            "%s: model %s: the key%s %s %s missing; every card has %s"
            % (
                entry.source,
                abridged(entry.name),
                "s" if len(missing) > 1 else "",
                ", ".join("'%s'" % key for key in missing),
                "are" if len(missing) > 1 else "is",
                ", ".join(REQUIRED),
            )
        )


def _check_texts(entry: Entry) -> None:
    """Refuse texts, at any depth and also under unknown keys, that no process, file or database could carry."""
    for key, value in entry.raw.items():
        pending: List[Any] = [key, value]
        while pending:
            item = pending.pop()
            if isinstance(item, str):
                if len(item) > LONGEST_TEXT or _UNSAVED.search(item):
                    raise _unsaved(item, Place(entry.source, entry.name, abridged(key).strip("'")))
            elif isinstance(item, dict):
                pending.extend(item)
                pending.extend(item.values())
            elif isinstance(item, list):
                pending.extend(item)


def _unsaved(text: str, place: Place) -> InvalidInput:
    if len(text) > LONGEST_TEXT:
        return InvalidInput("%s, which has %d" % (place.wrong("at most %d characters" % LONGEST_TEXT, text).message, len(text)))
    return place.wrong("a text without NUL bytes and halves of surrogate pairs", text)


def _fill(card: Dict[str, Any], entry: Entry, args: str) -> None:
    """The keys that every card has, and the paths as seen from the repository."""
    prefix = "scripts/%s/" % entry.directory if entry.directory else ""
    card["name"] = entry.name
    card["dockerfile"] = _rooted(card["dockerfile"], prefix, Place(entry.source, entry.name, "dockerfile")) if card["dockerfile"] else ""
    card["scripts"] = _rooted(card["scripts"], prefix, Place(entry.source, entry.name, "scripts"))
    card["args"] += args
    _fill_defaults(card)
    if "deprecated" in card or "is_deprecated" in card:  # the older name means the same
        card["deprecated"] = card.get("deprecated", False) or card.get("is_deprecated", False)
    card["source"] = entry.source


def _fill_defaults(card: Dict[str, Any]) -> None:
    for key, default in (("n_gpus", "1"), ("multiple_results", ""), ("additional_docker_run_options", "")):
        card.setdefault(key, default)
    for key in ("tags", "skip_gpu_arch"):
        card.setdefault(key, [])
    card.setdefault("env_vars", {})


def _rooted(value: str, prefix: str, place: Place) -> str:
    """The path seen from the repository; those of a directory's models are written relative to that directory."""
    if not value and not prefix:
        raise place.wrong("the path of a script, or of a directory with a run.sh", value)
    if value.startswith("/"):
        raise place.wrong("a path inside the repository", value)
    return _within(prefix + value, place, value)


def _odd_keys(entry: Entry) -> List[str]:
    """Warnings about keys that look like slips. Unknown keys are kept, whatever they are."""
    warnings = []
    if "," in entry.name:
        warnings.append("%s: model %s: its name holds a comma, which ends a tag; only its own tags and 'all' select it" % (entry.source, abridged(entry.name)))
    if "source" in entry.raw:
        warnings.append("%s: model %s: the key 'source' is replaced by the file the card came from" % (entry.source, abridged(entry.name)))
    for key in entry.raw:
        near = _near_key(key)
        if near:
            warnings.append("%s: model %s: unknown key %s; did you mean '%s'?" % (entry.source, abridged(entry.name), abridged(key), near))
    return warnings


def _near_key(key: str) -> str:
    """The known key that an unknown one resembles, or ""."""
    if key in _READERS or key == "source" or len(key) > 64:
        return ""
    plain = key.lower().replace("-", "_").replace(" ", "_")
    near = [plain] if plain in _READERS else difflib.get_close_matches(plain, _READERS, n=1, cutoff=0.8)
    return near[0] if near else ""
