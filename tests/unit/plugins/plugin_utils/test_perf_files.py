# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""perf.csv files: a campaign's own, and rows brought into files that madengine wrote."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.plugin_utils import perf_files
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success

MADENGINE = ",".join(rows.MADENGINE_COLUMNS) + ",configs,temperature\r\n"
OLD_ROW = 'old,8,1,8,fp16,,"--a ""x""",t,d,b,s,i,c,m,local,docker,gfx942,5.0,x/s,,SUCCESS,1.5,2.5,,,,,0,,"{\'a\': 1}",20\r\n'


def row(number: int = 1, **changes: Any) -> Dict[str, str]:
    return rows.rows(success(number, **changes))[0]


def read(path: Any) -> List[Dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return rows.from_csv(stream.read())


def test_a_new_file(tmp_path: Any) -> None:
    path = tmp_path / "new" / "perf.csv"
    assert perf_files.append(str(path), [row(1), row(2)])
    assert [entry["run_id"][-1] for entry in read(path)] == ["1", "2"]
    assert path.read_text().splitlines()[0] == ",".join(rows.COLUMNS)


def test_a_second_time_changes_nothing_and_news_replaces(tmp_path: Any) -> None:
    path = str(tmp_path / "perf.csv")
    assert perf_files.append(path, [row(1), row(2)])
    before = os.stat(path).st_ino
    assert not perf_files.append(path, [row(1), row(2)])
    assert os.stat(path).st_ino == before
    assert perf_files.append(path, rows.rows(crash(1)) + [row(3)])
    assert [(entry["run_id"][-1], entry["status"]) for entry in read(path)] == [("1", "FAILURE"), ("2", "SUCCESS"), ("3", "SUCCESS")]


def test_another_campaign_and_another_attempt_are_further_rows(tmp_path: Any) -> None:
    path = str(tmp_path / "perf.csv")
    for entry in (row(1), row(1, campaign="other"), row(1, attempt=2)):
        assert perf_files.append(path, [entry])
    assert len(read(path)) == 3


def test_a_file_of_madengine_is_extended_and_not_rewritten(tmp_path: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(MADENGINE + OLD_ROW, newline="")
    os.chmod(path, 0o640)
    entry = rows.rows({**success(1), "metrics": [{"text": "3", "unit": "x", "row": "a", "extra": {"temperature": "30", "batch": "4"}}]})[0]
    assert perf_files.append(str(path), [entry])
    old, new = read(path)
    header = path.read_text().splitlines()[0].split(",")
    assert header[:31] == [*rows.MADENGINE_COLUMNS, "configs", "temperature"]
    assert header[31:] == [*rows.OUR_COLUMNS, "batch"]
    assert [old[name] for name in ("args", "performance", "configs", "temperature", "campaign")] == ['--a "x"', "5.0", "{'a': 1}", "20", ""]
    assert (new["model"], new["temperature"], new["batch"], new["configs"]) == ("dummy_a", "30", "4", "")
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_old_cells_keep_their_text(tmp_path: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_bytes(b"\xef\xbb\xbfmodel,performance,args\n=bad,1,'--a\n\xff\xfe,2,\"two\nlines\"\nshort\n")
    assert perf_files.append(str(path), [row(1)])
    data = path.read_bytes()
    assert b"=bad,1,'--a," in data
    assert b'\xff\xfe,2,"two\nlines",' in data
    assert b"\nshort,,,," in data


def test_the_last_line_of_a_torn_file_is_not_glued(tmp_path: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text("model,performance\na,1")
    perf_files.append(str(path), [row(1)])
    assert [entry["model"] for entry in read(path)] == ["a", "dummy"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,value\na,1\n", "is not a perf.csv"),
        ("model,model,performance\n", "is not a perf.csv"),
        ("model,performance\na,1,surplus\n", "row 2 has more cells"),
        ('model,performance\n"%s",1\n' % ("x" * 200000), "is not a CSV file"),
    ],
)
def test_a_strange_file_is_not_touched(tmp_path: Any, content: str, words: str) -> None:
    path = tmp_path / "perf.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=words) as caught:
        perf_files.append(str(path), [row(1)])
    assert "not touched" in caught.value.message
    assert path.read_text() == content


def test_a_folder_and_a_forbidden_place_are_errors(tmp_path: Any) -> None:
    with pytest.raises(InvalidInput, match="mad_perf_output"):
        perf_files.append(str(tmp_path), [row(1)])
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="cannot be written"):
        perf_files.append(str(tmp_path / "file" / "perf.csv"), [row(1)])


def test_a_link_stays_a_link(tmp_path: Any) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "perf.csv").symlink_to(tmp_path / "there" / "perf.csv")
    perf_files.append(str(tmp_path / "perf.csv"), [row(1)])
    assert (tmp_path / "perf.csv").is_symlink()
    assert len(read(tmp_path / "there" / "perf.csv")) == 1


def test_check_mode_writes_nothing(tmp_path: Any) -> None:
    assert perf_files.append(str(tmp_path / "perf.csv"), [row(1)], write=False)
    assert os.listdir(tmp_path) == []


def test_nothing_to_append(tmp_path: Any) -> None:
    assert not perf_files.append(str(tmp_path / "perf.csv"), [])
    assert os.listdir(tmp_path) == []


def _append_many(path: str, first: int) -> None:
    for number in range(first, first + 10):
        perf_files.append(path, [row(number)])


def test_writers_at_once_lose_nothing(tmp_path: Any) -> None:
    path = str(tmp_path / "perf.csv")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(path, first)) for first in (0, 100, 200, 300)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len({entry["run_id"] for entry in read(path)}) == 40
    assert len(read(path)) == 40


