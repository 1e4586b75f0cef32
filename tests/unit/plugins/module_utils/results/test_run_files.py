# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many files of many runs at once: each whole or not at all, none lost between two controllers, and the list of what came home."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.module_utils.results.run_files import Collected
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, run_id, success

MANY = 2 * files.Batch.MANY + 3


def names(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("count", [1, MANY])
def test_a_batch_is_replaced_at_the_end(tmp_path: Path, count: int) -> None:
    with files.Batch() as batch:
        for number in range(count):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "file").write_text("old")
            batch.write(str(tmp_path / str(number) / "file"), b"new", 0o600)
        assert {(tmp_path / str(number) / "file").read_text() for number in range(count)} == {"old"}
    assert names(tmp_path) == sorted("%d/file" % number for number in range(count))
    for number in range(count):
        assert (tmp_path / str(number) / "file").read_text() == "new"
        assert (tmp_path / str(number) / "file").stat().st_mode & 0o777 == 0o600


def test_a_batch_that_is_interrupted_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.Batch() as batch:
        batch.write(str(tmp_path / "a"), b"new")
        batch.write(str(tmp_path / "b"), b"new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_batch_that_cannot_be_finished_leaves_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "is-a-folder").mkdir()
    with pytest.raises(IsADirectoryError), files.Batch() as batch:
        for name in ("a", "is-a-folder", "c"):
            batch.write(str(tmp_path / name), b"new")
    assert names(tmp_path) == ["a"]


def test_many_records_at_once(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, [make_run(number) for number in range(1, MANY + 1)])
    records = [success(number) for number in range(1, MANY + 1)]
    assert campaign.save_attempts([{"run_id": record["run_id"], "attempt": 1, "launch": {"job": 7}} for record in records])
    assert [record["run_id"] for record in campaign.save_results(records)] == [record["run_id"] for record in records]
    assert campaign.save_results(records) == []
    assert campaign.results() == ({record["run_id"]: record for record in records}, {})
    for record in records:
        assert campaign.attempt(record["run_id"], 1) == {
            "schema": 1,
            "run_id": record["run_id"],
            "attempt": 1,
            "launch": {"job": 7},
            "result": record,
        }


def test_a_bad_record_costs_no_other_one(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, [make_run(number) for number in (1, 2, 3)])
    with pytest.raises(InvalidInput, match="its status is 'FINE'"):
        campaign.save_results([success(1), {**success(2), "status": "FINE"}, success(3)])
    assert sorted(campaign.results()[0]) == [run_id(1), run_id(3)]


def test_the_same_run_twice_in_one_answer(tmp_path: Path) -> None:
    """Whatever a host sends: the newest attempt is the row, in either order."""
    newer = {**success(1), "attempt": 2}
    for name, sent in (("a", [crash(1), newer]), ("b", [newer, crash(1)])):
        campaign = make_campaign(tmp_path / name, [make_run(1)])
        campaign.save_results(sent)
        assert campaign.result(run_id(1)) == newer
        assert (campaign.attempt(run_id(1), 1) or {})["result"] == crash(1)


def test_two_controllers_lose_nothing(tmp_path: Path) -> None:
    """One notes launches while the other keeps results: each file has both at the end."""
    campaign = make_campaign(tmp_path, [make_run(number) for number in range(1, MANY + 1)])
    launches = [{"run_id": run_id(number), "attempt": 1, "launch": {"job": number}} for number in range(1, MANY + 1)]
    own = Campaign(campaign.folder)
    threads = [
        threading.Thread(target=lambda: own.save_attempts(launches)),
        threading.Thread(target=lambda: campaign.save_results(success(number) for number in range(MANY, 0, -1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(1, MANY + 1):
        document: Dict[str, Any] = campaign.attempt(run_id(number), 1) or {}
        assert (document["launch"], document["result"]) == ({"job": number}, success(number))


def test_what_was_collected(tmp_path: Path) -> None:
    collected = Collected(str(tmp_path / "collected"))
    assert not collected.has("n1", run_id(1), 1)
    assert not (tmp_path / "collected").exists()
    collected.add("n1", {run_id(1): 1, run_id(2): 3}, "home")
    Collected(str(tmp_path / "collected")).add("n1", {run_id(4): 1}, "gone")
    collected.add("n2", {}, "home")
    again = Collected(str(tmp_path / "collected"))
    assert again.has("n1", run_id(1), 1) and again.has("n1", run_id(2), 3) and again.has("n1", run_id(4), 1)
    assert not again.has("n1", run_id(1), 2), "another attempt has its own logs"
    assert not again.has("n2", run_id(1), 1)


@pytest.mark.parametrize("text", ["", "[]", '{"host": "n2", "runs": {}}', '{"host": "n1", "runs": []}', '{"host": "n1", "runs": {"0000000000000001": 1}}'])
def test_a_damaged_list_costs_a_second_collection(tmp_path: Path, text: str) -> None:
    collected = Collected(str(tmp_path))
    collected.add("n1", {run_id(1): 1}, "home")
    (path,) = tmp_path.glob("*.json")
    path.write_text(text)
    again = Collected(str(tmp_path))
    assert not again.has("n1", run_id(1), 1)
    again.add("n1", {run_id(1): 1}, "home")
    assert Collected(str(tmp_path)).has("n1", run_id(1), 1)
    assert os.listdir(tmp_path)
