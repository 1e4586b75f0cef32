# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test cluster itself: real jobs on eight nodes, accounting, faults, and nothing left when it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.slurm import Cluster

SCRIPT = Path(__file__).resolve().parent.parent / "support" / "slurm-cluster"


def mentions(text: str) -> list[str]:
    """Return the command lines of all processes that mention a text in their arguments or their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        line = words.replace(b"\0", b" ").decode("utf-8", "replace")
        if text in line or text.encode() in variables:
            found.append(line)
    return found


def test_jobs_get_nodes_and_gpus(slurm: Cluster) -> None:
    job = slurm.submit("#!/bin/bash\necho $SLURM_JOB_NODELIST $CUDA_VISIBLE_DEVICES\n", "--gpus-per-node=2", "--nodelist=n3")
    slurm.wait_for_jobs()
    assert (slurm.folder / ("job-%s.out" % job)).read_text() == "n3 0,1\n"


def test_array_tasks_run_on_several_nodes(slurm: Cluster) -> None:
    folder = slurm.folder / "array"
    folder.mkdir()
    slurm.submit("#!/bin/bash\necho $SLURMD_NODENAME >%s/$SLURM_ARRAY_TASK_ID\n" % folder, "--array=0-15", "--exclusive")
    slurm.wait_for_jobs()
    nodes = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert sorted(nodes, key=int) == [str(number) for number in range(16)]
    assert len(set(nodes.values())) > 1 and set(nodes.values()) <= set(slurm.nodes)


def test_steps_of_one_job_run_on_each_of_its_nodes(slurm: Cluster) -> None:
    job = slurm.submit("#!/bin/bash\nsrun --ntasks-per-node=1 bash -c 'echo $SLURM_PROCID $SLURMD_NODENAME'\n", "--nodes=3")
    slurm.wait_for_jobs()
    lines = sorted((slurm.folder / ("job-%s.out" % job)).read_text().split("\n"))
    assert [line.split()[0] for line in lines if line] == ["0", "1", "2"]
    assert len({line.split()[1] for line in lines if line}) == 3


def test_without_accounting_sacct_refuses(slurm: Cluster) -> None:
    with pytest.raises(RuntimeError, match="accounting storage is disabled"):
        slurm.call("sacct")


def test_with_accounting_sacct_keeps_names_and_states(slurm_accounting: Cluster) -> None:
    job = slurm_accounting.submit("#!/bin/bash\nexit 3\n", "--job-name=mad-test")
    slurm_accounting.wait_for_jobs()
    words = ["sacct", "-n", "-P", "-X", "-j", job, "-o", "jobname,state,exitcode"]
    # For some seconds sacct may know a short job as "allocation": its end arrives before its start.
    slurm_accounting.wait_for(lambda: slurm_accounting.call(*words) == "mad-test|FAILED|3:0", "job in sacct")


def test_faults_and_an_end_that_leaves_nothing() -> None:
    components.require("slurm")
    with Cluster(nodes=2) as cluster:
        folder = cluster.folder
        job = cluster.submit("#!/bin/bash\nsetsid sleep 600 &\nsleep 600\n")
        cluster.wait_for(lambda: len([line for line in mentions("sleep 600") if line.startswith("sleep")]) == 2, "running job")
        cluster.kill_slurmd("n1")
        assert mentions("sleep 600"), "a job goes on without its slurmd"
        cluster.restart_slurmd("n1")
        cluster.save(job)
        cluster.kill_controller()
        with pytest.raises(RuntimeError):
            cluster.call("squeue")
        cluster.start_controller()
        cluster.wait_for(lambda: cluster.states() != {} and cluster.queue() == [job], "the job again")
        cluster.kill_node("n1")
        cluster.wait_for(lambda: not [line for line in mentions("sleep 600") if line.startswith("sleep")], "end of the job")
    assert mentions(str(folder)) == [] and not folder.exists()


def test_the_script_starts_and_stops_it(tmp_path: Path) -> None:
    components.require("slurm")
    folder = tmp_path / "c"
    words = [str(SCRIPT)]

    def run(*more: str) -> str:
        done = subprocess.run([*words, *more, "--folder", str(folder)], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("start", "--nodes", "2")
    try:
        line = run("env").strip()
        assert line == "export SLURM_CONF=%s/slurm.conf" % folder
        shell = ["bash", "-c", line + "; sinfo -h -o '%D %T'"]
        assert subprocess.run(shell, capture_output=True, text=True, timeout=120, check=True).stdout.split() == ["2", "idle"]
    finally:
        run("stop")
    assert mentions(str(folder)) == []
