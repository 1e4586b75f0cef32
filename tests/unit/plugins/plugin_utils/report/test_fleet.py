# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heat map: each host against its own kind, failures where there is no number."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils.report import entries
from ansible_collections.mad.engine.plugins.plugin_utils.report.fleet import fleet
from ansible_collections.mad.engine.tests.support import reports
from ansible_collections.mad.engine.tests.support.records import crash, make_campaign, make_run, success


def test_the_slow_host_stands_out_in_every_metric(tmp_path: Any) -> None:
    found = fleet(entries.read(reports.fleet(tmp_path, "c", hosts=9, failing=0.0)).entries)
    slow = [cell for cell in found["cells"] if found["hosts"][cell[0]] == "node003"]
    assert len(slow) == len(reports.MODELS)
    for dummy, column, dummy, difference, runs, failed in slow:
        better = found["columns"][column][2]
        assert difference == pytest.approx(-0.06 if better == "higher" else 0.064, abs=0.02)
        assert (runs, failed) == (3, 0)
    others = [cell[3] for cell in found["cells"] if found["hosts"][cell[0]] != "node003"]
    assert max(map(abs, others)) < 0.03


def test_one_host_has_nothing_to_be_compared_with_and_a_failed_model_has_a_column(tmp_path: Any) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2, model="broken")])
    reports.save(campaign, success(1))
    reports.save(campaign, crash(2, model="broken"))
    found = fleet(entries.read(campaign).entries)
    assert [column[0] for column in found["columns"]] == ["dummy", "broken"]
    assert found["cells"] == [[0, 0, 14164.0, None, 1, 0], [0, 1, None, None, 0, 1]]
