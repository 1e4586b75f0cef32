# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From attempts that wait for a job to submissions with their scripts: the controller's step between two calls of `slurm_run`."""

from __future__ import annotations

import typing as t

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_jobs
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options

from . import slurm_scripts

Run = t.Mapping[str, t.Any]


def make(answer: t.Mapping[str, t.Any], runs: t.Mapping[str, Run], options: Options, campaign: str) -> list[dict[str, t.Any]]:
    """[{"manifest", "script"}] for the `waiting` attempts of an answer; `runs` are the resolved runs by id.

    Attempts that avoid the same nodes share arrays.
    """
    alike: dict[str, list[Run]] = {}
    for entry in answer["waiting"]:
        if entry["run"] in runs:
            alike.setdefault(",".join(entry["exclude"]), []).append(dict(runs[entry["run"]], attempt=int(entry["attempt"])))
    made = []
    for avoided, members in alike.items():
        own = options._replace(exclude=",".join(part for part in (options.exclude, avoided) if part))
        for submission in slurm_jobs.group(members, own, campaign, answer["place"], int(answer["max_array"])):
            known = {str(run["id"]): run for run in members}
            script = slurm_scripts.render(submission, known, own, answer["folder"], campaign)
            made.append({"manifest": submission.manifest(), "script": script})
    return made
