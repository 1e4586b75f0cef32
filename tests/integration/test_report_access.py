# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report for people who see little, use no mouse, or listen: as the browser's own accessibility tree and its computed colours tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.browser import Browser

pytestmark = pytest.mark.real

VIEWS = ("view=overview", "view=models", "view=fleet", "view=runs")
NAMED = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "table",
    "region",
    "navigation",
    "search",
    "image",
    "DisclosureTriangle",
    "figure",
}

# Contrast of every visible text with the colour it really stands on; the list of those below 4.5 (3 for large text).
CONTRAST = """
(() => {
  const parse = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const linear = (c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a] = parse(getComputedStyle(e).backgroundColor);
      if (a === undefined || a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const bad = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
    const text = node.textContent.trim();
    if (!text || !box.width || !box.height || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
    const back = ground(element), share = Number(style.opacity), ink = parse(style.color).slice(0, 3).map((c, i) => c * share + back[i] * (1 - share));
    const a = light(ink), b = light(back), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio >= (large ? 3 : 4.5)) continue;
    bad.push(element.tagName + "." + element.className + " " + ratio.toFixed(2) + " " + text.slice(0, 40));
  }
  return [...new Set(bad)];
})()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    names = [
        reports.fleet(folder, "nightly-%d" % night, night=night, slow=0.96 if night >= 3 else 1.0, hosts=3, failing=0.1).name
        for night in range(6)
    ]
    return Path(make(Options(str(folder), names)).files["html"])


def everywhere(browser: Browser, page: Path) -> list[str]:
    """The fragments of all views, and of a failed run."""
    browser.open(page)
    return [*VIEWS, "view=runs&run=" + str(browser.run("keyOf(RUNS.status.indexOf(0))"))]


def tree(browser: Browser) -> list[dict[str, Any]]:
    """What a screen reader is told."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    return [
        {
            "role": node["role"]["value"],
            "name": (node.get("name") or {}).get("value", ""),
            **{p["name"]: p["value"].get("value") for p in node.get("properties", [])},
        }
        for node in nodes
        if not node.get("ignored") and "role" in node
    ]


def test_everything_has_a_role_and_a_name(browser: Browser, page: Path) -> None:
    browser.size(1280)
    for fragment in everywhere(browser, page):
        browser.open(page, fragment)
        found = tree(browser)
        roles = [node["role"] for node in found]
        assert {"main", "banner", "navigation", "contentinfo"} <= set(roles), fragment
        assert [node for node in found if node["role"] in NAMED and not node["name"].strip()] == [], fragment
        assert [
            node
            for node in found
            if node.get("focusable") and not node["name"].strip() and node["role"] not in ("main", "RootWebArea", "generic")
        ] == [], fragment
        levels = [node["level"] for node in found if node["role"] == "heading"]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False)), (fragment, levels)
        if "table" in roles:
            assert "columnheader" in roles


def test_tables_have_headers_and_captions(browser: Browser, page: Path) -> None:
    for fragment in everywhere(browser, page):
        browser.open(page, fragment)
        assert browser.run(
            "[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent && t.querySelectorAll('th[scope]').length)"
        ), fragment


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_on_its_ground(browser: Browser, page: Path, dark: bool) -> None:
    browser.size(1280, dark=dark)
    for fragment in everywhere(browser, page):
        browser.open(page, fragment)
        browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert browser.run(CONTRAST) == [], fragment


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, page: Path) -> None:
    browser.size(1280)
    browser.open(page)
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the content"
    assert browser.run("document.activeElement.getBoundingClientRect().top") >= 0
    browser.press("Enter")
    browser.settle()
    seen = set()
    browser.open(page, "view=runs")
    for _step in range(30):
        browser.press("Tab")
        seen.add(browser.run("document.activeElement.id || document.activeElement.getAttribute('href') || document.activeElement.tagName"))
        style = browser.run("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none"
    assert {"theme", "f-q", "f-host", "f-status"} <= seen
    assert any("view=fleet" in place for place in seen) and any("sort=" in place for place in seen)


def test_a_filter_keeps_the_focus_and_a_step_moves_it(browser: Browser, page: Path) -> None:
    browser.open(page, "view=runs")
    browser.run(
        "(() => { const box = document.getElementById('f-status'); box.focus(); box.value = 'FAILURE'; box.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run("document.activeElement.id") == "f-status"
    assert " of 324 runs" in browser.text("#live")
    browser.run("document.querySelector('.runs tbody a').click()")
    browser.settle()
    assert browser.run("document.activeElement.id") == "content"
    assert " on node00" in browser.text("#live")


def test_charts_are_read_with_the_arrow_keys(browser: Browser, page: Path) -> None:
    browser.size(1280)
    browser.open(page, "view=models&model=llm/llama-3.1-8b")
    browser.run("document.querySelector('.frame').focus()")
    browser.press("End")
    assert browser.text("#live").startswith("nightly-5: ") and "95 % interval" in browser.text("#live")
    browser.press("ArrowLeft")
    assert browser.text("#live").startswith("nightly-4: ")
    assert "nightly-4" in browser.text(".tip")
    browser.run("document.querySelector('.data').open = true")
    browser.settle()
    assert len(browser.run("[...document.querySelectorAll('.data tbody tr')].map(r => r.innerText)")) == 6
