# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of the steps on targets: what goes wrong on the controller is not blamed on the host."""

from __future__ import annotations

import re
import resource
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.host import host_steps
from ansible_collections.mad.engine.plugins.plugin_utils.target_action import TargetAction
from ansible_collections.mad.engine.tests.support.records import make_campaign, make_run, run_id, success


class Writing(TargetAction):
    """A step that writes a large file into the campaign."""

    ARGUMENTS = {"campaign_dir": {"type": "path"}}

    def _of_campaign(self, campaign: Any) -> dict[str, Any]:
        files.write_atomic(campaign.path("large.json"), b"x" * (1 << 20))
        return {"changed": True}


def test_a_results_folder_that_takes_no_more_is_the_controllers(tmp_path: Path) -> None:
    """The file is named and nothing of it is left; a limit on the size of files stands for a full disk, whose error names no file either."""
    task = MagicMock(args={"campaign_dir": str(tmp_path)}, check_mode=False, async_val=0)
    step = Writing(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(AnsibleActionFail) as caught:
            step.run(task_vars={"inventory_hostname": "n1"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = re.escape(str(tmp_path / "large.json")) + ": File too large"
    assert re.search("^on the controller, not on the host: " + said, str(caught.value))
    assert list(tmp_path.iterdir()) == []


class Polling(TargetAction):
    """A host that answers one record, and has another one that does not fit into an answer and cannot be fetched."""

    TARGET = "local"
    ARGUMENTS = {
        "campaign_dir": {"type": "path"},
        "state": {"type": "str"},
        "live": {"type": "bool"},
        "stop": {"type": "str", "default": ""},
    }

    def _on_host(self, runs: Any, **job: Any) -> dict[str, Any]:
        if job.get("collect"):
            raise AnsibleError("failed to transfer file")
        large = [{"run": run_id(2), "attempt": 1, "path": "/x", "bytes": 1 << 30}]
        return dict(host_steps.nothing(), changed=True, results=[success(1)], large=large)


def test_a_record_that_cannot_be_fetched_keeps_none_of_the_others_away(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, [make_run(1), make_run(2)])
    task = MagicMock(args={"campaign_dir": campaign.folder, "state": "polled"}, check_mode=False, async_val=0)
    step = Polling(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    with pytest.raises(AnsibleError, match="failed to transfer file"):
        step.run(task_vars={"inventory_hostname": "n1"})
    assert list(campaign.results()[0]) == [run_id(1)]


@pytest.mark.parametrize("state", ["staged", "started", "polled", "cancelled", "collected"])
@pytest.mark.parametrize("name", ["container_run", "slurm_run", "k8s_job"])
def test_a_state_returns_what_its_module_documents_though_nothing_is_left_to_do(tmp_path: Path, name: str, state: str) -> None:
    campaign = make_campaign(tmp_path, [])
    task = MagicMock(args={"campaign_dir": campaign.folder, "state": state}, check_mode=False, async_val=0)
    action = import_module("ansible_collections.mad.engine.plugins.action." + name).ActionModule
    answer = action(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={"inventory_hostname": "n1"})
    document = yaml.safe_load(import_module("ansible_collections.mad.engine.plugins.modules." + name).RETURN)
    returned = {key: entry["returned"] for key, entry in document.items() if not entry["returned"].startswith(("while", "without"))}
    assert set(answer) - {"changed"} == {key for key, when in returned.items() if state in when or "state" not in when}
