# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may give the modules of the targets: an action plugin and its module check the same."""

from __future__ import annotations

from typing import Any, Dict, Mapping

Job = Mapping[str, Any]  # what a module hands to the step of a state: docs/contracts.md
Answer = Dict[str, Any]  # what the step returns

# Seconds that a cancelled run is waited for: longer than a job that Slurm has forgotten is believed to be somewhere (slurm_watch.FORGOTTEN).
CANCEL_SECONDS = 180
# Of every target.
COMMON: Dict[str, Any] = {
    "campaign_dir": {"type": "path"},
    "state": {"type": "str", "required": True, "choices": ["staged", "started", "polled", "collected", "cancelled", "absent"]},
    "work_dir": {"type": "str", "default": ""},
    "stop": {"type": "str", "default": ""},
    "live": {"type": "bool", "default": False},
    "wait": {"type": "int", "default": CANCEL_SECONDS},
    "keep_days": {"type": "float"},
    "credential_file": {"type": "str", "default": ""},
    "stage_parallel": {"type": "int", "default": 0},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
}
# Of the targets whose hosts can wait for their runs.
PATIENCE: Dict[str, Any] = {"type": "float", "default": 0}
# Of `container_run`.
ARGUMENTS: Dict[str, Any] = dict(
    COMMON,
    patience=PATIENCE,
    stage={"type": "bool", "default": False},
    host_lock={"type": "str", "default": "/var/tmp/mad-host.lock"},
    host_parallel={"type": "int", "default": 1},
    min_free_bytes={"type": "int", "default": 268435456},
    boot_id_file={"type": "str", "default": ""},
)