def test_a_failed_write_leaves_the_old_file(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text("model,performance\na,1\n")

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InvalidInput, match="No space left"):
        perf_files.append(str(path), [row(1)])
    assert path.read_text() == "model,performance\na,1\n"
    assert sorted(os.listdir(tmp_path)) == [".perf.csv.lock", "perf.csv"]


# -- the campaign's own files ------------------------------------------------------------------------------------------------


def test_perf_entry_holds_what_was_new(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])
    assert perf_files.write_campaign(campaign, [row(1)])
    assert not perf_files.write_campaign(campaign, [row(1)])
    assert perf_files.write_campaign(campaign, [row(1), row(2)])
    assert [entry["run_id"][-1] for entry in read(campaign.perf_path)] == ["1", "2"]
    assert [entry["run_id"][-1] for entry in read(campaign.perf_entry_path)] == ["2"]
    with open(campaign.perf_entry_json_path, encoding="utf-8") as stream:
        assert json.load(stream) == [row(2)]
    assert not perf_files.write_campaign(campaign, [row(1), row(2)])
    assert [entry["run_id"][-1] for entry in read(campaign.perf_entry_path)] == ["2"]


def test_a_play_without_rows_has_empty_files(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [])
    assert perf_files.write_campaign(campaign, [])
    for path in (campaign.perf_path, campaign.perf_entry_path):
        with open(path, encoding="utf-8") as stream:
            assert stream.read() == ",".join(rows.COLUMNS) + "\n"


def test_a_damaged_perf_csv_is_made_again(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1)])
    for damage in (b"", b'"', b"\xff\xfe\0", b"model\n" + b"x" * 200000):
        with open(campaign.perf_path, "wb") as stream:
            stream.write(damage)
        assert perf_files.write_campaign(campaign, [row(1)])
        assert read(campaign.perf_path) == [row(1)]


def test_dying_between_the_files_loses_no_news(tmp_path: Any, monkeypatch: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1)])
    real = files.write_atomic

    def die(path: str, *args: Any) -> None:
        if path.endswith("/perf.csv"):
            raise KeyboardInterrupt
        real(path, *args)

    monkeypatch.setattr(files, "write_atomic", die)
    with pytest.raises(KeyboardInterrupt):
        perf_files.write_campaign(campaign, [row(1)])
    monkeypatch.setattr(files, "write_atomic", real)
    assert perf_files.write_campaign(campaign, [row(1)])
    assert read(campaign.perf_entry_path) == [row(1)]
