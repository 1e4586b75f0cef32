# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as text: data that cannot leave its element, a policy that knows its own script, the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import os
import re
import zlib
from typing import Any, Dict, List, Optional, Tuple

import pytest

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.report import details, entries, page
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success

UPLOT = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
EVIL = "</script><script>window.evil=1</script><!-- <img src=x onerror=window.evil=1> &amp; \u2028 \" ' `"


class Elements(html.parser.HTMLParser):
    """The page's elements as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: List[Tuple[Dict[str, Optional[str]], str]] = []
        self.meta: Dict[str, str] = {}
        self.addresses: List[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        found = dict(attrs)
        self.addresses.extend(str(value) for name, value in attrs if name in ("src", "href", "srcset", "action"))
        if tag == "script":
            self.scripts.append((found, ""))
            self._in = True
        if tag == "meta" and found.get("http-equiv"):
            self.meta[str(found["http-equiv"])] = str(found["content"])

    def handle_data(self, data: str) -> None:
        if self.scripts and self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)


def rendered(*campaigns: Campaign) -> str:
    return page.render([entries.read(campaign, place) for place, campaign in enumerate(campaigns)], {}, campaigns[0].folder)


def data_of(text: str) -> Any:
    return json.loads(next(content for attributes, content in Elements(text).scripts if attributes.get("id") == "data"))


def details_of(text: str) -> List[Any]:
    found = [content for attributes, content in Elements(text).scripts if str(attributes.get("id")).startswith("details-")]
    return [one for chunk in found for one in json.loads(zlib.decompress(base64.b64decode(chunk)))]


@pytest.fixture
def evil(tmp_path: Any) -> Campaign:
    runs = [make_run(1, model=EVIL, card={"name": EVIL, "tags": [EVIL]}, env={"A": EVIL}), make_run(2), make_run(3)]
    campaign = make_campaign(tmp_path, runs, repo={"path": EVIL, "commit": EVIL, "dirty": True})
    record = crash(1, model=EVIL, card={"name": EVIL, "tags": [EVIL]})
    reports.save(campaign, {**record, "reason": EVIL}, log=[EVIL, "\x1b[31mred\x1b[0m \x00 \udcff"])
    reports.save(campaign, success(2), log=["x" * 2000])
    return campaign


def test_nothing_leaves_its_element(evil: Campaign) -> None:
    text = rendered(evil)
    scripts = Elements(text).scripts
    assert [attributes.get("type") for attributes, dummy in scripts] == ["application/json", "text/plain", None]
    assert text.count("<script") == 3
    assert "evil=1>" not in text.replace("&gt;", "")
    data = data_of(text)
    assert EVIL in data["texts"] and data["campaigns"][0]["repository"] == EVIL


def test_the_policy_knows_the_script_and_nothing_else(evil: Campaign) -> None:
    found = Elements(rendered(evil))
    policy = found.meta["Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(found.scripts[-1][1].encode()).digest()).decode()
    assert "script-src 'sha256-%s'" % digest in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert all(address.startswith("#") for address in found.addresses)


def test_the_details_of_each_run(evil: Campaign) -> None:
    first, second, third = details_of(rendered(evil))
    assert first["reason"] == EVIL and first["log"][0] == EVIL and first["log"][1] == "red \ufffd \ufffd"
    assert first["env"]["A"] == EVIL and first["provenance"]["repository_has_changes"]
    assert second["log"][0].endswith("... (2000 characters)") and "log_note" not in second
    assert third["reason"].startswith("no row yet") and "metrics" not in third


def test_every_planned_run_once(evil: Campaign) -> None:
    runs = data_of(rendered(evil))["runs"]
    assert [entries.STATUSES[status] for status in runs["status"]] == ["FAILURE", "SUCCESS", "PENDING"]
    assert runs["id"] == ["%016x" % number for number in (1, 2, 3)]


def test_a_result_that_cannot_be_read_is_a_failure_with_a_reason(evil: Campaign) -> None:
    with open(evil.result_path("%016x" % 2), "w", encoding="utf-8") as stream:
        stream.write("{")
    data = data_of(rendered(evil))
    assert entries.STATUSES[data["runs"]["status"][1]] == "FAILURE"
    assert "not valid JSON" in data["texts"][data["runs"]["reason"][1]]


def test_the_same_campaigns_give_the_same_page(evil: Campaign) -> None:
    assert rendered(evil) == rendered(evil)


def test_no_run_at_all(tmp_path: Any) -> None:
    data = data_of(rendered(make_campaign(tmp_path, [])))
    assert (data["runs"], data["series"], data["fleet"]["cells"]) == ({}, [], [])


def test_numbers_that_are_none(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1)])
    record = success(1)
    record["metrics"] = [
        dict(record["metrics"][0], value=None, text="14-18|32"),
        dict(record["metrics"][0], value=float("nan"), text="nan"),
    ]
    reports.save(campaign, record)
    data = data_of(rendered(campaign))
    assert data["runs"]["value"] == [None] and data["texts"][data["runs"]["text"][0]] == "14-18|32"
    assert data["series"] == []


def test_a_long_reason_says_that_it_goes_on(tmp_path: Any) -> None:
    """In the table; the run's page has all of it."""
    campaign = make_campaign(tmp_path, [make_run(1)])
    reports.save(campaign, {**crash(1), "reason": "x" * 300})
    text = rendered(campaign)
    data = data_of(text)
    shown = data["texts"][data["runs"]["reason"][0]]
    assert len(shown) == 200 and shown.endswith("x\u2026") and details_of(text)[0]["reason"] == "x" * 300


