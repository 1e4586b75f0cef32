# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stop makes of attempts that were not given to Slurm yet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_steps
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_folder import CampaignFolder
from ansible_collections.mad.engine.tests.support.records import crash, make_run, run_id


def test_a_retry_that_a_stop_forbids_leaves_the_failure_before_it(tmp_path: Path) -> None:
    folder = CampaignFolder(str(tmp_path / "work" / "campaigns" / work_folder.folder_name("c1", "login")))
    folder.make("c1", "login")
    for number in (1, 2):
        folder.save_run(make_run(number, retries=1))
    lost = dict(crash(1), failure_class="infra", reason="the node failed", target={"kind": "slurm", "job": "7"})
    folder.attempt(run_id(1), 1).claim()
    folder.attempt(run_id(1), 1).save_result(lost)
    assert folder.standing(folder.run(run_id(1)))[:2] == ("pending", 2)
    folder.say("stop", "stopped: enough failed")
    follower: Any = SimpleNamespace(submissions=SimpleNamespace(entries=list), changed=False)
    slurm_steps._skip_pending(folder, {"runs": {run_id(1): 1, run_id(2): 1}}, follower)
    first, second = (folder.standing(folder.run(run_id(number))) for number in (1, 2))
    assert first.record and second.record and follower.changed
    assert (first.state, first.attempt, first.record["failure_class"]) == ("done", 1, "infra")
    assert (second.state, second.record["status"], second.record["reason"]) == ("done", "SKIPPED", "stopped: enough failed")
