# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation does what it says: every command of a page is run, in order, in one folder, as a reader would."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.mongo import Mongo
from ansible_collections.mad.engine.tests.support.registry import Registry

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ["author", "operator", "report", "compare", "fleet"]


def blocks(page, names=()):
    """(language, text) of every fenced block of a page; `names` are (what stands there, what this machine has instead)."""
    found = (ROOT / "docs" / (page + ".md")).read_text(encoding="utf-8")
    for theirs, ours in names:
        assert theirs in found
        found = found.replace(theirs, ours)
    return BLOCK.findall(found)


def write_file(folder, text):
    """Write a block whose first line names its file."""
    first, rest = text.split("\n", 1)
    path = folder / first.split(":", 1)[1].strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rest, encoding="utf-8")


def run_block(folder, text):
    """Run a block with sh, as typed."""
    result = subprocess.run(
        ["sh", "-eu", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=dict(os.environ, LC_ALL="C.UTF-8"),
    )
    assert result.returncode == 0, "%s\n%s\n%s" % (text, result.stdout[-4000:], result.stderr[-4000:])
    return result.stdout


def work_through(folder, found):
    """Write files and run commands in the order of the page."""
    commands = 0
    for language, text in found:
        if text.startswith("# file:"):
            write_file(folder, text)
        elif language == "sh":
            run_block(folder, text)
            commands += 1
    assert commands > 0


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_works(page, tmp_path):
    work_through(tmp_path, blocks(page))


@pytest.mark.real
def test_every_example_of_the_history(tmp_path, postgres):
    """With a PostgreSQL server of this machine and a stand-in for MongoDB in place of the page's."""
    with Mongo() as mongo:
        names = [("postgresql://mad:secret@localhost:5432/mad", postgres.url("docs")), ("MONGO_PORT=27017", "MONGO_PORT=%d" % mongo.port)]
        work_through(tmp_path, blocks("history", [*names, ("MONGO_HOST=localhost", "MONGO_HOST=127.0.0.1")]))
    assert len(mongo.collections["benchmarks.perf"]) == 2


@pytest.mark.real
def test_every_example_of_the_guide_works(tmp_path, tiny_image):
    """With a base image and a registry of this machine in place of the guide's."""
    components.require("registry")
    registry = Registry(tmp_path / "registry", login=False).start()
    kept = "debug-" + os.urandom(4).hex()  # what is kept alive keeps its folder on the host: another name for each time
    names = [("ubuntu:24.04", tiny_image), ("localhost:5000", registry.address), ("campaign=debug", "campaign=" + kept)]
    try:
        work_through(tmp_path, blocks("madengine", names))
    finally:
        registry.stop()
        for folder in pathlib.Path(work_folder.default_work_dir(), "campaigns").glob(kept + ".*"):
            shutil.rmtree(folder)
