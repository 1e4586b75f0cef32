# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lookup of a campaign tells."""

from __future__ import annotations

from ansible_collections.mad.engine.plugins.action.campaign_info import describe
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.tests.support.records import success

RUNS = [
    {"id": "%016x" % number, "place": {"target": "local", "host": host}, "model": "m", "attempt": 1}
    for number, host in enumerate(["a", "a", "b"])
]


def campaign_with(tmp_path, done):
    """A campaign of three runs on two hosts, of which the first `done` succeeded."""
    campaign = Campaign(str(tmp_path / "c1")).make()
    campaign.save_plan({"schema": 1, "campaign": "c1", "runs": RUNS})
    for run in RUNS[:done]:
        campaign.save_result({**success(1), "run_id": run["id"], "campaign": "c1"})
    return campaign


def test_counts_per_host(tmp_path):
    found = describe(campaign_with(tmp_path, done=1))
    known = {"target": "local", "login_node": "", "unfinished": 1}
    assert found["hosts"] == {"a": {**known, "runs": 2}, "b": {**known, "runs": 1}}
    assert found["counts"] == {"total": 3, "done": 1}
    assert not found["finished"]


def test_a_campaign_with_all_rows_is_finished(tmp_path):
    assert describe(campaign_with(tmp_path, done=3))["finished"]
