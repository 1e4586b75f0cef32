# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_time: the forms of a time limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_time


@pytest.mark.parametrize(
    "value,seconds",
    [
        (7200, 7200),
        ("7200", 7200),
        ("90:30", 5430),
        ("01:30:00", 5400),
        ("24:00:00", 86400),
        ("2-12", 216000),
        ("2-12:30", 217800),
        ("2-12:30:15", 217815),
        ("UNLIMITED", 0),
        ("infinite", 0),
        (" 1:00:00 ", 3600),
        (0, 0),
    ],
)
def test_forms(value: Any, seconds: int) -> None:
    assert slurm_time.parse(value) == seconds


@pytest.mark.parametrize("value", ["", "1:2:3:4", "1h", "-5", -5, True, None, 1.5, "2-", "1:00:00; id", [60], "10000000000"])
def test_anything_else_names_the_key_and_the_forms(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"slurm\.time: expected seconds .* UNLIMITED"):
        slurm_time.parse(value)


@given(st.integers(1, 10**8))
def test_what_is_shown_means_the_same(seconds: int) -> None:
    assert slurm_time.parse(slurm_time.show(seconds)) == seconds


def test_the_limit_of_a_job() -> None:
    assert slurm_time.limit(None, 7200, 900) == 8100
    assert slurm_time.limit(60, 7200, 900) == 60
    assert slurm_time.limit(None, 0, 900) == slurm_time.UNLIMITED == slurm_time.limit(0, 7200, 900)
    assert slurm_time.show(0) == "UNLIMITED"
