# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier campaigns: only those before, only the same models, and a history that cannot be read is said."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils import store
from ansible_collections.mad.engine.plugins.plugin_utils.report import entries, past
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports

HARDWARE = reports.hardware(0, 3)
KEY = ("llm/llama-3.1-8b", "tokens_per_second", HARDWARE)


def night(folder: Any, number: int, **more: Any) -> entries.Runs:
    """A campaign as a play leaves it: also in the history."""
    campaign = reports.fleet(folder, "night-%d" % number, night=number, hosts=3, models=2, repeats=2, **more)
    store.store(campaign, store.Options(hosts={}))
    return entries.read(campaign)


def test_campaigns_before_this_one(tmp_path: Any) -> None:
    found = [night(tmp_path, number, failing=0.3) for number in range(4)]
    earlier, notes = past.past(found[2], 30)
    assert notes == []
    assert sorted(sample.campaign for sample in earlier[KEY]) == ["night-0", "night-1"]
    one = next(sample for sample in earlier[KEY] if sample.campaign == "night-0")
    own = [entry for entry in found[0].entries if entry.record["model"] == KEY[0] and entry.hardware == HARDWARE]
    assert sorted(one.values) == pytest.approx(sorted(entry.results[0].value or 0.0 for entry in own if entry.status == "SUCCESS"))
    assert one.failed == sum(entry.status == "FAILURE" for entry in own)
    assert one.time == min(entry.record["timings"]["started"] for entry in found[0].entries)


def test_as_many_as_asked_for(tmp_path: Any) -> None:
    found = [night(tmp_path, number, failing=0.0) for number in range(3)]
    assert past.past(found[2], 0) == ({}, [])
    assert [sample.campaign for sample in past.past(found[2], 1)[0][KEY]] == ["night-1"]


def test_a_history_that_is_damaged_absent_or_silent_is_said(tmp_path: Any) -> None:
    found = [night(tmp_path, number, failing=0.0) for number in range(2)]
    path = found[1].campaign.history_path
    with open(path, "wb") as stream:
        stream.write(b"no database at all" * 99)
    earlier, notes = past.past(found[1], 30)
    assert earlier == {} and notes[0].startswith("the charts show no earlier campaign: the index ")
    os.unlink(path)
    assert past.past(found[1], 30)[1] == ["the charts show no earlier campaign: there is no history yet, mad.engine.database makes it"]
    store.store(found[0].campaign, store.Options(hosts={}))
    assert "holds no campaign 'night-1'" in past.past(found[1], 30)[1][0]


def test_the_report_of_one_campaign_shows_them(tmp_path: Any) -> None:
    for number in range(3):
        night(tmp_path, number, failing=0.0)
    with open(make(Options(str(tmp_path), ["night-2"])).files["html"], encoding="utf-8") as stream:
        text = stream.read()
    found = re.search('id="data">(.*?)</script>', text)
    assert found
    line = next(line for line in json.loads(found.group(1))["series"] if (line["model"], line["unit"], line["hardware"]) == KEY)
    assert [point[0] for point in line["points"]] == ["night-0", "night-1", "night-2"]
