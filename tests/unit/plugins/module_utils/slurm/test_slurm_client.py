# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of its words mean that Slurm does not answer now, and may be asked again; real clusters test the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Silent, Slurm


def squeue(folder: Path, words: str) -> Slurm:
    """A Slurm whose squeue fails with these words."""
    program = folder / "squeue"
    program.write_text("#!/bin/sh\necho 'slurm_load_jobs error: %s' >&2\nexit 1\n" % words)
    program.chmod(0o755)
    return Slurm(dict(os.environ, PATH="%s%s%s" % (folder, os.pathsep, os.environ["PATH"])))


@pytest.mark.parametrize(
    "words",
    [
        "Unable to contact slurm controller (connect failure)",
        "Transport endpoint is not connected",
        "Zero Bytes were transmitted or received",
        "Connection reset by peer",
        "Socket timed out on send/recv operation",
        "Slurm backup controller in standby mode",
        "No route to host",
    ],
)
def test_a_controller_that_is_away_is_silent(tmp_path: Path, words: str) -> None:
    with pytest.raises(Silent, match=words.split(" ", maxsplit=1)[0]):
        squeue(tmp_path, words).jobs(["mad-1"])


@pytest.mark.parametrize("words", ["Invalid user id", "Access/permission denied"])
def test_a_refusal_is_an_answer(tmp_path: Path, words: str) -> None:
    with pytest.raises(MadError, match=words.split(" ", maxsplit=1)[0]) as raised:
        squeue(tmp_path, words).jobs(["mad-1"])
    assert not isinstance(raised.value, Silent)


def test_a_job_that_cannot_be_cancelled_keeps_no_other_running(tmp_path: Path) -> None:
    program = tmp_path / "scancel"
    program.write_text("#!/bin/sh\necho \"$2\" >> %s/asked\n[ \"$2\" != --name=b ] || { echo 'scancel: error: odd' >&2; exit 1; }\n" % tmp_path)
    program.chmod(0o755)
    slurm = Slurm(dict(os.environ, PATH="%s%s%s" % (tmp_path, os.pathsep, os.environ["PATH"])))
    with pytest.raises(MadError, match="odd"):
        slurm.cancel(["a", "b", "c"])
    assert (tmp_path / "asked").read_text().split() == ["--name=a", "--name=b", "--name=c"]
