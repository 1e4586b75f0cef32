# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_time: what a template gets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.filter.slurm_time import FilterModule


@pytest.mark.parametrize("value,text", [(7200, "02:00:00"), ("1-12", "1-12:00:00"), ("90:00", "01:30:00"), ("infinite", "UNLIMITED")])
def test_forms(value: Any, text: str) -> None:
    assert FilterModule().filters()["slurm_time"](value) == text


def test_an_error_names_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match="slurm_time: expected seconds"):
        FilterModule().filters()["slurm_time"]("soon")
