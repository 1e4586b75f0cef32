# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node check's judgement: every node in exactly one of four, reasons in words, and a script that hostile arguments do not change."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_node_check, slurm_nodes
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_node_check import Needs
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options

FIXTURE = Path(__file__).resolve().parents[4] / "fixtures" / "slurm" / "nodes-22.05.txt"
NODES = slurm_nodes.nodes(FIXTURE.read_text("utf-8"))
GOOD = [("begin", "6.1"), ("free", "90000000 /tmp"), ("end", "")]
HOSTILE = "a'b\"c $(touch hacked) `id`; x"


def test_every_node_stands_in_one_of_four() -> None:
    report = slurm_node_check.judge(NODES, ["n1", "n4"], {"n1": GOOD, "n4": [*GOOD, ("gpu_process", "12 ana python")]}, Needs(gpus=8))
    assert (report.good, set(report.bad), set(report.unseen), set(report.out)) == (("n1",), {"n4"}, {"n2"}, {"n3"})
    assert report.bad["n4"] == ("GPUs are in use by process 12 ana python",) and report.unseen["n2"] == "not idle (mixed)"
    assert report.text().startswith("n3 (idle+drain: fan broken") and "n4 (GPUs are in use" in report.text()
    assert report.document()["bad"] == {"n4": list(report.bad["n4"])}


def test_too_few_gpus_and_a_step_that_got_no_place() -> None:
    report = slurm_node_check.judge(NODES, ["n1", "n4"], {}, Needs(gpus=9), "Requested nodes are busy")
    assert set(report.out) == {"n1", "n2", "n3", "n4"} and report.out["n1"] == "it has 8 GPUs, 9 are needed"
    report = slurm_node_check.judge(NODES, ["n1", "n4"], {}, Needs(), "Requested nodes are busy")
    assert report.unseen["n1"] == "the check got no place there: Requested nodes are busy" and report.problem(3, Options()) == ""


@pytest.mark.parametrize(
    "facts,words",
    [
        ([("gpu_tool", "nvidia-smi: lost")], "the GPUs do not answer: nvidia-smi: lost"),
        ([("runtime", "no program docker")], "no program docker"),
        ([("free", "1024 /tmp")], "/tmp has 1 MB free, 1024 are needed"),
        ([("free", " /scratch")], "the free space of /scratch cannot be read"),
        ([("no_folder", "/x y")], "the folder /x y is not there"),
        ([("gpu_process", "%d a b" % number) for number in range(5)], "process 0 a b, 1 a b, 2 a b and 2 more"),
    ],
)
def test_reasons(facts: list[tuple[str, str]], words: str) -> None:
    (reason,) = slurm_node_check.reasons_of([*facts, ("end", "")], Needs(gpus=1))
    assert words in reason


def test_without_its_last_word_a_check_is_not_done() -> None:
    assert slurm_node_check.reasons_of(GOOD[:1], Needs()) == ["the check did not come to its end there"]
    assert slurm_node_check.reasons_of([*GOOD, ("gpu_tool", "x")], Needs(gpus=0)) == [], "nobody asks for a GPU"


@given(st.text(max_size=300))
def test_no_output_breaks_the_reader(text: str) -> None:
    for facts in slurm_node_check.read("mad-check n1 " + text).values():
        slurm_node_check.reasons_of(facts, Needs(gpus=1))


def test_needs_of_runs() -> None:
    image = {"digest": "sha256:1", "registry_image": ""}
    runs = [
        {"runtime": "docker", "gpus": {"count": 2}, "image": image},
        {"runtime": "docker", "gpus": {"count": 8}, "image": dict(image, digest="sha256:2")},
        {"runtime": "docker", "gpus": {}, "image": dict(image, digest="sha256:3", registry_image="r/x")},
        {"runtime": "host", "gpus": None, "image": None},
    ]
    assert slurm_node_check.needs_of(runs, {"sha256:2": "/a.tar"}, "/shared") == Needs(8, "docker", ("sha256:1",), "/shared")


def test_the_script_reads_its_arguments_as_words(tmp_path: Path) -> None:
    words = ["runtime=host", "folder=" + HOSTILE, "free=" + HOSTILE]
    done = subprocess.run(["bash", "-c", slurm_node_check.SCRIPT, "x", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    facts = next(iter(slurm_node_check.read(done.stdout).values()))
    assert ("no_folder", HOSTILE) in facts and not (tmp_path / "hacked").exists()
    argv = slurm_node_check.step_argv(
        Options(account=HOSTILE, exclusive=False), Needs(gpus=4, folder="/s"), ["n1", "n4"], "mad-check-1", 90
    )
    assert "--account=" + HOSTILE in argv and "--nodelist=n1,n4" in argv and "--nodes=2" in argv and "--exclusive" not in argv
    assert "--gpus-per-node=4" in argv and "--time=3" in argv and argv[-2:] == ["folder=/s", "free=/tmp"]


def test_shellcheck_takes_the_script(tmp_path: Path) -> None:
    (tmp_path / "check.sh").write_text("#!/usr/bin/env bash\n" + slurm_node_check.SCRIPT, "utf-8")
    subprocess.run(["bash", "-n", str(tmp_path / "check.sh")], check=True)
    shellcheck = shutil.which("shellcheck")
    if shellcheck:  # dev/test brings it
        done = subprocess.run([shellcheck, str(tmp_path / "check.sh")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
