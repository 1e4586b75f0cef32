# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign folder: names, ids that become paths, attempts that are never lost, damaged files."""

from __future__ import annotations

import os
import threading
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import campaign as campaigns
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, run_id, success

BAD_NAMES = ["", ".", "..", "a/b", "../x", "-a", "a-", ".a", "a..b", "a b", "a\n", "a" * 41, "last", "history.db"]
BAD_NAMES += ["\u00e4", "a\0", "$(x)", "a;b"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(tmp_path: Any, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a campaign's name"):
        campaigns.check_name(name)
    if name not in ("", "last"):
        with pytest.raises(InvalidInput):
            campaigns.open_campaign(str(tmp_path), name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "20261122T101500Z", "nightly-2026.11_22", "a" * 40])
def test_good_names(tmp_path: Any, name: str) -> None:
    assert campaigns.open_campaign(str(tmp_path), name).folder == str(tmp_path / name)


def test_identity(tmp_path: Any) -> None:
    """Made once, also by many at once; another folder of the same name has another one."""
    made = campaigns.open_campaign(str(tmp_path / "one"), "c1").make()
    found: List[str] = []
    threads = [threading.Thread(target=lambda: found.append(made.identity())) for dummy in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(found[0]) == 16
    assert sorted(name for name in os.listdir(made.folder) if name.startswith(".identity")) == [".identity"]
    assert campaigns.open_campaign(str(tmp_path / "two"), "c1").make().identity() != found[0]


@given(st.text(max_size=50))
def test_a_name_is_one_path_part_and_a_label(name: str) -> None:
    try:
        campaigns.check_name(name)
    except InvalidInput:
        return
    assert os.path.basename(os.path.normpath("/x/" + name)) == name
    assert len("mad-%s-%s-999" % (name, "0" * 16)) < 128


@pytest.mark.parametrize("bad", ["../../etc/passwd", "", "0" * 15, "0" * 17, "G" * 16, "0" * 16 + "\n", None, 5, "ABCDEF0123456789"])
def test_bad_ids_never_become_paths(tmp_path: Any, bad: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    calls = (campaign.run_dir, campaign.result_path, campaign.result, lambda value: campaign.save_attempt({"run_id": value, "attempt": 1}))
    for call in calls:
        with pytest.raises(InvalidInput, match="not a run id"):
            call(bad)


@pytest.mark.parametrize("bad", [0, -1, "1", True, None, 1.0, 1000000])
def test_bad_attempts(tmp_path: Any, bad: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    with pytest.raises(InvalidInput, match="not an attempt number"):
        campaign.save_attempt({"run_id": run_id(1), "attempt": bad})


def test_new_campaigns_are_named_by_the_time(tmp_path: Any) -> None:
    results = str(tmp_path / "new" / "results")
    names = [campaigns.open_campaign(results, now=0.0).name for _count in range(3)]
    assert names == ["19700101T000000Z", "19700101T000000Z-2", "19700101T000000Z-3"]
    assert campaigns.open_campaign(results, now=0.0, make=False).name == "19700101T000000Z-4"
    assert not os.path.exists(os.path.join(results, "19700101T000000Z-4"))


def test_two_controllers_in_one_second_get_two_folders(tmp_path: Any) -> None:
    names: List[str] = []
    threads = [threading.Thread(target=lambda: names.append(campaigns.open_campaign(str(tmp_path), now=0.0).name)) for _count in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 20


def test_results_that_are_no_folder(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("", "a"):
        with pytest.raises(InvalidInput, match="mad_results"):
            campaigns.open_campaign(str(tmp_path / "file"), name)


def test_last_is_the_newest_unfinished(tmp_path: Any) -> None:
    with pytest.raises(InvalidInput, match="no unfinished campaign"):
        campaigns.open_campaign(str(tmp_path), "last")
    for number, name in enumerate(("old", "middle", "new")):
        campaign = make_campaign(tmp_path, [make_run()], name)
        os.utime(campaign.plan_path, (number, number))
    assert campaigns.open_campaign(str(tmp_path), "last").name == "new"
    campaigns.find_campaign(str(tmp_path), "new").save_result({**success(), "campaign": "new"})
    assert campaigns.open_campaign(str(tmp_path), "last").name == "middle"
    lost = {**records.make_unrun_record(make_run(), "infra", "unreachable"), "campaign": "middle"}
    campaigns.find_campaign(str(tmp_path), "middle").save_result(lost)
    assert campaigns.open_campaign(str(tmp_path), "last").name == "middle"
    campaigns.find_campaign(str(tmp_path), "middle").save_result({**crash(), "campaign": "middle"})
    campaigns.find_campaign(str(tmp_path), "old").save_result({**success(), "campaign": "old"})
    with pytest.raises(InvalidInput, match="the newest one, new, is finished"):
        campaigns.open_campaign(str(tmp_path), "last")
    with pytest.raises(InvalidInput, match="there is no campaign 'gone'"):
        campaigns.find_campaign(str(tmp_path), "gone")
    assert [campaign.name for campaign in campaigns.campaigns(str(tmp_path))] == ["new", "middle", "old"]


def test_launch_then_result(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    one = run_id(1)
    assert (campaign.result(one), campaign.attempts(one), campaign.next_attempt(one)) == (None, [], 1)
    launch = {"run_id": one, "attempt": 1, "launch": {"container": "mad-x"}}
    assert campaign.save_attempt(launch)
    assert not campaign.save_attempt(launch)
    assert (campaign.launched(one, 1), campaign.result(one), campaign.next_attempt(one)) == (True, None, 2)
    assert campaign.save_result(success())
    assert not campaign.save_result(success())
    document = campaign.attempt(one, 1)
    assert document and document["launch"] == {"container": "mad-x"} and document["result"] == campaign.result(one) == success()


def test_a_retry_adds_an_attempt(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    one = run_id(1)
    campaign.save_result(crash())
    campaign.save_result(success(attempt=2))
    campaign.save_result(crash())  # came home late
    assert campaign.attempts(one) == [1, 2]
    found = [campaign.attempt(one, number) for number in (1, 2)]
    assert [entry and entry["result"]["status"] for entry in found] == ["FAILURE", "SUCCESS"]
    assert campaign.results()[0][one]["attempt"] == 2


def test_a_run_that_never_started_leaves_no_attempt(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    campaign.save_result(records.make_unrun_record(make_run(), "infra", "unreachable"))
    assert (campaign.attempts(run_id(1)), campaign.next_attempt(run_id(1))) == ([], 1)
    campaign.save_result(success())
    result = campaign.result(run_id(1))
    assert result and result["status"] == "SUCCESS"


def test_the_record_of_another_campaign_is_refused(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()], "other")
    with pytest.raises(InvalidInput, match="belongs to campaign"):
        campaign.save_result(success())


DAMAGES = [b"", b'{"run_id": ', b"[]", b"null", b"\xff\xfe", b'{"run_id": "x", "status": "SUCCESS"}', b"[" * 100000]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_read_from_the_attempt(tmp_path: Any, damage: bytes) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    campaign.save_result(success())
    for name in ("result.json", "attempt-1.json"):
        with open(os.path.join(campaign.run_dir(run_id(1)), name), "wb") as stream:
            stream.write(damage)
        records_found, problems = campaign.results()
        if name == "result.json":
            assert (records_found, problems) == ({run_id(1): success()}, {})
    assert records_found == {}
    assert "result.json" in problems[run_id(1)]
    with pytest.raises(MadError):
        campaign.result(run_id(1))
    assert campaign.launched(run_id(1), 1)  # never start again what may have run
    assert campaign.save_result(success())
    assert campaign.result(run_id(1)) == success()


def test_a_dangling_link_is_no_missing_result(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    os.symlink("/nonexistent", os.path.join(campaign.run_dir(run_id(1), make=True), "result.json"))
    assert run_id(1) in campaign.results()[1]


def test_strangers_in_the_folder_are_left_alone(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    for name in ("notes.txt", ".DS_Store", "0" * 15):
        (tmp_path / campaign.name / "runs" / name).mkdir()
    assert campaign.run_ids() == []
    assert campaign.unfinished() == [run_id(1)]


def test_no_campaign_and_no_plan(tmp_path: Any) -> None:
    campaign = campaigns.Campaign(str(tmp_path / "x"))
    assert not campaign.exists()
    with pytest.raises(InvalidInput, match="is no campaign"):
        campaign.plan()
    campaign.save_plan({"runs": 5})
    with pytest.raises(InvalidInput, match="no list of runs"):
        campaign.plan()
    assert campaign.unfinished() == []


def test_one_controller_at_a_time(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [])
    with campaign.lock() as mine, campaign.lock(blocking=False) as other:
        assert (mine, other) == (True, False)


def plan_of_hosts(*names):
    """A plan with two runs on each host."""
    runs = [{"id": "%016x" % number, "place": {"target": "local", "host": name}} for number, name in enumerate(2 * names)]
    hosts = {name: {"facts": {"n": name}} for name in names}
    return {"schema": 1, "campaign": "c1", "hosts": hosts, "runs": runs, "warnings": ["w"], "repo": {"path": "/r"}}


def test_a_host_reads_its_own_part(tmp_path, monkeypatch):
    campaign = campaigns.Campaign(str(tmp_path / "c1"))
    plan = plan_of_hosts("n1", "n/2 ☃")
    assert campaign.save_plan(plan) is True and campaign.save_plan(plan) is False
    assert campaign.plan() == plan
    monkeypatch.setattr(campaign, "plan", lambda: pytest.fail("the whole plan was read"))
    part = campaign.host_plan("n/2 ☃")
    assert [run["place"]["host"] for run in part["runs"]] == ["n/2 ☃"] * 2
    assert part["hosts"] == {"n/2 ☃": {"facts": {"n": "n/2 ☃"}}} and part["repo"] == {"path": "/r"}


@pytest.mark.parametrize("damage", ["", "{", '{"of": [0, 0, 0], "host": "n1", "plan": {"runs": []}}', None])
def test_a_part_that_is_not_of_this_plan_does_not_count(tmp_path, damage):
    campaign = campaigns.Campaign(str(tmp_path / "c1"))
    campaign.save_plan(plan_of_hosts("n1", "n2"))
    for path in (tmp_path / "c1" / "plans").iterdir():
        path.unlink() if damage is None else path.write_text(damage)
    assert len(campaign.host_plan("n1")["runs"]) == 2
    assert campaign.host_plan("elsewhere")["runs"] == []


def test_the_part_follows_the_plan(tmp_path):
    campaign = campaigns.Campaign(str(tmp_path / "c1"))
    campaign.save_plan(plan_of_hosts("n1", "n2"))
    changed = plan_of_hosts("n1", "n2")
    changed["runs"][0]["attempt"] = 2
    assert campaign.save_plan(changed) is True
    assert campaign.host_plan("n1")["runs"][0]["attempt"] == 2
    one = plan_of_hosts("n1")
    campaign.save_plan(one)
    assert campaign.host_plan("n1")["runs"] == one["runs"] and campaign.host_plan("n2")["runs"] == []


def test_a_plan_has_one_run_per_line(tmp_path):
    campaign = campaigns.Campaign(str(tmp_path / "c1"))
    campaign.save_plan(plan_of_hosts("n1"))
    lines = (tmp_path / "c1" / "plan.json").read_text().splitlines()
    assert sum('"id"' in line for line in lines) == 2
    campaign.save_plan(dict(plan_of_hosts("n1"), runs=[]))
    assert campaign.plan()["runs"] == []


@pytest.mark.parametrize("text", ['{"runs": [1]}', '{"runs": [{}]}', '{"runs": [{"id": 5}]}', '{"runs": [{"id": "../../x"}]}'])
def test_a_plan_whose_runs_are_none(tmp_path: Any, text: str) -> None:
    campaign = make_campaign(tmp_path, [make_run()])
    with open(campaign.plan_path, "w", encoding="utf-8") as stream:
        stream.write(text)
    with pytest.raises(InvalidInput, match="is damaged: its entry 1 is no run"):
        campaign.plan()


def test_two_controllers_write_one_attempt(tmp_path: Any) -> None:
    """Each of many writers adds a key of its own, and none of them is lost."""
    made = make_campaign(tmp_path / "results", [make_run(1)])

    def write(number: int) -> None:
        made.save_attempt({"run_id": run_id(1), "attempt": 1, "launch": {"key-%d" % number: number}})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    document = made.attempt(run_id(1), 1)
    assert document is not None and len(document["launch"]) == 16
