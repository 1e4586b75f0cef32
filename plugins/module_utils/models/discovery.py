# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: from a MAD-layout repository and tags to model cards.

Models come from models.json (which must be there), from every scripts/*/models.json and from every
scripts/*/get_models_json.py, in this order: the root's, then the directories' by name.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..base.errors import InvalidInput
from . import cards
from .cards import Entry
from .discovery_cache import Cache
from .discovery_custom import Custom, Question
from .tags import Choice, parse_all, scopes, select

STATIC = "models.json"
CUSTOM = "get_models_json.py"
TIMEOUT = 60.0  # seconds for one get_models_json.py
LARGEST_FILE = 64 << 20  # bytes; 10,000 cards are 5 MB


class Directory(NamedTuple):
    """One directory below scripts/ that has models."""

    name: str
    path: str
    custom: bool


def discover(
    repo: str,
    tags: Any,
    cache_dir: str = "",
    timeout: float = TIMEOUT,
    jobs: int = 0,
    frozen: bool = False,
    broken: Optional[Dict[int, InvalidInput]] = None,
) -> Dict[str, Any]:
    """The models of a repository that the tags select, as {"models": [card], "names": [text], "warnings": [text]}.

    `tags` is a list or a text with commas; without tags no model is selected. `names` are all names of the sources that
    were read: with nothing but scoped tags (DIR/...) these are the root's and those directories'. `timeout` (seconds)
    limits each get_models_json.py, `jobs` how many run at a time (0: as many as there are CPUs); their answers are
    kept in `cache_dir`, if given; a `frozen` one is read and not written (check mode). InvalidInput names the file, the
    model and the key, or the tag and what resembles it. With `broken`, what is wrong with one selected card is put there,
    by its place among the models, and in the card's place stands a blank one: one bad model need not stop the others.
    """
    if math.isnan(timeout) or timeout <= 0:
        raise InvalidInput("timeout: expected a number of seconds above 0, got %s" % cards.described(timeout))
    wanted = parse_all(tags)
    root = _repository(repo)
    folders = _script_folders(root)
    only = scopes(wanted)
    sources = {name: _sources(path, not only or name in only) for name, path in folders.items()}
    custom = Custom(root, Cache(cache_dir, root, frozen), timeout, jobs)
    entries, warnings = _read_all(root, _with_models(folders, sources, only), custom)
    entries, clashes, notes = _without_doubles(entries)
    warnings += notes
    choices, notes = select(wanted, entries, {name: bool(found) for name, found in sources.items()})
    warnings += notes
    warnings += _judge(clashes, {choice.entry.name for choice in choices}, listing=not wanted)
    models, notes = _complete(choices, root, custom, broken)
    notes += [] if wanted else _flaws(entries)
    return {"models": models, "names": list(dict.fromkeys(entry.name for entry in entries)), "warnings": warnings + notes + custom.warnings}


def _repository(repo: str) -> str:
    if not os.path.isdir(repo):
        raise InvalidInput("mad_repo: the repository %s is not a directory" % cards.abridged(os.path.abspath(repo), 500))
    root = os.path.realpath(repo)
    if not os.path.isfile(os.path.join(root, STATIC)):
        raise InvalidInput(
            "models.json file not found in %s; expected a MAD-layout repository (models.json, docker/, scripts/); "
            "name it with mad_repo or MODEL_DIR" % root
        )
    return root


def _script_folders(root: str) -> Dict[str, str]:
    """The directories below scripts/, by name, in sorted order: name to path."""
    top = os.path.join(root, "scripts")
    if not os.path.isdir(top):
        return {}
    try:
        with os.scandir(top) as items:
            return dict(sorted((item.name, item.path) for item in items if os.path.isdir(item.path)))  # is_dir() fails at a link to itself
    except OSError as error:
        raise InvalidInput("%s cannot be listed: %s" % (top, error.strerror)) from error


