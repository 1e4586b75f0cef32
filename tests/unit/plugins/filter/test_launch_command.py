# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""launch_command: one quoted line, references kept only where they are allowed."""

from __future__ import annotations

import subprocess

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.filter.launch_command import FilterModule, launch_command

HOSTILE = ["a b", "it's", "$HOME", "$(id)", "; ls", "a\nb", '"', "{nproc}", "{}"]


def words(line: str, **environment: str) -> list:
    """What a shell makes of the line: its words."""
    output = subprocess.run(["bash", "-c", "printf '%s\\0' " + line], check=True, capture_output=True, env=environment).stdout
    return output.decode().split("\0")[:-1]


def test_one_node() -> None:
    line = launch_command(["python3", "train.py", "--name", "a b"], "torchrun", nproc_per_node=8)
    assert line == "torchrun --standalone --nproc_per_node=8 train.py --name 'a b'"
    assert launch_command(["bash", "run.sh"], "vllm") == "bash run.sh"
    assert launch_command(["python3", "x.py"], "python") == "python3 x.py"
    assert launch_command(["x.py"]) == "torchrun --standalone --nproc_per_node=1 x.py"


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_words_come_through(value: str) -> None:
    assert words(launch_command(["train.py", value], "deepspeed", nproc_per_node=2)) == ["deepspeed", "--num_gpus=2", "train.py", value]
    line = launch_command(["x.py"], "torchrun", nnodes=2, nproc_per_node=1, master_addr=value, node_rank=1)
    assert "--master_addr=" + (value if value != "$HOME" else "") in words(line), "a lone reference is the shell's"


def test_references_are_left_to_the_shell() -> None:
    line = launch_command(["x.py"], "torchrun", nnodes=2, nproc_per_node=8, master_addr="$MASTER_ADDR", node_rank="${SLURM_PROCID}")
    assert '"${MASTER_ADDR}"' in line and '"${SLURM_PROCID}"' in line
    assert "--master_addr=a b" in words(line, MASTER_ADDR="a b", SLURM_PROCID="1")


@pytest.mark.parametrize("value", ["$A$(id)", "$A;id", "${A:-$(id)}", "x$A", "$1"])
def test_anything_more_than_a_reference_is_text(value: str) -> None:
    line = launch_command(["x.py"], "torchrun", nnodes=2, master_addr=value)
    assert "--master_addr=" + value in words(line, A="expanded")


@pytest.mark.parametrize(
    "argv,options",
    [
        ("train.py", {}),
        ([], {}),
        (["x"], {"launcher": "mpi"}),
        (["x"], {"nnodes": 0}),
        (["x"], {"launcher": "torchrun", "nnodes": 2}),
        ([["x"]], {}),
        (["x"], {"nproc_per_node": "all"}),
    ],
)
def test_bad_input_is_refused(argv: object, options: dict) -> None:
    with pytest.raises(AnsibleFilterError):
        launch_command(argv, **options)


def test_the_filter_is_offered() -> None:
    assert FilterModule().filters() == {"launch_command": launch_command}
