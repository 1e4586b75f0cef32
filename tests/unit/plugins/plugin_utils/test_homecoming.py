# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive that a host sends: logs and artifacts of its own runs, nothing else."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.containers import archives
from ansible_collections.mad.engine.plugins.plugin_utils import homecoming
from ansible_collections.mad.engine.plugins.plugin_utils.host_runs import HostRuns
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, run_id, success

MINE, OTHER = run_id(1), run_id(2)


def receive(tmp_path: Path, members: Dict[str, bytes], only_results: bool = False) -> Dict[str, Any]:
    """What host n1 sends, whose only run is the first one."""
    campaign = make_campaign(tmp_path / "results", [make_run(1), make_run(2, place={"host": "n2"})])
    path, scratch = tmp_path / "archive.tar.gz", tmp_path / ("scratch-%s" % os.urandom(4).hex())
    scratch.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            archives.add_bytes(archive, data, name)
    return homecoming.receive(HostRuns(campaign, "n1"), str(path), str(scratch), [MINE, OTHER], only_results)


def test_logs_and_artifacts(tmp_path: Path) -> None:
    members = {MINE + "/run.log": b"1", MINE + "/artifacts/a\nb_output.csv": b"2", MINE + "/attempt-1/run.log": b"3"}
    assert receive(tmp_path, members) == {MINE: True}
    folder = tmp_path / "results" / "20261122T101500Z" / "runs" / MINE
    assert [folder.joinpath(name).read_bytes() for name in ("run.log", "artifacts/a\nb_output.csv", "attempt-1/run.log")] == [b"1", b"2", b"3"]


def test_what_an_earlier_attempt_left_stays_its_own(tmp_path: Path) -> None:
    """A later play's attempt neither overwrites the logs of the one before nor inherits its artifacts, wherever the first try was interrupted."""
    campaign = make_campaign(tmp_path / "results", [make_run(1), make_run(2, place={"host": "n2"})])
    folder = Path(campaign.run_dir(MINE))
    campaign.save_result(crash(1))
    receive(tmp_path, {MINE + "/run.log": b"1", MINE + "/engine.log": b"1", MINE + "/artifacts/first_output.csv": b"1", MINE + "/node-1/run.log": b"1"})
    (folder / "attempt-1" / "artifacts").mkdir(parents=True)
    os.replace(folder / "artifacts" / "first_output.csv", folder / "attempt-1" / "artifacts" / "first_output.csv")  # the first try
    os.rmdir(folder / "artifacts")
    for _again in range(2):
        campaign.save_result(dict(success(1), attempt=2))
        receive(tmp_path, {MINE + "/run.log": b"2", MINE + "/attempt-1/run.log": b"1"})
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix in (".log", ".csv")}
    assert found == {
        "run.log": b"2",
        "attempt-1/run.log": b"1",
        "attempt-1/engine.log": b"1",
        "attempt-1/node-1/run.log": b"1",
        "attempt-1/artifacts/first_output.csv": b"1",
    }


@pytest.mark.parametrize(
    "name",
    [
        OTHER + "/run.log",
        MINE + "/plan.json",
        MINE + "/attempt-1.json",
        MINE + "/artifacts",
        MINE + "/artifacts/a/b",
        "plan.json",
        # a record goes through the ledger's checks, never past them
        MINE + "/result.json",
        MINE + "/attempt-1/result.json",
    ],
)
def test_what_is_none_is_refused_and_nothing_is_kept(tmp_path: Path, name: str) -> None:
    with pytest.raises(MadError, match="of host n1 holds .*which is no log and no artifact of its runs"):
        receive(tmp_path, {MINE + "/run.log": b"1", name: b"evil"})
    assert not (tmp_path / "results" / "20261122T101500Z" / "runs" / MINE).exists()


def test_large_records(tmp_path: Path) -> None:
    data = json.dumps(success(1)).encode()
    assert receive(tmp_path, {MINE + "/result.json": data}, only_results=True) == {MINE: success(1)}


@pytest.mark.parametrize("members", [{}, {MINE + "/result.json": b"[1]"}, {MINE + "/result.json": b"{"}, {MINE + "/run.log": b""}])
def test_large_records_that_are_none(tmp_path: Path, members: Dict[str, bytes]) -> None:
    with pytest.raises(MadError, match="host n1"):
        receive(tmp_path, members, only_results=True)
