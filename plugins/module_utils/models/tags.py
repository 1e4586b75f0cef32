# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags: the text that selects models and gives them extra arguments.

    NAME          the model of this full name, and every model that carries this word among its tags
    all           every model
    DIR/NAME      inside scripts/DIR: a name, a tag or `all`
    ...:k=v:x     any of these with the arguments ` --k v --x` appended to the card's own
    DIR:NAME      the same as DIR/NAME, where nothing else is called DIR (the command line guide writes it so)
"""

from __future__ import annotations

import difflib
import unicodedata
from typing import Any, Collection, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple, TypeVar

from ..base.errors import InvalidInput
from .cards import LONGEST_TEXT, Entry, abridged, described

_NAMED = 20  # tags that one error names
_LONGEST_GUESS = 200  # characters; nobody mistypes a longer name, and comparing it with every name would take long

T = TypeVar("T")


class Tag(NamedTuple):
    """One tag, taken apart."""

    text: str  # as given
    selector: str  # the part before the first colon
    extras: Tuple[str, ...]  # the parts behind it

    @property
    def scope(self) -> str:
        """The directory below scripts/ that alone can match, or ""."""
        directory, slash, inner = self.selector.partition("/")
        return directory if slash and directory and inner and "/" not in inner else ""

    @property
    def args(self) -> str:
        """The extra arguments as they are appended to a card's args: "" or " --k v --x"."""
        return compose(self.extras)

    @property
    def words(self) -> Set[str]:
        """The words of which a model that is meant has one: its name, one of its tags, or "all", which every model has."""
        return {self.selector, self.selector[len(self.scope) + 1 :]} if self.scope else {self.selector}

    def matches(self, name: str, tags: Sequence[str]) -> bool:
        """True if a model of this full name and these tags is meant (DIR:NAME aside, which needs to know all models)."""
        scope = self.scope
        if not scope:
            return self.selector == "all" or self.selector == name or self.selector in tags
        if not name.startswith(scope + "/"):
            return False
        inner = self.selector[len(scope) + 1 :]
        return inner == "all" or inner in tags or self.selector == name


class Choice(NamedTuple):
    """One selected model and the arguments its tag gives it."""

    entry: Entry
    args: str


def compose(extras: Iterable[str]) -> str:
    """`k=v` becomes ` --k v` (every `=` a blank), a bare `x` becomes ` --x`; nothing is quoted, as in madengine."""
    return "".join(" --" + extra.replace("=", " ") for extra in extras)


def _parts(text: str) -> List[str]:
    parts = [part.strip() for part in text.split(":")]
    return [part for part in parts if part]


def parse(text: str) -> Tag:
    """Take one tag apart: parts between colons without the blanks around them, empty parts dropped."""
    if len(text) > LONGEST_TEXT or "\0" in text:
        raise InvalidInput("a tag can be at most %d characters long and hold no NUL byte, got %s" % (LONGEST_TEXT, abridged(text)))
    parts = _parts(text)
    if not parts:
        raise InvalidInput("the tag %s names nothing; expected a model, a tag, all, DIR/NAME or DIR/all" % abridged(text))
    return Tag(text, parts[0], tuple(parts[1:]))


def parse_all(value: Any) -> List[Tag]:
    """The tags of a list or of one text, both with commas between tags; empty ones are dropped, None means none."""
    if value is None:
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise InvalidInput("tags: expected a list or a text with commas, got %s" % described(value))
    return [parse(text.strip()) for item in items for text in _item(item).split(",") if text.strip()]


def _item(item: Any) -> str:
    if isinstance(item, int) and not isinstance(item, bool):  # a model called 7, unquoted in YAML
        return str(item)
    if not isinstance(item, str):
        raise InvalidInput("tags: expected a text for each tag, got %s" % described(item))
    return item


def scopes(tags: Sequence[Tag]) -> Set[str]:
    """The directories below scripts/ that have to be looked at, if not all; empty means all."""
    found = {tag.scope for tag in tags}
    return set() if "" in found else found


def select(tags: Sequence[Tag], entries: Sequence[Entry], directories: Mapping[str, bool]) -> Tuple[List[Choice], List[str]]:
    """(choices, warnings): what the tags select, in tag order, and in the order of `entries` for each tag.

    `directories` are those below scripts/, and whether they bring models. A model selected twice with the same arguments is
    chosen once, with a warning. Tags that select nothing are named in one error.
    """
    index = _Index(entries)
    found = [(tag, *_resolve(tag, index, directories)) for tag in tags]
    empty = list(dict.fromkeys(tag for tag, chosen, _warnings in found if not chosen))
    if empty:
        more = ["and %d more tags without a model" % (len(empty) - _NAMED)] if len(empty) > _NAMED else []
        raise InvalidInput("\n".join([_nothing(tag, index, directories) for tag in empty[:_NAMED]] + more))
    warnings = [warning for _tag, _chosen, own in found for warning in own]
    return _once(((tag, choice) for tag, chosen, _own in found for choice in chosen), warnings)


