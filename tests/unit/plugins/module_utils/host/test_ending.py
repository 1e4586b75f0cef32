# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an attempt: secrets masked in logs of any size, words for phases; small helpers of supervisor and preparation."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, List
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import bodies, ending, preparation, supervisor
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.tests.support.records import make_run, run_id


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


def test_a_log_that_the_model_made_a_folder_costs_its_content_and_no_record(tmp_path: Path) -> None:
    folder = HostFolder(str(tmp_path / "campaigns" / "c1"))
    folder.make("c1", "n1")
    folder.save_run(make_run(1))
    attempt = folder.attempt(run_id(1), 1)
    attempt.claim()
    (Path(attempt.path) / "io" / "model.log" / "deep").mkdir(parents=True)
    (Path(attempt.path) / "io" / "pre.log").mkdir()
    (Path(attempt.path) / "io" / "phases").write_text("1 begin prepare\n2 begin model\n3 exit model 0\n4 end\n")
    record = ending.Ending(folder, make_run(1), attempt, {"launched": True, "exit_code": 0, "notes": []}).write()
    assert record["status"] == "FAILURE" and sum("is not a file" in note for note in record["notes"]) == 2
    assert attempt.result() == record


def test_what_lies_where_we_may_not_look_counts_as_somebody_elses() -> None:
    """In a folder that can be listed and not entered, as a container's user may leave one; nobody can be kept out as root, so as another user."""
    place = Path(tempfile.mkdtemp(prefix="mad-foreign-"))
    (place / "closed").mkdir()
    (place / "closed" / "file").touch()
    if os.geteuid() == 0:
        for path in (place, place / "closed", place / "closed" / "file"):
            os.chown(path, 65534, 65534)
    (place / "closed").chmod(0o400)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            os._exit(10 + bodies._is_foreign(str(place)))
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    (place / "closed").chmod(0o700)
    shutil.rmtree(place)
    assert os.WEXITSTATUS(status) == 11


def test_a_full_disk_is_waited_for_once_a_step_and_not_once_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = HostFolder(str(tmp_path / "campaigns" / "c1"))
    folder.make("c1", "n1")
    for number in range(1, 6):
        folder.save_run(make_run(number))
        (Path(folder.path) / "runs" / run_id(number) / "attempt-1").touch()  # a folder that cannot be made
    folder.save_settings({"lock": str(tmp_path / "lock")})
    folder.say("cancel", "enough")
    found = supervisor.Supervisor(folder)
    for dummy in range(2):
        assert found._step() and len(found.pending) == 5
    os.close(found.machine_lock or -1)
    assert capsys.readouterr().err.count("cannot be written") == 2


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
