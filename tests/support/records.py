# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs, outcomes, records and whole campaigns for tests of the results."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping

from ansible_collections.mad.engine.plugins.module_utils.base.merge import merge
from ansible_collections.mad.engine.plugins.module_utils.results import campaign as campaigns
from ansible_collections.mad.engine.plugins.module_utils.results import record as records

CAMPAIGN = "20261122T101500Z"
FACTS: Dict[str, Any] = {
    "hostname": "node-1",
    "kernel": "6.1.0",
    "gpu": {"vendor": "AMD", "count": 8, "architecture": "gfx942", "product": "MI300X", "driver": "6.8"},
    "firmware": {"bios": "1.4a", "microcode": "0xa10113e", "gpu": ""},
    "numa": ["0-31", "32-63"],
}
TIMES = {"queued": 1000.0, "staged": 1002.5, "started": 1010.0, "finished": 1070.25, "model_started": 1011.0, "model_finished": 1070.0}


def schema() -> Dict[str, Any]:
    folder = os.path.join(os.path.dirname(records.__file__), os.pardir, os.pardir, "plugin_utils")
    with open(os.path.join(folder, "result_schema.json"), encoding="utf-8") as stream:
        document: Dict[str, Any] = json.load(stream)
    return document


def run_id(number: int) -> str:
    return "%016x" % number


def make_run(number: int = 1, **changes: Any) -> Dict[str, Any]:
    """A planned run with an image and two GPUs."""
    run = {
        "schema": 1,
        "id": run_id(number),
        "campaign": CAMPAIGN,
        "order": number,
        "attempt": 1,
        "retries": 0,
        "model": "dummy",
        "card": {"name": "dummy", "tags": ["dummies", "quick"], "training_precision": "bf16", "n_gpus": "2"},
        "args": " --a 1",
        "repeat": 1,
        "place": {"target": "local", "host": "n1"},
        "runtime": "docker",
        "image": {
            **{"name": "ci-dummy_dummy.ubuntu.amd", "dockerfile": "docker/dummy.ubuntu.amd.Dockerfile", "base_docker": "rocm/pytorch"},
            **{"given": False, "digest": "sha256:" + "a" * 64, "registry_image": "", "docker_sha": "b" * 64, "build_duration": 3.5},
        },
        "launcher": {"name": "", "nnodes": 1, "nproc_per_node": 2},
        "env": {"MAD_MODEL_NAME": "dummy", "JENKINS_BUILD_NUMBER": "7"},
        "gpus": {"vendor": "AMD", "count": 2, "pool": [0, 1], "devices": {}},
        "cpus": "",
        "timeout": 7200,
        "multiple_results": "",
        "scan": {"enabled": True, "patterns": [], "benign": []},
        "skip_model_run": False,
        "outcome": None,
    }
    return merge(run, changes)


def make_outcome(**changes: Any) -> Dict[str, Any]:
    """What a host says of a run that ended well."""
    outcome: Dict[str, Any] = {
        **{"launched": True, "exit_code": 0, "signal": 0, "timed_out": False, "oom": False, "cancelled": False, "preempted": False},
        **{"error": None, "notes": [], "times": TIMES},
        "target": {"kind": "local", "runtime": "docker", "container": "mad-x", "container_id": "c0ffee", "parallel": 1, "neighbours": []},
        "gpus": {"indexes": [0, 1]},
        "files": {"artifacts": ["trace.json"]},
    }
    return {**outcome, **changes}


def make_metric(**changes: Any) -> Dict[str, Any]:
    metric = {"name": "samples_per_second", "value": 14164.0, "text": "14164", "unit": "samples_per_second", "better": "higher"}
    return {**metric, "row": "", "extra": {}, **changes}


def make_parsed(**changes: Any) -> Dict[str, Any]:
    parsed = {"metrics": [make_metric()], "errors": [], "excerpt": ["last line"], "bytes": 10, "lines": 1, "notes": [], "problem": None}
    return {**parsed, **changes}


def success(number: int = 1, **changes: Any) -> Dict[str, Any]:
    return records.make_record(make_run(number, **changes), make_outcome(), make_parsed(), FACTS)


def crash(number: int = 1, **changes: Any) -> Dict[str, Any]:
    return records.make_record(make_run(number, **changes), make_outcome(exit_code=3), make_parsed(metrics=[]), FACTS)


def make_campaign(results: Any, runs: List[Mapping[str, Any]], name: str = CAMPAIGN, **plan: Any) -> campaigns.Campaign:
    """A campaign folder with a plan; each run is made to belong to it."""
    campaign = campaigns.open_campaign(str(results), name)
    document = {
        **{"schema": 1, "campaign": name, "created": 1000.0, "version": "0.1.0", "command": ["ansible-playbook", "mad.engine.run"]},
        **{"repo": {"path": "/repo", "commit": "c" * 40, "dirty": False}, "options": {}, "hosts": {}, "builds": [], "warnings": []},
        "runs": [{**run, "campaign": name} for run in runs],
    }
    campaign.save_plan({**document, **plan})
    return campaign
