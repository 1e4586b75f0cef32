# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the running ansible-playbook, without secrets, as it is written down and printed for resuming."""

from __future__ import annotations

import os
import re
import shlex
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.base.secret_names import is_secret_name, mask

_HIDDEN = "********"
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)(=)(\"[^\"]*\"|'[^']*'|\S+)")
_MEMBER = re.compile(r"""(["'])([A-Za-z_][A-Za-z0-9_-]*)\1(\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,{}\[\]"']+)""")
_CAMPAIGN = re.compile(r"mad_campaign=\S*\Z")
_EXTRA = ("-e", "--extra-vars")
WRAPPER = "MAD_COMMAND"
_CHECK = ("-C", "--check")


def _hide_assignment(match: t.Match[str]) -> str:
    name, sign, _value = match.groups()
    return name + sign + _HIDDEN if is_secret_name(name) else match.group(0)


def _hide_member(match: t.Match[str]) -> str:
    quote, name, colon, _value = match.groups()
    return quote + name + quote + colon + '"%s"' % _HIDDEN if is_secret_name(name) else match.group(0)


def spoken(argv: t.Sequence[str]) -> list[str]:
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


def without_secrets(words: t.Iterable[str], values: t.Iterable[str] = ()) -> list[str]:
    """The words with every value of a secret name (NAME=value, "name": "value") and every given secret value replaced."""
    secret = list(values)
    return [mask(_MEMBER.sub(_hide_member, _ASSIGNMENT.sub(_hide_assignment, word)), secret) for word in words]


def for_resuming(words: t.Sequence[str]) -> list[str]:
    """The words without `-e mad_campaign=...`, whose place whoever resumes fills, and without --check."""
    found: list[str] = []
    for word in words:
        if word in _CHECK:
            continue
        if _CAMPAIGN.match(word) and found and found[-1] in _EXTRA:
            found.pop()
        elif not re.match(r"--extra-vars=mad_campaign=\S*\Z", word):
            found.append(word)
    return found