def _sources(path: str, asked: bool) -> List[str]:
    """Which of the files that bring models a directory has; a link that leads nowhere counts, so that it is missed.

    One that cannot be read is an error where it is `asked` for, elsewhere nobody's business.
    """
    found = []
    for file in (STATIC, CUSTOM):
        try:
            os.lstat(os.path.join(path, file))
            found.append(file)
        except FileNotFoundError:
            pass
        except OSError as error:
            if asked:
                raise InvalidInput("%s cannot be read: %s" % (os.path.join(path, file), error.strerror)) from error
            found.append(file)
    return found


def _with_models(folders: Dict[str, str], sources: Dict[str, List[str]], only: Set[str]) -> List[Directory]:
    """The directories that bring models; with `only`, no others are looked at."""
    found = []
    for name, path in folders.items():
        if not sources[name] or (only and name not in only):
            continue
        if len(sources[name]) > 1:
            raise InvalidInput("Both %s and %s found in scripts/%s; a directory has one of them: remove the other" % (STATIC, CUSTOM, name))
        if not os.path.isfile(os.path.join(path, sources[name][0])):  # a pipe would be waited for, a directory is none
            raise InvalidInput("scripts/%s/%s: expected a file, found something else, or a link that leads nowhere" % (name, sources[name][0]))
        found.append(Directory(name, path, CUSTOM in sources[name]))
    return found


def _read_all(root: str, directories: Sequence[Directory], custom: Custom) -> Tuple[List[Entry], List[str]]:
    """All entries in listing order, and warnings about how they are written. Nothing is run before all files are read."""
    entries, warnings = _read_static(os.path.join(root, STATIC), STATIC, "")
    static = [
        ([], []) if custom_ else _read_static(os.path.join(path, STATIC), "scripts/%s/%s" % (name, STATIC), name)
        for name, path, custom_ in directories
    ]
    questions = [Question(directory.name, os.path.join(directory.path, CUSTOM)) for directory in directories if directory.custom]
    answers = dict(zip((question.directory for question in questions), custom.ask(questions)))
    for directory, (found, notes) in zip(directories, static):
        entries += _custom_entries(answers[directory.name], directory.name) if directory.custom else found
        warnings += notes
    return entries, warnings


def _custom_entries(models: Sequence[Dict[str, Any]], directory: str) -> List[Entry]:
    source = "scripts/%s/%s" % (directory, CUSTOM)
    return [cards.entry(model["card"], source, directory, index, bool(model.get("lazy"))) for index, model in enumerate(models)]


