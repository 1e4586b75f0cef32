# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page for cluster users does what it says, on a real cluster; the example inventory runs the demo; every option stands in the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_options
from ansible_collections.mad.engine.tests.integration.test_docs import ROOT, blocks, work_through
from ansible_collections.mad.engine.tests.support.play import play
from ansible_collections.mad.engine.tests.support.slurm import Cluster

PAGE = ROOT / "docs" / "slurm.md"


@pytest.fixture()
def home(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of the cluster whose home is empty."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_every_block_of_the_page_works(slurm: Cluster, home: Path) -> None:
    (home / "reader").mkdir()
    work_through(home / "reader", blocks("slurm"))
    slurm.wait_for_jobs()
    rows = (home / "reader" / "results" / "fleet" / "perf.csv").read_text().splitlines()
    assert len(rows) == 3 and all(",SUCCESS," in row for row in rows[1:]), rows


def test_the_example_inventory_runs_the_demo(slurm: Cluster, home: Path) -> None:
    variables = {"mad_repo": str(ROOT / "demo"), "mad_tags": "hash_sha256", "mad_campaign": "demo", "mad_results": str(home / "results")}
    played = play("mad.engine.run", home, inventory=ROOT / "inventories" / "slurm.example", variables=variables, env=slurm.env)
    assert played.status == 0, played.output
    (row,) = (home / "results" / "demo" / "perf.csv").read_text().splitlines()[1:]
    assert ",slurm," in row and ",SUCCESS," in row


def test_the_table_has_every_option_and_no_other() -> None:
    table = PAGE.read_text("utf-8").partition("\n## Options\n")[2].partition("\n## ")[0]
    named = [name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted([*slurm_options.Options._fields, *slurm_options.SPELLINGS])