class _Index:
    """Models by the words that name them: of ten thousand tags not each one can look at ten thousand models."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.with_colons = [entry for entry in entries if ":" in entry.name]
        self._places: Dict[str, List[int]] = {}
        for place, entry in enumerate(entries):
            for word in {entry.name, *entry.tags}:
                self._places.setdefault(word, []).append(place)

    def matching(self, tag: Tag) -> List[Entry]:
        """The models that a tag means, in their order."""
        possible = self.entries if "all" in tag.words else self.called(*tag.words)
        return [entry for entry in possible if tag.matches(entry.name, entry.tags)]

    def called(self, *words: str) -> List[Entry]:
        """The models that have one of these words as their name or among their tags."""
        return [self.entries[place] for place in sorted({place for word in words for place in self._places.get(word, ())})]


def _resolve(tag: Tag, index: _Index, directories: Collection[str]) -> Tuple[List[Choice], List[str]]:
    chosen = [Choice(entry, tag.args) for entry in index.matching(tag)]
    aliased = _aliased(tag, index, directories)
    if chosen and aliased:
        return chosen, [
            "the tag %s selects %s with the arguments %s; for the model of directory %s write %s"
            % (abridged(tag.text), _some(choice.entry.name for choice in chosen), abridged(tag.args), tag.selector, aliased[0].entry.name)
        ]
    return chosen or aliased or _with_colons(tag, index), []


def _aliased(tag: Tag, index: _Index, directories: Collection[str]) -> List[Choice]:
    """What DIR:NAME[:k=v] means if it is read as DIR/NAME."""
    if not tag.extras or tag.selector not in directories:
        return []
    name, args = "%s/%s" % (tag.selector, tag.extras[0]), compose(tag.extras[1:])
    return [Choice(entry, args) for entry in index.called(name) if entry.name == name and entry.directory == tag.selector]


def _with_colons(tag: Tag, index: _Index) -> List[Choice]:
    """What a tag means that begins with a name in which colons stand, where it means nothing else; the longest such name counts."""
    text = tag.text.strip()
    named = [entry for entry in index.with_colons if (text + ":").startswith(entry.name + ":")]
    longest = max((len(entry.name) for entry in named), default=0)
    args = compose(_parts(text[longest:]))
    return [Choice(entry, args) for entry in named if len(entry.name) == longest]


def _once(choices: Iterable[Tuple[Tag, Choice]], warnings: List[str]) -> Tuple[List[Choice], List[str]]:
    """Every (model, args) once; the later tag that brings it again is named in a warning."""
    seen: Dict[Tuple[int, str], None] = {}
    kept: List[Choice] = []
    again: Dict[str, List[str]] = {}
    for tag, choice in choices:
        key = (id(choice.entry), choice.args)
        if key in seen:
            again.setdefault(tag.text, []).append(choice.entry.name)
        else:
            seen[key] = None
            kept.append(choice)
    for text, names in again.items():
        warnings.append("the tag %s selects %s again, with the same arguments; counted once" % (abridged(text), _some(names)))
    return kept, warnings


def _some(names: Iterable[str], limit: int = 5) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    text = ", ".join(listed[:limit])
    return text if len(listed) <= limit else "%s and %d more" % (text, len(listed) - limit)


def _nothing(tag: Tag, index: _Index, directories: Mapping[str, bool]) -> str:
    words = tag.text.split()
    folder = tag.scope or tag.selector
    near = near_matches(tag, index.entries, [name for name, models in directories.items() if models])
    if len(words) > 1 and all(_resolve(parse(word), index, directories)[0] for word in words if word.strip(":")):
        near = [",".join(words)]
    advice = "Did you mean %s?" % " or ".join(_told_apart(name, tag.selector) for name in near) if near else ""
    if not directories.get(folder, True) and (tag.scope or not near):  # most models have a folder of their own name, without cards
        bare = "scripts/%s has neither models.json nor get_models_json.py; is it a submodule that is not checked out?" % folder
        advice = " ".join(filter(None, (bare, advice)))
    advice = advice or "Leave the tags out to list all names."
    return "No models found corresponding to the given tag: %s. %s" % (abridged(tag.text, 200).strip("'\""), advice)


def _told_apart(name: str, typed: str) -> str:
    """A name as a person can tell it from what was typed: with escapes where the two only look alike, or where a character cannot be seen."""
    alike = unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFKC", typed)
    return ascii(name)[1:-1] if alike or not name.isprintable() else name


def near_matches(tag: Tag, entries: Sequence[Entry], directories: Collection[str]) -> List[str]:
    """Up to five names, tags and directories (DIR/all) that resemble the tag, best first."""
    if len(tag.selector) > _LONGEST_GUESS:
        return []
    candidates = _unique(name for entry in entries for name in (entry.name, *entry.tags))
    if tag.scope:
        words = _unique(tag_word for entry in entries if entry.name.startswith(tag.scope + "/") for tag_word in entry.tags)
        candidates += ["%s/%s" % (tag.scope, word) for word in words]
    same_end = [name for name in candidates if name.rpartition("/")[2] == tag.selector.rpartition("/")[2]]
    folders = {"%s/all" % directory: directory for directory in sorted(directories)}
    resembling = _close(tag.selector, candidates)
    resembling += [shown for shown, directory in folders.items() if directory in _close(tag.scope or tag.selector, folders.values())]
    return [name for name in _unique(same_end + resembling) if name != tag.selector][:5]


def _close(word: str, candidates: Iterable[str]) -> List[str]:
    """The candidates closest to a word, whatever their case."""
    lowered: Dict[str, str] = {}
    for candidate in candidates:
        lowered.setdefault(candidate.lower(), candidate)
    return [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)]


def _unique(items: Iterable[T]) -> List[T]:
    return list(dict.fromkeys(items))
