# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Markdown, tables and mails: hostile text stays text, and nothing is left out without a word."""

from __future__ import annotations

import html
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.report import entries, markdown, tables
from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success


@given(st.text())
def test_markdown_text_is_only_text(raw: str) -> None:
    found = markdown.text(raw)
    bare = html.unescape(found)
    assert not set("|<>`*[]@\n") & set(found.replace("&#", ""))
    assert bare == html.unescape(html.escape(bare)) and "\n" not in bare


def test_a_campaign_as_a_comment(tmp_path: Any) -> None:
    found = markdown.render([entries.read(reports.fleet(tmp_path, "nightly-1", hosts=3, models=2, failing=0.2))])
    assert found.startswith("### mad.engine: nightly&#45;1\n\n18 runs: ")
    assert "| llm/llama&#45;3.1&#45;8b | %s | " % markdown.text(reports.hardware(0, 3)) in found
    assert "<details><summary>Not successful: " in found
    assert "- **oom**: killed for memory &#40;out of memory&#41; (" in found


def test_a_comment_is_never_too_long(tmp_path: Any) -> None:
    runs = [make_run(number, model="m%d" % number + "y" * 250) for number in range(1, 400)]
    campaign = make_campaign(tmp_path, runs)
    for number, run in enumerate(runs, 1):
        reports.save(campaign, (success if number % 2 else crash)(number, model=run["model"]))
    found = markdown.render([entries.read(campaign)])
    assert len(found) <= 65536
    assert "more" in found


def test_a_table_of_a_csv_file(tmp_path: Any) -> None:
    path = tmp_path / "perf.csv"
    path.write_text("model,status,args\n<b>x</b>,SUCCESS,'=1+1\nshort\n", encoding="utf-8")
    answer = make(Options(str(tmp_path), formats=["csv-html"], source=str(path)))
    text = (tmp_path / "perf.html").read_text(encoding="utf-8")
    assert answer.files == {"csv-html": str(tmp_path / "perf.html")}
    assert "&lt;b&gt;x" in text and "<b>" not in text and text.count("<table") == 1 and ">=1+1<" in text
    assert text.count("<tr>") == 3
    assert make(Options(str(tmp_path), formats=["csv-html"], source=str(path))).changed == []


def test_a_mail_of_all_csv_files(tmp_path: Any) -> None:
    for name in ("perf_entry", "perf"):
        (tmp_path / (name + ".csv")).write_text("model,status\nx,FAILURE\n", encoding="utf-8")
    make(Options(str(tmp_path), formats=["email"], source=str(tmp_path)))
    text = (tmp_path / "run_results.html").read_text(encoding="utf-8")
    assert text.index("<h2>perf</h2>") < text.index("<h2>perf_entry</h2>")
    assert "color:#a82219" in text


def test_a_folder_without_csv_files_is_an_empty_mail_and_a_warning(tmp_path: Any) -> None:
    answer = make(Options(str(tmp_path), formats=["email"], source=str(tmp_path)))
    assert answer.changed and "no CSV file" in answer.warnings[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"formats": ["pdf"]}, "mad_report_format 'pdf'"),
        ({"formats": ["html", "email"], "output": "x"}, "names one file"),
        ({"source": "x.csv"}, "is for the formats"),
        ({"formats": ["csv-html"], "source": "x.txt"}, "not a .csv file"),
        ({"formats": ["csv-html"], "source": "/nowhere/x.csv"}, "cannot be read: No such file"),
        ({"formats": ["email"], "source": "/nowhere"}, "cannot be read: No such file"),
        ({}, "there is no campaign in"),
        ({"campaigns": ["c1"]}, "no campaign 'c1'"),
        ({"campaigns": ["../x"]}, "cannot be a campaign's name"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Any, options: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make(Options(str(tmp_path), **options))


def test_a_csv_file_that_is_none(tmp_path: Any) -> None:
    (tmp_path / "x.csv").write_bytes(b"")
    with pytest.raises(InvalidInput, match="not even a header"):
        tables.read_csv(str(tmp_path / "x.csv"))


def test_the_newest_campaign_and_check_mode(tmp_path: Any) -> None:
    reports.fleet(tmp_path, "old", hosts=1, models=1)
    newest = reports.fleet(tmp_path, "new", hosts=1, models=1)
    answer = make(Options(str(tmp_path), campaigns=["last"], write=False))
    assert answer.files == {"html": newest.report_path} and answer.changed == [newest.report_path]
    assert make(Options(str(tmp_path))).changed == [newest.report_path]
    assert make(Options(str(tmp_path))).changed == []
