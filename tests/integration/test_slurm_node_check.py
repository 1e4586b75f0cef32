# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node check on a real cluster: one step for all idle nodes, bad ones named, busy ones left alone, hanging ones not waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_node_check
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_node_check import Needs
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.tests.support.slurm import Cluster

NODES = tuple("n%d" % number for number in range(1, 9))
# All nodes are this machine: a tool that answers by the name of the node stands for their differences.
TOOL = """\
#!/bin/sh
case $SLURMD_NODENAME in
  n3) sleep 300 >/dev/null 2>&1 & echo $! ;;
  n5) echo 'Unable to determine the device handle for GPU: GPU is lost.'; exit 15 ;;
  %s) sleep 1000 ;;
esac
"""


@pytest.fixture()
def idle(slurm: Cluster) -> Iterator[Cluster]:
    slurm.wait_for(lambda: slurm.states() == dict.fromkeys(slurm.nodes, "idle"), "idle nodes")
    yield slurm
    slurm.call("scancel", "--me")
    slurm.wait_for_jobs()


def client(cluster: Cluster, tools: Path, hanging: str = "nobody") -> Slurm:
    tools.mkdir(exist_ok=True)
    (tools / "nvidia-smi").write_text(TOOL % hanging)
    (tools / "nvidia-smi").chmod(0o755)
    environment = cluster.environment()
    return Slurm({**environment, "PATH": "%s:%s" % (tools, environment["PATH"])})


def test_all_idle_nodes_in_one_step(idle: Cluster, tmp_path: Path) -> None:
    slurm = Slurm(idle.environment())
    report = slurm_node_check.check(slurm, Options(), Needs(gpus=8, folder=str(tmp_path)))
    assert report.good == NODES and not (report.bad or report.unseen or report.out)
    assert slurm.calls == 3, "two questions and one step"
    assert report.problem(8, Options()) == "" and report.excluding(Options()) == Options()
    assert "9 nodes are needed and 8 are left" in report.problem(9, Options())


def test_bad_nodes_are_named_and_excluded_and_nothing_is_killed(idle: Cluster, tmp_path: Path) -> None:
    report = slurm_node_check.check(client(idle, tmp_path / "bin"), Options(), Needs(gpus=2, folder=str(tmp_path)))
    assert set(report.bad) == {"n3", "n5"} and set(report.good) == set(NODES) - {"n3", "n5"}
    assert "GPUs are in use by process" in report.bad["n3"][0] and "root sleep" in report.bad["n3"][0]
    assert report.bad["n5"] == ("the GPUs do not answer: nvidia-smi: Unable to determine the device handle for GPU: GPU is lost.",)
    chosen = Options(exclude="n[7-8]", nodelist="n3,n4")
    assert report.excluding(chosen).exclude == "n7,n8,n3,n5"
    assert report.problem(1, chosen).startswith("slurm.nodelist names n3, and the node check found: GPUs are in use")


def test_what_runs_or_is_drained_is_left_alone(idle: Cluster, tmp_path: Path) -> None:
    job = idle.submit("#!/bin/bash\nsleep 120\n", "--nodelist=n1", "--exclusive")
    idle.wait_for(lambda: idle.call("squeue", "-h", "-o", "%T") == "RUNNING", "running job")
    idle.call("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=fan broken")
    try:
        report = slurm_node_check.check(Slurm(idle.environment()), Options(), Needs())
        few = slurm_node_check.check(Slurm(idle.environment()), Options(nodelist="n[1-4]", exclude="n4"), Needs())
    finally:
        idle.call("scontrol", "update", "NodeName=n2", "State=RESUME")
    assert set(report.good) == set(NODES) - {"n1", "n2"} and set(report.unseen) == {"n1"}
    assert report.out["n2"].startswith("idle+drain: fan broken [")
    assert (few.good, set(few.unseen), set(few.out)) == (("n3",), {"n1"}, {"n2"})
    assert idle.queue() == [job], "somebody's job goes on, and nothing of ours is left"


def test_space_runtime_image_and_folder(idle: Cluster, tmp_path: Path) -> None:
    needs = Needs(runtime="enroot", folder=str(tmp_path / "not there"), free_bytes=1 << 60)
    report = slurm_node_check.check(Slurm(idle.environment()), Options(nodelist="n6"), needs)
    (reasons,) = report.bad.values()
    text = "\n".join(reasons)
    assert "no program enroot" in text and "not there or cannot be written to" in text and "MB free" in text


def test_an_image_that_nobody_can_bring(idle: Cluster, tmp_path: Path, tiny_image: str, docker_host: str) -> None:
    digest = idle.call("docker", "image", "inspect", "--format", "{{.Id}}", tiny_image)
    slurm = Slurm({**idle.environment(), "DOCKER_HOST": docker_host})
    needs = Needs(runtime="docker", images=(digest, "sha256:" + "0" * 64))
    report = slurm_node_check.check(slurm, Options(nodelist="n6"), needs)
    assert report.bad == {"n6": ("the image sha256:%s is not there, and neither a registry nor an archive has it" % ("0" * 64),)}


def test_a_node_that_hangs_is_not_waited_for(idle: Cluster, tmp_path: Path) -> None:
    report = slurm_node_check.check(client(idle, tmp_path / "bin", "n4"), Options(nodelist="n[2,4]"), Needs(gpus=1), seconds=6)
    assert report.good == ("n2",) and report.bad["n4"] == ("the check did not come to its end there",)
    idle.wait_for_jobs()
