# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an attempt: secrets masked in logs of any size, words for phases; small helpers of supervisor and preparation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import ending, preparation, supervisor


@given(
    st.lists(
        st.sampled_from([b"secret-one", b"secret-one-and-two", b"secr", b"et-one", b"a", b"\n", b"password9", b"secret-on"]), max_size=30
    ),
    st.integers(min_value=18, max_value=40),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_survives_at_any_border(tmp_path: Path, parts: List[bytes], chunk: int) -> None:
    """Whatever the pieces in which a log is read, the result is that of one pass over the whole; length and other bytes stay."""
    values = ["secret-one", "secret-one-and-two", "password9"]
    data, path = b"".join(parts), tmp_path / "log"
    path.write_bytes(data)
    with mock.patch.object(ending, "_CHUNK", chunk):
        found = ending.mask_file(str(path), values)
    import re

    whole = re.sub(b"secret-one-and-two|secret-one|password9", lambda match: b"*" * len(match.group()), data)
    assert path.read_bytes() == whole
    assert found == len(re.findall(b"secret-one-and-two|secret-one|password9", data))


def test_masking_leaves_links_alone(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("password9")
    (tmp_path / "log").symlink_to(tmp_path / "other")
    assert ending.mask_file(str(tmp_path / "log"), ["password9"]) == 0 and (tmp_path / "other").read_text() == "password9"
    assert ending.mask_file(str(tmp_path / "nothing"), ["password9"]) == 0


def test_words_for_phases() -> None:
    run = {"pre_scripts": [{"path": "a.sh"}, {"path": "b.sh"}], "url": "https://x/y"}
    assert (
        ending.phase_failure(run, {"phase": "pre", "code": 3, "detail": "1"})["reason"]
        == "the pre script b.sh ended with exit status 3; see pre.log"
    )
    assert ending.phase_failure(run, {"phase": "clone", "code": 128, "detail": ""})["class"] == "infra"
    assert ending.phase_failure(run, {"phase": "prepare", "code": 1, "detail": "why"})["reason"].endswith(": why")
    for detail in ("9", "-1", "x", "", "\u00b2", "9" * 5000):
        assert "?" in ending.phase_name(run, "pre", detail)


@given(st.sets(st.integers(min_value=0, max_value=40), min_size=1))
def test_cpu_lists_round_trip(cpus: Any) -> None:
    assert preparation.cpu_set(supervisor.cpu_text(sorted(cpus))) == cpus


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "3-1", "0x1"])
def test_cpu_lists_that_are_none(text: str) -> None:
    with pytest.raises(MadError, match="docker_cpus"):
        preparation.cpu_set(text)


def test_login_environment_is_not_inherited_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Ansible's variables nor secrets of the login reach a model on the bare host."""
    for name in ("ANSIBLE_X", "SSH_AUTH_SOCK", "SUDO_USER", "HF_TOKEN", "MY_PASSWORD", "ORDINARY"):
        monkeypatch.setenv(name, "x")
    found = preparation.base_environment()
    assert "ORDINARY" in found and "PATH" in found
    assert not {"ANSIBLE_X", "SSH_AUTH_SOCK", "SUDO_USER", "HF_TOKEN", "MY_PASSWORD"} & set(found)
