# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that travel as one text, JSON with a line for each entry, and file systems without locks."""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base import files, packed
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.results import record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_is_packed_comes_out_again(value: Any) -> None:
    text = packed.pack(value)
    assert text.isascii() and "\n" not in text and packed.unpack(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "no base64!",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"no json")).decode(),
        packed.pack(list(range(1000)))[:-8],
        base64.b64encode(zlib.compress(b" " * (packed.LARGEST + 1))).decode(),
    ],
    ids=["base64", "zlib", "json", "cut", "bomb"],
)
def test_what_is_no_packed_value_is_an_error(text: str) -> None:
    with pytest.raises(MadError, match="packed value"):
        packed.unpack(text)


@given(st.dictionaries(st.text(), JSON, max_size=5) | st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5))
def test_json_in_lines_is_the_same_json(value: Any) -> None:
    text = files.json_lines(value).decode("utf-8", "surrogateescape")
    assert json.loads(text) == value and text.endswith("\n")


@given(JSON)
def test_a_plain_value_is_a_copy_that_any_file_can_hold(value: Any) -> None:
    found = record.plain(value)
    assert found == record.plain(found) and json.loads(json.dumps(found).encode("ascii")) == found


def test_what_is_not_plain_becomes_so() -> None:
    found = record.plain({1: (float("nan"), "a\ud800", "\U0001f600", "\\ud800"), "k": [float("inf")]})
    assert found == {"1": [None, "a?", "\U0001f600", "\\ud800"], "k": [None]}


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Lustre that is mounted without them."""

    def flock(*dummy: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(MadError, match="%s has no locks .*Lustre" % (tmp_path / "x.lock")), files.locked(str(tmp_path / "x.lock")):
        pass
