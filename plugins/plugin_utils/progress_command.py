# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that a person types to go on with a campaign, or to stop it, made of the command that was typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.secret_names import is_secret_name

CANCEL = "mad.engine.cancel"
HIDDEN = "********"
# Said anew in the command, or would do the finished runs again.
_REPLACED = ("mad_campaign", "mad_rerun")
_ONLY_THIS_TIME = ("--check", "--diff", "--step", "--list-tasks", "--list-hosts", "--syntax-check")
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*')"""
# mad_campaign=X among NAME=VALUE words
_ANEW = re.compile(r"(?:^|(?<=\s))(?:%s)=(?:%s|\S)*(?:\s+|$)" % ("|".join(_REPLACED), _QUOTED))
# The beginning of NAME=VALUE, "NAME": "VALUE", NAME: VALUE; and a value, of a nested one all that follows
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_-]*)[\"']?\s*(?P<sign>[:=])\s*")
_VALUES = {":": re.compile(r"%s|[\[{].*|[^,}\]]+" % _QUOTED, re.DOTALL), "=": re.compile(r"%s|[\[{].*|\S+" % _QUOTED, re.DOTALL)}
_FLAGS = re.compile(r"-([vCDbkKJ]+)(e?)\Z")  # options without a value, written together


def resume_command(argv: Sequence[str], campaign: str) -> str:
    """The same command again, for this campaign. What is final is not run again, what is running is attached to."""
    words = _kept(argv[1:])
    again = ["-e", "mad_rerun=missing"] if any("mad_rerun" in word for word in words) else []  # inside a text that cannot be taken apart
    return _join(_program(argv) + words + again + ["-e", "mad_campaign=" + campaign])


def cancel_command(argv: Sequence[str], playbooks: Iterable[str], campaign: str) -> str:
    """The playbook mad.engine.cancel for the same inventory and hosts. `playbooks` are the words of argv that name playbooks."""
    names, words, done = set(playbooks), [], False
    for word in _kept(argv[1:]):
        if word in names:
            words += [] if done else [CANCEL]
            done = True
        else:
            words.append(word)
    return _join(_program(argv) + words + ([] if done else [CANCEL]) + ["-e", "mad_campaign=" + campaign])


def job_hint(environ: Mapping[str, str], campaign: str) -> str:
    """Where a controller like AWX started the play there is no command: "" elsewhere."""
    if environ.get("AWX_PRIVATE_DATA_DIR") or environ.get("AWX_ISOLATED_DATA_DIR"):
        return "launch the job template again with the extra variable mad_campaign=%s" % campaign
    return ""


def _program(argv: Sequence[str]) -> list[str]:
    """ansible-playbook, by its name alone where that finds the same program."""
    program = argv[0] if argv else "ansible-playbook"
    name = os.path.basename(program)
    found = shutil.which(name)
    return [name if found and os.path.realpath(found) == os.path.realpath(program) else program]


def _kept(words: Sequence[str]) -> list[str]:
    """The words of the command that also belong to the next one, with secrets hidden."""
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flags = _FLAGS.match(word)
        if flags:  # -vC, -De NAME=VALUE
            letters = flags.group(1).replace("C", "").replace("D", "")
            kept += ["-" + letters] if letters else []
            word = "-e" if flags.group(2) else ""
        name, equals, value = word.partition("=")
        if len(name) > 3 and "--extra-vars".startswith(name):  # argparse takes any beginning of an option
            kept += _option("-e", value if equals else rest.pop(0) if rest else "")
        elif word == "-e":
            kept += _option("-e", rest.pop(0) if rest else "")
        elif word.startswith("-e"):
            kept += _option("-e", word[2:])
        elif word and word not in _ONLY_THIS_TIME:
            kept.append(word)
    return kept


def _option(option: str, text: str) -> list[str]:
    """One -e with its text, without what is said anew, secrets hidden however deep they are; [] if nothing is left of it."""
    if text.startswith("@"):
        return [option, text]
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if isinstance(values, dict):
        left = {name: value for name, value in values.items() if name not in _REPLACED}
        return [option, json.dumps(_masked(left), ensure_ascii=False)] if left else []
    kept = _hide_secrets(_ANEW.sub("", text)).strip()
    return [option, kept] if kept else []


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: HIDDEN if _is_secret(name) else _masked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return _hide_secrets(value) if isinstance(value, str) else value  # a context given as text


def _hide_secrets(text: str) -> str:
    """The text with the values after secret names replaced, in NAME=VALUE words, JSON, YAML and Python notation alike."""
    parts, position = [], 0
    while match := _NAME.search(text, position):
        value = _VALUES[match["sign"]].match(text, match.end()) if _is_secret(match["name"]) else None
        parts.append(text[position : match.end()] + (HIDDEN if value else ""))
        position = value.end() if value else match.end()
    return "".join(parts) + text[position:]


def _is_secret(name: str) -> bool:
    return is_secret_name(name) or name.lower().endswith("_pass")


def _join(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
