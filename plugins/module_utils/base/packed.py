# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large values of a module's answer as one text: Ansible looks at every text and number of an answer, on the host and on the controller."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any, Dict

from .errors import MadError

LARGEST = 64 << 20  # bytes of JSON; a host must not fill the controller's memory with a few kilobytes


def pack(value: Any) -> str:
    """A JSON value as text of letters and digits, a tenth as long where its parts are alike."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 1)).decode("ascii")


def pack_results(answer: Dict[str, Any]) -> Dict[str, Any]:
    """An answer of a host as its module gives it to the controller."""
    return dict(answer, results=[], packed=pack(answer["results"])) if answer.get("results") else answer


def unpack(text: str) -> Any:
    """What was packed; MadError for what was not, or is too large."""
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), LARGEST)
        if not stream.eof:
            raise MadError("a packed value is incomplete, or longer than %d MiB" % (LARGEST >> 20))
        return json.loads(data)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise MadError("a packed value cannot be read: %s" % error) from error
