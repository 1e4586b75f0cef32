# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation does what it says: every command of a page is run, in order, in one folder, as a reader would."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["author", "operator"]


def blocks(page):
    """(language, text) of every fenced block of a page."""
    return BLOCK.findall((ROOT / "docs" / (page + ".md")).read_text(encoding="utf-8"))


def write_file(folder, text):
    """Write a block whose first line names its file."""
    first, rest = text.split("\n", 1)
    path = folder / first.split(":", 1)[1].strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rest, encoding="utf-8")


def run_block(folder, text):
    """Run a block with sh, as typed."""
    result = subprocess.run(
        ["sh", "-eu", "-c", text], cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ, LC_ALL="C.UTF-8")
    )
    assert result.returncode == 0, "%s\n%s\n%s" % (text, result.stdout[-4000:], result.stderr[-4000:])
    return result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_works(page, tmp_path):
    commands = 0
    for language, text in blocks(page):
        if text.startswith("# file:"):
            write_file(tmp_path, text)
        elif language == "sh":
            run_block(tmp_path, text)
            commands += 1
    assert commands > 0
