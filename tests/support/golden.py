# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden files: what is rendered, as it was last read and approved by a person."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

WRITE = "MAD_GOLDEN"


def check(path: str | Path, text: str) -> None:
    """Assert that the file holds this text. MAD_GOLDEN=write writes it anew and fails: the difference is to be read before it counts."""
    path, wanted = Path(path), text.encode("utf-8", "surrogateescape")
    if os.environ.get(WRITE) == "write" and os.environ.get("CI", "").lower() != "true":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wanted)
        pytest.fail("%s was written; read the difference, then run without %s" % (path, WRITE))
    assert text == path.read_bytes().decode("utf-8", "surrogateescape")
