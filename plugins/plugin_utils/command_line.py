# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the running ansible-playbook, without secrets, as it is written down and printed for resuming.

A secret that stood in it is left out, and `-e '@give again: NAME'` stands in its place: a person reads what to add, and ansible-playbook
refuses the line as it is (there is no such file) instead of running the models with a mask for a password.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import typing as t
from collections.abc import Iterator, Mapping, Sequence

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.base.secret_names import is_secret_name

WRAPPER = "MAD_COMMAND"
GIVE_AGAIN = "@give again: "
_UNREADABLE = "variables that cannot be read"
_SECRET_DICTS = ("mad_build_secrets",)  # of which every value is a secret, whatever its name
# Whoever resumes names the campaign, does not start anew what is done, and waits for what was left running.
_NOT_AGAIN = ("mad_campaign", "mad_rerun", "mad_wait")
AS_EVER = "mad_rerun=missing mad_wait=true"  # over what a file of variables may say of them
_CHECK = ("-C", "--check")
_FLAGS = "vCDbkKJ"  # of ansible-playbook, without a value: -vve NAME=1
_APART = re.compile(r"-[%s]*e|--e(?:x(?:t(?:r(?:a(?:-(?:v(?:a(?:rs?)?)?)?)?)?)?)?)?" % _FLAGS)
_ATTACHED = re.compile(r"(?:-([%s]*)e=?|--e[a-z-]*=)(.+)" % _FLAGS, re.DOTALL)
_URL_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:)([^/\s@]+)(?=@)")
_URL_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?]*\?(?:[^\s&]*&)*(?:password|passwd|pwd|token|secret)=)([^\s&]+)", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_./:@,+%^*?-]+")


class Extra(str):
    """The value of an -e."""


def spoken(argv: Sequence[str]) -> list[str]:
    """The words as a person would type them: `python -m ansible playbook x` is `ansible-playbook x`."""
    words = [str(word) for word in argv]
    name = os.path.basename(words[0]) if words else ""
    if os.environ.get(WRAPPER):
        return _wrapper(os.environ[WRAPPER])
    if name == "__main__.py" and len(words) > 1:
        return ["ansible-" + words[1], *words[2:]]
    return [name or "ansible-playbook", *words[1:]]


def _wrapper(text: str) -> list[str]:
    """The words of what a person types instead of ansible-playbook: a script that starts the play says it in MAD_COMMAND."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput("the environment variable %s is no command line: %s: %s" % (WRAPPER, error, text)) from error


def for_resuming(words: Sequence[str]) -> list[str]:
    """The words without secrets, without --check, and without the variables that whoever resumes says anew."""
    found: list[str] = []
    missing: list[str] = []
    files = False
    for item in _items(words):
        if isinstance(item, Extra):
            text, names = _without_secrets(item)
            files |= item.startswith("@") and not item.startswith(GIVE_AGAIN)
            missing += names
            found += ["-e", text] if text else []
        elif item not in _CHECK:
            found.append(_URL_QUERY.sub(r"\1********", _URL_PASSWORD.sub(r"\1********", item)))
    again = ["-e", GIVE_AGAIN + ", ".join(dict.fromkeys(missing))] if missing else []
    return found + again + (["-e", AS_EVER] if files else [])


def _items(words: Sequence[str]) -> Iterator[str]:
    """Each word; what belongs to an -e comes as Extra, however it was written."""
    rest = iter(words)
    for word in rest:
        attached = _ATTACHED.fullmatch(word)
        if _APART.fullmatch(word):
            yield from [*_flags(word[1:-1] if word[1] != "-" else ""), Extra(next(rest, ""))]
        elif attached:
            yield from [*_flags(attached.group(1) or ""), Extra(attached.group(2))]
        else:
            yield word


def _flags(letters: str) -> list[str]:
    return ["-" + letters] if letters else []


def _without_secrets(text: str) -> tuple[str, list[str]]:
    """What is left of the text of an -e, and the names of the secrets that it held."""
    if text.startswith("@"):
        return text, []  # a file: its name is no secret
    variables = _parsed(text)
    if variables is None:
        return "", [_UNREADABLE]
    kept = {name: value for name, value in variables.items() if name not in _NOT_AGAIN}
    rest, names = _pruned(kept)
    return (text if not names and kept == variables else _written(rest)), names


def _parsed(text: str) -> dict[str, t.Any] | None:
    """The variables as ansible-playbook reads them; None for what it refuses."""
    try:
        found = yaml.safe_load(text) if text[:1] in ("{", "[") else parse_kv(text)  # type: ignore[no-untyped-call]
    except (yaml.YAMLError, AnsibleError, RecursionError):
        return None
    if not isinstance(found, Mapping):
        return None
    return {str(name): value for name, value in found.items() if name != "_raw_params"}  # words without a name, which mean nothing there


def _written(variables: Mapping[str, t.Any]) -> str:
    """The variables as one -e takes them."""
    if all(isinstance(value, str) and _PLAIN.fullmatch(value) for value in variables.values()):
        return " ".join("%s=%s" % pair for pair in variables.items())
    return json.dumps(variables, default=str)


def _pruned(variables: Mapping[t.Any, t.Any], above: str = "") -> tuple[dict[str, t.Any], list[str]]:
    """The variables without secrets, and the dotted names of those."""
    rest: dict[str, t.Any] = {}
    missing: list[str] = []
    for key, value in variables.items():
        name = above + str(key)
        if _is_secret(str(key)):
            missing.append(name)
        elif isinstance(value, Mapping):
            below, names = _pruned(value, name + ".")
            missing += names
            if below or not names:
                rest[str(key)] = below
        elif _holds_secret(value):
            missing.append(name)
        else:
            rest[str(key)] = value
    return rest, missing


def _is_secret(name: str) -> bool:
    connection = name.startswith("ansible_") and name.endswith(("_pass", "_passphrase"))
    return connection or name in _SECRET_DICTS or is_secret_name(name)


def _holds_secret(value: t.Any) -> bool:
    """Whether a value holds one: a list of mappings, an address with a password, text that is itself a mapping."""
    if isinstance(value, Mapping):
        return bool(_pruned(value)[1])
    if isinstance(value, (list, tuple)):
        return any(map(_holds_secret, value))
    if not isinstance(value, str):
        return False
    return bool(_URL_PASSWORD.search(value) or _URL_QUERY.search(value)) or (value.lstrip()[:1] in ("{", "[") and _holds_secret(_from_text(value)))


def _from_text(text: str) -> t.Any:
    for parse in (yaml.safe_load, ast.literal_eval):
        try:
            return parse(text)
        except (yaml.YAMLError, ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None
