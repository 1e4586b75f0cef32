# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Job scripts out of the role's templates; on the controller, where Jinja is."""

from __future__ import annotations

import os
import typing as t

import jinja2

from ansible_collections.mad.engine.plugins.module_utils.base import quoting
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_attempt, slurm_launch
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options, directives

_HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "roles", "slurm", "templates")


def environment() -> jinja2.Environment:
    """Jinja as the templates expect it: a value that is absent is an error, `quote` is the core's own."""
    made = jinja2.Environment(  # noqa: S701  the output is shell text; every value goes through quote
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters["quote"] = quoting.quote
    return made


def render(submission: Submission, runs: t.Mapping[str, t.Mapping[str, t.Any]], options: Options, folder: str, campaign: str) -> str:
    """The script of one submission. `runs` are its resolved runs by id, `folder` the campaign's folder on the cluster."""
    first = runs[submission.tasks[0].run_id]
    title = "%d runs" % len(submission.tasks) if submission.array else "run %s" % first["id"]
    values = {
        "title": title,
        "campaign": campaign,
        "name": submission.name,
        "folder": folder,
        "log": "slurm-%A_%a.log" if submission.array else "slurm-%j.log",
        "indexes": submission.indexes(),
        "directives": directives(options, submission.shape),
        "nodes": submission.shape.nodes,
        "parts": slurm_attempt.parts_of(first),
        "tasks": submission.tasks,
        "modules": options.modules,
        "interface": options.network_interface,
        "launch": "" if submission.array else slurm_launch.of_run(first),
    }
    name = "job_array.sh.j2" if submission.array else "job.sh.j2"
    return environment().get_template(name).render(**values)
