# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_jobs: every run is in exactly one task, limits hold, names are content."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_jobs
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission, Task, group, may_submit
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options, Shape


def run(number: int, nodes: int = 1, gpus: int = 1, timeout: int = 600, **more: Any) -> Dict[str, Any]:
    known = {
        "id": "%016x" % number,
        "order": number,
        "attempt": 1,
        "launcher": {"nnodes": nodes},
        "gpus": {"count": gpus},
        "timeout": timeout,
    }
    return dict(known, **more)


def submissions(runs: List[Dict[str, Any]], max_array: int = 1001, **options: Any) -> List[Submission]:
    return group(runs, Options(**options), "c", "login", max_array)


_RUNS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from([0, 600])), max_size=40)


@given(_RUNS, st.integers(1, 12), st.integers(0, 12))
def test_each_run_is_one_task_of_one_job(kinds: List[Any], max_array: int, max_jobs: int) -> None:
    runs = [run(number, *kind) for number, kind in enumerate(kinds)]
    made = submissions(runs, max_array, max_jobs=max_jobs)
    assert sorted(task.run_id for entry in made for task in entry.tasks) == [entry["id"] for entry in runs]
    assert len({entry.name for entry in made}) == len(made)
    by_id = {entry["id"]: entry for entry in runs}
    for entry in made:
        assert [task.number for task in entry.tasks] == list(range(len(entry.tasks)))
        assert len(entry.tasks) <= min(max_array, max_jobs or max_array) and entry.array == (len(entry.tasks) > 1)
        shapes = {slurm_jobs.shape_of(by_id[task.run_id], Options()) for task in entry.tasks}
        assert shapes == {entry.shape} and (entry.shape.nodes == 1 or len(entry.tasks) == 1)
        assert slurm_jobs.read_manifest(entry.manifest()) == entry


def test_a_thousand_alike_are_one_submission() -> None:
    assert len(submissions([run(number) for number in range(1000)])) == 1


def test_shapes() -> None:
    made = submissions([run(0), run(1, gpus=8), run(2), run(3, nodes=2, gpus=8), run(4, timeout=0)])
    assert [(entry.shape, len(entry.tasks)) for entry in made] == [
        (Shape(1, 1, 1500), 2),
        (Shape(1, 8, 1500), 1),
        (Shape(2, 8, 1500), 1),
        (Shape(1, 1, 0), 1),
    ]
    assert made[0].indexes() == "0-1" and made[1].indexes() == "0"
    assert submissions([run(0), run(1, card={"resumable": True})])[1].shape == Shape(1, 1, 1500, 1), "only such a job may be requeued"
    assert submissions([run(0)], requeue=True)[0].shape.requeue == 1
    assert submissions([run(0)], time=60)[0].shape.seconds == 60
    assert submissions([run(0, timeout=7200)])[0].shape.seconds == 8100


def test_a_name_is_the_content() -> None:
    first, again = (submissions([run(0), run(1)])[0].name for dummy in range(2))
    assert first == again and len(first) == 16 and first.startswith("mad-")
    others = [group([run(0), run(1)], Options(), campaign, host)[0].name for campaign, host in (("d", "login"), ("c", "other"))]
    others += [submissions([run(0), run(1, attempt=2)])[0].name, submissions([run(0)])[0].name]
    assert len({first, *others}) == 5


def test_max_jobs_is_kept_and_nothing_starves() -> None:
    waiting = submissions([run(number) for number in range(10)], max_jobs=4)
    assert [len(entry.tasks) for entry in waiting] == [4, 4, 2]
    options = Options(max_jobs=4)
    assert may_submit(waiting, 0, options) == waiting[:1]
    assert may_submit(waiting[1:], 1, options) == []
    assert may_submit(waiting[1:], 0, options) == waiting[1:2]
    assert may_submit(waiting, 99, Options()) == waiting


def test_a_damaged_manifest_is_an_error() -> None:
    good = Submission("mad-0123456789ab", Shape(1, 0, 0), (Task(0, "a", 1),), False).manifest()
    for bad in ({}, dict(good, name="rm -rf"), dict(good, tasks=[]), dict(good, shape={}), dict(good, tasks=[{"number": "x"}])):
        with pytest.raises(MadError):
            slurm_jobs.read_manifest(bad)
