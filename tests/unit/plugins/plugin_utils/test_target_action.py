# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of the steps on targets: what goes wrong on the controller is not blamed on the host."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.plugin_utils.target_action import TargetAction


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