def _read_static(path: str, source: str, directory: str) -> Tuple[List[Entry], List[str]]:
    """The entries of one models.json."""
    warnings: List[str] = []

    def once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = sorted({key for key in found if sum(key == other for other, _value in pairs) > 1})
            whose = "model %s" % cards.abridged(found["name"]) if "name" in found else "an object"
            warnings.append("%s: %s: %s stands there twice; the last one counts" % (source, whose, ", ".join(map(cards.abridged, twice))))
        return found

    text = _text_of(path, source)
    if not text.strip():
        raise InvalidInput("%s: the file is empty; expected a list of model cards, [] for none" % source)
    try:
        document = json.loads(text, object_pairs_hook=once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("%s: not valid JSON: %s" % (source, error)) from error
    if not isinstance(document, list):
        raise InvalidInput("%s: expected a list of model cards, got %s" % (source, cards.described(document)))
    return [cards.entry(raw, source, directory, index) for index, raw in enumerate(document)], warnings


def _no_number(word: str) -> Any:
    raise ValueError("%s is no JSON" % word)


def _text_of(path: str, source: str) -> str:
    """The text of a file of a sane size."""
    try:
        if os.path.getsize(path) > LARGEST_FILE:
            raise InvalidInput("%s: expected at most %d MiB, got %d bytes" % (source, LARGEST_FILE >> 20, os.path.getsize(path)))
        with open(path, encoding="utf-8-sig") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InvalidInput("%s: not UTF-8 text: %s" % (source, error)) from error
    except OSError as error:
        raise InvalidInput("%s: cannot be read: %s" % (source, error.strerror)) from error


def _without_doubles(entries: Sequence[Entry]) -> Tuple[List[Entry], Dict[str, List[Entry]], List[str]]:
    """(entries without exact repetitions, different ones under one name, warnings about the repetitions)."""
    first: Dict[str, Entry] = {}
    kept: List[Entry] = []
    clashes: Dict[str, List[Entry]] = {}
    warnings = []
    for entry in entries:
        known = first.setdefault(entry.name, entry)
        if known is entry:
            kept.append(entry)
        elif known.same_card(entry):
            warnings.append("%s: the card of model %s stands there twice; counted once" % (entry.source, cards.abridged(entry.name)))
        else:
            kept.append(entry)
            clashes.setdefault(entry.name, [known]).append(entry)
    return kept, clashes, warnings


def _judge(clashes: Dict[str, List[Entry]], chosen: Set[str], listing: bool) -> List[str]:
    """Different cards of one name: an error if selected (results would be mixed), worth a warning when listing."""
    texts = [
        "%d different cards have the name %s (%s); give each model a name of its own"
        % (len(found), cards.abridged(name), ", ".join("%s entry %d" % (entry.source, entry.index + 1) for entry in found[:5]))
        for name, found in clashes.items()
        if listing or name in chosen
    ]
    if texts and not listing:
        raise InvalidInput("\n".join(texts))
    return texts


def _complete(
    choices: Sequence[Choice], root: str, custom: Custom, broken: Optional[Dict[int, InvalidInput]]
) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The cards of the choices in their normal form, and warnings about them."""
    lazy, warnings = _update({id(choice.entry): choice.entry for choice in choices if choice.entry.lazy}.values(), root, custom)
    models: List[Dict[str, Any]] = []
    for choice in choices:
        try:
            card, notes = cards.complete(lazy.get(id(choice.entry), choice.entry), choice.args)
        except InvalidInput as error:
            if broken is None:
                raise
            broken[len(models)] = error
            card, notes = cards.blank(choice.entry), []
        models.append(card)
        warnings += notes
    return models, list(dict.fromkeys(warnings))


def _flaws(entries: Iterable[Entry]) -> List[str]:
    """What is wrong with the cards of a listing: nothing runs yet, so every one is said and none stops the others."""
    found: List[str] = []
    for entry in entries:
        if not entry.lazy:
            try:
                found += cards.complete(entry, "")[1]
            except InvalidInput as error:
                found.append(error.message)
    return list(dict.fromkeys(found))


def _update(entries: Iterable[Entry], root: str, custom: Custom) -> Tuple[Dict[int, Entry], List[str]]:
    """By id of an entry the same model after its update_model(), and warnings. One question a directory."""
    by_directory: Dict[str, List[Entry]] = {}
    for entry in entries:
        by_directory.setdefault(entry.directory, []).append(entry)
    questions = []
    for directory, found in by_directory.items():
        found.sort(key=lambda entry: entry.index)  # the question is part of the cache's key
        positions = [(entry.index, entry.raw["name"]) for entry in found]
        questions.append(Question(directory, os.path.join(root, "scripts", directory, CUSTOM), positions))
    updated: Dict[int, Entry] = {}
    warnings = []
    for found, answers in zip(by_directory.values(), custom.ask(questions)):
        for entry, answer in zip(found, answers):
            updated[id(entry)] = Entry(entry.name, entry.tags, answer["card"], entry.source, entry.directory, entry.index)
            if answer["card"].get("name") != entry.name:
                warnings.append("%s: update_model() of model %s changed the name; ignored" % (entry.source, cards.abridged(entry.name)))
    return updated, warnings
