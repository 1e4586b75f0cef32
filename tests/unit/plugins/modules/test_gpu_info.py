# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module gpu_info: thin, never changed, its options reach the core."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.mad.engine.plugins.module_utils.facts import host_facts
from ansible_collections.mad.engine.plugins.modules import gpu_info


def call(capsys: pytest.CaptureFixture[str], **arguments: Any) -> Dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        gpu_info.main()
    result: Dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_options_reach_the_core(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[Any] = []
    monkeypatch.setattr(host_facts, "collect", lambda *arguments: seen.append(arguments) or {"hostname": "n1"})
    result = call(capsys, work_dir="/w", what="gpu,host", gpu_vendor="amd", rocm_path="/r", engine="auto", _ansible_check_mode=True)
    assert seen == [("/w", ["gpu", "host"], None, "amd", "/r", "auto")]
    assert result["changed"] is False and result["facts"] == {"hostname": "n1"}


def test_real_facts(capsys: pytest.CaptureFixture[str]) -> None:
    facts = call(capsys, what=["host"])["facts"]
    assert facts["cpu"]["count"] >= 1 and "gpu" not in facts


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, what=["disks"])
    assert result["failed"] and "disks" in result["msg"]


def test_every_returned_key_is_documented() -> None:
    documented = yaml.safe_load(gpu_info.RETURN)["facts"]["contains"]
    assert set(host_facts.collect()) == set(documented)
