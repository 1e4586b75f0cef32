# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names carry secrets, and how their values are kept out of text."""

from __future__ import annotations

import functools
import re
from typing import Dict, Iterable, Mapping, Tuple

_WORDS = frozenset(("token", "secret", "secrets", "password", "passwd", "credential", "credentials"))
_ENDINGS = ("api_key", "access_key", "private_key", "password", "passwd")
_MASK = "********"
SHORTEST = 8  # shorter values would blacken ordinary text


@functools.lru_cache(maxsize=4096)  # the cards of a repository have the same few names
def is_secret_name(name: str) -> bool:
    """True for names like HF_TOKEN, MAD_SECRETS_X, PGPASSWORD, aws-access-key; never for metric names like tokens_per_second."""
    lowered = name.lower().replace("-", "_")
    if lowered.startswith("mad_secrets") or lowered.endswith(_ENDINGS):
        return True
    return any(word in _WORDS for word in re.split("_", lowered))


def split_secrets(variables: Mapping[str, str]) -> Tuple[Dict[str, str], Dict[str, str]]:
    """(plain, secret) halves of a mapping of variables."""
    plain = {name: value for name, value in variables.items() if not is_secret_name(name)}
    return plain, {name: value for name, value in variables.items() if name not in plain}


def mask(text: str, values: Iterable[str]) -> str:
    """The text with every secret value of 8 characters and more replaced, longest first."""
    for value in sorted(set(values), key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, _MASK)
    return text
