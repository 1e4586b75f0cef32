# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: it shows every run, filters, is reached by keyboard, fits any screen, and executes nothing a model printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked, diagnosed, kept
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.browser import Browser
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_metric, make_run, success

pytestmark = pytest.mark.real

EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=1><svg onload=window.evil=1>{{7*7}}"
VIEWS = ("view=overview", "view=models", "view=fleet", "view=runs")


def report(results: Any, *names: str) -> Path:
    return Path(make(Options(str(results), names)).files["html"])


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight nights on a fleet; from the sixth on the first model is 4 % slower."""
    folder = tmp_path_factory.mktemp("nights")
    names = [reports.fleet(folder, "nightly-%d" % night, night=night, slow=0.96 if night >= 5 else 1.0).name for night in range(8)]
    return report(folder, *names)


@pytest.fixture
def clean(browser: Browser) -> Any:
    """The browser, which after the test has neither complained nor asked the network for anything."""
    browser.size(1280)
    browser.errors.clear()
    browser.requests.clear()
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []


def test_every_view_shows_something(clean: Browser, nights: Path) -> None:
    clean.open(nights)
    assert "864\nruns" in clean.text("main") and "Failures by class" in clean.text("main")
    clean.go("view=models")
    assert "llm/llama-3.1-8b" in clean.text("main")
    assert "−4" in clean.text(".change.worse") and "since nightly-5, worse" in clean.text(".change.worse")
    assert clean.run("document.querySelectorAll('.plot canvas').length") >= 3
    clean.go("view=fleet")
    assert clean.text(".heat tbody th") == "node003"
    clean.go("view=runs")
    assert clean.run("document.querySelectorAll('.runs tbody tr').length") == 100
    assert "Page 1 of 9, 864 runs" in clean.text(".pager")


def test_filters_hold_everywhere_and_stand_in_the_address(clean: Browser, nights: Path) -> None:
    clean.open(nights, "view=runs&host=node002&model=bert-large&campaign=nightly-3")
    assert clean.text("#tally") == "3 of 864 runs"
    assert clean.run("[...document.querySelectorAll('.runs tbody tr')].every(row => row.innerText.includes('node002'))")
    clean.run("(() => { const box = document.getElementById('f-host'); box.value = 'node001'; box.dispatchEvent(new Event('change')); })()")
    assert "host=node001" in clean.run("location.hash")
    assert clean.run("document.activeElement.tagName") != "IFRAME"
    clean.go("view=overview&host=node001&campaign=nightly-3")
    assert "18\nruns" in clean.text("main")
    clean.go("view=runs&q=oom%20node003")
    rows = clean.run("[...document.querySelectorAll('.runs tbody tr')].map(row => row.innerText)")
    assert rows and all("oom" in row and "node003" in row for row in rows)


def test_sorting_and_paging(clean: Browser, nights: Path) -> None:
    clean.open(nights, "view=runs&sort=-seconds")
    assert clean.run("document.querySelector('th[aria-sort=descending]').innerText").startswith("Time")
    clean.go("view=runs&sort=model&page=9")
    assert clean.run("document.querySelectorAll('.runs tbody tr').length") == 64


def test_the_page_of_a_run(clean: Browser, nights: Path) -> None:
    clean.open(nights, "view=runs&status=FAILURE&campaign=nightly-0")
    clean.run("document.querySelector('.runs tbody a').click()")
    clean.settle()
    text = clean.text("main")
    for words in ("Why", "Provenance", "RuntimeError: ", "MAD_MODEL_NAME", "HF_TOKEN", "secret, not kept", "6.8.0-45-generic", "sha256:"):
        assert words in text
    assert "ansible-playbook -i inventory.yml mad.engine.run -e mad_repo=/srv/MAD -e mad_tags=" in text and "--limit node00" in text
    clean.run("history.back()")
    clean.settle()
    assert "run=" not in clean.run("location.hash")


@pytest.fixture
def evil(tmp_path: Path) -> Campaign:
    runs = [
        make_run(1, model=EVIL, card={"name": EVIL, "tags": [EVIL]}, place={"host": EVIL}, env={"A": EVIL}, args=EVIL),
        make_run(2, model="plain"),
    ]
    campaign = make_campaign(
        tmp_path, runs, repo={"path": EVIL, "commit": EVIL, "dirty": True}, command=["ansible-playbook", EVIL], warnings=[EVIL]
    )
    record = crash(1, model=EVIL, card={"name": EVIL, "tags": [EVIL]}, place={"host": EVIL})
    record.update(
        reason=EVIL,
        notes=[EVIL],
        errors=[{"pattern": EVIL, "line": EVIL, "number": 1}],
        metrics=[make_metric(unit=EVIL, text="1", value=1.0, extra={EVIL: EVIL})],
    )
    reports.save(campaign, record, log=[EVIL] * 3)
    good = success(2, model="plain")
    good["metrics"] = [make_metric(unit=EVIL, row=EVIL)]
    reports.save(campaign, good, log=[EVIL])
    return campaign


def test_nothing_a_model_printed_is_executed(clean: Browser, evil: Campaign) -> None:
    path = report(evil.results_dir, evil.name)
    for fragment in (
        "",
        *VIEWS,
        "view=runs&run=%016x" % 1,
        "view=runs&run=%016x" % 2,
        "host=<script>window.evil=1</script>",
        "q=%3Cimg%20src%3Dx%20onerror%3D%22window.evil%3D1%22%3E",
    ):
        clean.open(path, fragment)
        assert clean.run("typeof window.evil") == "undefined"
        assert clean.run("document.querySelectorAll('img, iframe, object, main script').length") == 0
    clean.open(path, "view=runs&run=%016x" % 1)
    assert EVIL in clean.text(".log")


def test_the_policy_stops_what_gets_in_all_the_same(browser: Browser, evil: Campaign) -> None:
    browser.open(report(evil.results_dir, evil.name))
    browser.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.evil = 1'}))")
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.com/x.png\" onerror=\"window.evil = 1\">')")
    browser.settle()
    assert browser.run("typeof window.evil") == "undefined"
    assert any("Content Security Policy" in error for error in browser.errors)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 1280, 3840])
def test_it_fits_any_screen(clean: Browser, nights: Path, width: int, dark: bool) -> None:
    clean.size(width, 1000, dark)
    clean.open(nights)
    failed = clean.run("RUNS.status.indexOf(0)")
    for fragment in (*VIEWS, "view=runs&run=nightly-0/%s" % clean.run("RUNS.id[%d]" % failed)):
        clean.go(fragment)
        assert clean.run("document.documentElement.scrollWidth") <= width
        assert clean.run("getComputedStyle(document.body).backgroundColor") == ("rgb(16, 19, 23)" if dark else "rgb(246, 247, 248)")
    sizes = clean.run(
        "[...document.querySelectorAll('main *')].filter(e => e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= (11 if width < 3840 else 14)


def test_a_person_may_choose_dark_or_light(clean: Browser, nights: Path) -> None:
    clean.open(nights)
    seen = []
    for _press in range(3):
        clean.run("document.getElementById('theme').click()")
        seen.append((clean.text("#theme"), clean.run("getComputedStyle(document.body).backgroundColor")))
    assert {text for text, dummy in seen} == {"Theme: Auto", "Theme: Light", "Theme: Dark"}
    assert len({colour for dummy, colour in seen}) == 2


# -- what was judged -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights on nine hosts, compared and diagnosed; the first model is 7 % slower in the second, and so is one host."""
    folder = tmp_path_factory.mktemp("judged")
    for night, slow in enumerate((1.0, 0.93)):
        reports.fleet(folder, "night-%d" % night, night=night, slow=slow, hosts=9, failing=0.0, logs=0)
    asked.compare({"results": str(folder), "baseline": "night-0", "candidate": "night-1"}, write=True)
    answer = diagnosed.diagnose({"results": str(folder), "candidate": "night-1"})
    kept.keep_diagnosis(answer.folders, {**kept.diagnosis(answer), "warnings": [EVIL]}, True)
    return report(folder, "night-1")


