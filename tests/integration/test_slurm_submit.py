# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submitted once, whoever dies: adoption by name and by marker, a killed submitter whose sbatch goes on, two at one time, refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import LaunchError
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_submit import Submissions
from ansible_collections.mad.engine.tests.support.slurm import Cluster
from ansible_collections.mad.engine.tests.support.slurm_runs import SHARED, Bench

SLOW_SBATCH = '#!/bin/sh\n/usr/bin/sbatch "$@" || exit\ntouch "$MARK"\nsleep 4\n'
SUBMITTER = """\
import sys
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_submit import Submissions
submissions = Submissions(HostFolder(sys.argv[1]), Slurm())
print(submissions.submit([entry.submission for entry in submissions.entries()]))
"""


@pytest.fixture()
def bench(slurm: Cluster, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(slurm, tmp_path / "shared")
    slurm.call("scancel", "--me")
    slurm.wait_for_jobs()


def written(bench: Bench, options: Options = SHARED, script: str = "echo performance: 1 x; sleep 1\n") -> Submission:
    """Two runs as one submission on disk, not submitted."""
    for number in (1, 2):
        bench.add(number, script)
    (made,) = bench.group(options)
    assert bench.submissions.write(made, bench.script(made, options), bench.runs, {})
    assert not bench.submissions.write(made, "another text", bench.runs, {}), "the same submission is written once"
    return made


def jobs_of(bench: Bench, made: Submission) -> set[int]:
    return {job.job for job in Slurm(bench.cluster.environment()).known([made.name])}


def test_submitting_again_is_the_same_job(bench: Bench) -> None:
    made = written(bench)
    first = bench.submissions.submit([made])
    assert first == bench.submissions.submit([made]) and jobs_of(bench, made) == set(first.values())
    (entry,) = bench.submissions.entries()
    assert entry.submission == made and entry.job == first[made.name] and entry.submitted > 0
    bench.cluster.wait_for_jobs()
    assert [bench.log(number) for number in (1, 2)] == ["performance: 1 x\n"] * 2


def test_a_job_whose_id_was_not_noted_is_adopted(bench: Bench) -> None:
    made = written(bench)
    number = bench.submissions.submit([made])
    os.unlink(bench.folder.file("submissions", made.name, "job.json"))
    assert bench.submissions.submit([made]) == number and jobs_of(bench, made) == set(number.values())


def test_a_job_that_no_command_knows_is_adopted_by_its_marker(bench: Bench) -> None:
    made = written(bench)
    number = bench.submissions.submit([made])
    bench.cluster.wait_for_jobs()
    os.unlink(bench.folder.file("submissions", made.name, "job.json"))

    class Forgetful(Slurm):
        def known(self, names: object) -> list:  # type: ignore[override,type-arg]
            return []

    again = Submissions(bench.folder, Forgetful(bench.cluster.environment())).submit([made])
    assert again == number and bench.cluster.queue() == []


def test_a_submitter_that_is_killed_while_sbatch_answers_leaves_one_job(bench: Bench, tmp_path: Path) -> None:
    made = written(bench, script="sleep 8\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SLOW_SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    mark = tmp_path / "submitted"
    base = {**bench.cluster.environment(), "PYTHONPATH": os.pathsep.join(sys.path), "MARK": str(mark)}
    argv = [sys.executable, "-c", SUBMITTER, bench.folder.path]
    slow = {**base, "PATH": "%s:%s" % (tmp_path / "bin", base["PATH"])}
    submitter = subprocess.Popen(argv, env=slow, stdout=subprocess.PIPE)
    bench.cluster.wait_for(mark.exists, "submission")
    submitter.send_signal(signal.SIGKILL)
    submitter.wait()
    assert bench.submissions.entries()[0].job == 0, "the id was not noted"
    began = time.monotonic()
    done = subprocess.run(argv, env=base, capture_output=True, text=True, timeout=240, check=True)
    assert time.monotonic() - began > 1, "the dead submitter's sbatch holds the lock until it has ended"
    (number,) = jobs_of(bench, made)
    assert done.stdout.strip() == "{'%s': %d}" % (made.name, number)


def test_of_two_submitters_one_submits(bench: Bench) -> None:
    made = written(bench)
    base = {**bench.cluster.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", SUBMITTER, bench.folder.path]
    both = [subprocess.Popen(argv, env=base, stdout=subprocess.PIPE, text=True) for dummy in range(2)]
    answers = {process.communicate(timeout=240)[0] for process in both}
    assert len(answers) == 1 and len(jobs_of(bench, made)) == 1


def test_a_double_is_cancelled(bench: Bench) -> None:
    made = written(bench, script="sleep 20\n")
    script = bench.folder.file("submissions", made.name, "job.sh")
    first, second = (int(bench.cluster.call("sbatch", "--parsable", "--hold", script)) for dummy in range(2))
    Path(bench.folder.file("submissions", made.name, "tried")).touch()  # as whoever submitted them and died would have
    assert bench.submissions.submit([made]) == {made.name: first}
    bench.cluster.wait_for(lambda: {line.partition("_")[0] for line in bench.cluster.queue()} == {str(first)}, "end of the double")
    assert second != first


def test_a_campaign_of_the_same_name_does_not_adopt_its_predecessors_jobs(bench: Bench, tmp_path: Path) -> None:
    first = written(bench)
    other = Bench(bench.cluster, tmp_path / "other")
    second = written(other)
    assert first.tasks == second.tasks and first.name != second.name
    assert bench.submissions.submit([first])[first.name] != other.submissions.submit([second])[second.name]


def test_a_refusal_is_said_and_nothing_is_noted(bench: Bench) -> None:
    options = Options(exclusive=False, partition="nowhere")
    made = written(bench, options)
    with pytest.raises(LaunchError, match="invalid partition"):
        bench.submissions.submit([made])
    assert bench.submissions.entries()[0].job == 0 and bench.cluster.queue() == []