def test_logs_share_what_room_there_is(tmp_path: Any) -> None:
    campaign = reports.fleet(tmp_path, "big", hosts=2, failing=0.5, logs=2000)
    found = entries.read(campaign).entries
    limits = details.budgets(found * 1000)
    assert limits["FAILURE"] == 4 * limits["SUCCESS"] or limits["FAILURE"] // 4 == limits["SUCCESS"]
    assert sum(limits[entry.status] for entry in found) * 1000 <= 12 << 20
    kept = details.details(entries.read(campaign), found[0], 1000)
    assert sum(len(line) + 1 for line in kept["log"]) <= 1000 and re.match("the last [0-9]+ lines of", kept["log_note"])


def test_the_command_to_repeat_a_run(tmp_path: Any) -> None:
    runs = [make_run(1), make_run(2, place={"host": "n2"}, args=" --a 1 --size 4")]
    campaign = make_campaign(
        tmp_path, runs, command=["ansible-playbook", "mad.engine.run", "-e", "x=a b"], options={"tags": ["quick:size=4"], "repeats": 3}
    )
    reports.save(campaign, success(1))
    read = entries.read(campaign)
    assert details.repeat_command(read, read.entries[0]) == (
        "ansible-playbook mad.engine.run -e 'x=a b' --limit n1 -e mad_tags=dummy:size=4 -e mad_repeats=1"
    )


def test_each_of_two_runs_of_a_model_is_repeated_with_its_own_arguments(tmp_path: Any) -> None:
    cards = [{"name": "dummy", "args": " --a 1" + args} for args in (" --size 4", "", " --size 8 --fast")]
    runs = [make_run(number, card=card, args=card["args"]) for number, card in enumerate(cards, 1)]
    campaign = make_campaign(tmp_path, runs, options={"tags": ["all", "dummy:size=4", "dummy:size=8:fast"]})
    read = entries.read(campaign)
    assert [details.repeat_command(read, entry).rpartition("=dummy")[2] for entry in read.entries] == [":size=4", "", ":size=8:fast"]


def test_the_library_is_the_one_we_looked_at() -> None:
    with open(os.path.join(page.ASSETS, "uplot", "uPlot.iife.min.js"), "rb") as stream:
        assert hashlib.sha256(stream.read()).hexdigest() == UPLOT