@pytest.mark.parametrize("width", [320, 1280])
def test_the_verdicts_are_shown(clean: Browser, judged: Path, width: int) -> None:
    clean.size(width, 900, width == 1280)
    clean.open(judged)
    text = clean.text("main")
    assert "Against night-0" in text and "2 regressed" in text and "10 same" in text
    assert clean.text(".verdicts tbody tr").split("\n")[0].strip().startswith("✕ regressed")
    assert "Hosts of night-1" in text and "✕ slow" in text and EVIL in text
    assert clean.run("typeof window.evil") == "undefined"
    assert clean.run("document.documentElement.scrollWidth") <= width
    clean.go("model=bert-large")
    assert "10 lines hidden by the filters." in clean.text("main")
    clean.go("view=fleet")
    assert "slow" in clean.text(".heat tbody th")
    clean.go("view=models")
    verdicts = clean.run("[...document.querySelectorAll('.card ul.judged li')].map(item => item.innerText)")
    assert len(verdicts) == 12 and sum("regressed" in one for one in verdicts) == 2, "one for each chart, there where its numbers are"
    assert all("interval" in one and "against night-0" in one for one in verdicts)
    assert clean.run("document.documentElement.scrollWidth") <= width


# -- odd campaigns ---------------------------------------------------------------------------------------------------------------------


def test_a_campaign_without_runs(clean: Browser, tmp_path: Path) -> None:
    path = report(tmp_path, make_campaign(tmp_path, []).name)
    for fragment in VIEWS:
        clean.open(path, fragment)
        assert clean.text("main")


def test_one_run_without_a_row_yet(clean: Browser, tmp_path: Path) -> None:
    path = report(tmp_path, make_campaign(tmp_path, [make_run(1)]).name)
    clean.open(path, "view=runs&run=%016x" % 1)
    assert "pending" in clean.text("main") and "no row yet" in clean.text("main")


def test_a_run_of_several_results(clean: Browser, tmp_path: Path) -> None:
    """Its first number is not taken for its only one; a campaign without failures shows none in red."""
    campaign = make_campaign(tmp_path, [make_run(1, model="table")])
    good = success(1, model="table")
    good["metrics"] = [make_metric(row="a"), make_metric(row="b"), make_metric(row="c")]
    reports.save(campaign, good)
    clean.open(report(tmp_path, campaign.name))
    assert "samples_per_second and 2 more" in clean.text(".models tbody")
    assert clean.run("document.querySelectorAll('.tile.success').length") == 1
    assert clean.run("document.querySelectorAll('.tile.failure').length") == 0


def test_unicode_and_very_long_names(clean: Browser, tmp_path: Path) -> None:
    names = ["模型/変換器-ß-🚀-" + "長" * 60, "x" * 300, "a-very/long_name." * 15]
    runs = [make_run(number, model=name, place={"host": name}) for number, name in enumerate(names, 1)]
    campaign = make_campaign(tmp_path, runs)
    for run in runs:
        reports.save(campaign, success(run["order"], model=run["model"], place={"host": run["model"]}), log=["日志 " + run["model"] * 20])
    path = report(tmp_path, campaign.name)
    clean.size(320)
    for fragment in (*VIEWS, "view=runs&run=%016x" % 1):
        clean.open(path, fragment)
        assert clean.run("document.documentElement.scrollWidth") <= 320
        assert names[0] in clean.text("main").replace("\u200b", "")


def test_thousands_of_failures_of_one_class(clean: Browser, tmp_path: Path) -> None:
    runs = [make_run(number, place={"host": "n%03d" % (number % 120)}) for number in range(1, 2401)]
    campaign = make_campaign(tmp_path, runs)
    for number, run in enumerate(runs, 1):
        reports.save(campaign, {**crash(number, place=run["place"]), "reason": "exit code 3 after %d steps" % number})
    clean.open(report(tmp_path, campaign.name))
    assert clean.run("document.querySelectorAll('.reasons li').length") == 1
    assert "2,400 runs on 120 hosts" in clean.text(".reasons")
    clean.go("view=fleet")
    assert clean.run("document.querySelectorAll('.heat tbody tr').length") == 100
