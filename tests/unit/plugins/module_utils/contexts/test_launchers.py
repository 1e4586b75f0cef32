# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher table: names, runners, variables."""

from __future__ import annotations

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import launchers

TORCH = "torchrun --standalone --nproc_per_node=4"
TORCH_MULTI = "torchrun --nnodes=2 --nproc_per_node=4 --node_rank=1 --master_addr=n1 --master_port=29501"


@pytest.mark.parametrize(
    "name,form",
    [
        ("", ""),
        ("torchrun", "torchrun"),
        ("MEGATRON", "megatron-lm"),
        ("megatron_lm", "megatron-lm"),
        ("sglang_disagg", "sglang-disagg"),
        ("slurm-multi", "slurm_multi"),
        (" vllm ", "vllm"),
        ("python3", "python"),
        ("docker", "python"),
        ("native", "python"),
    ],
)
def test_names(name: str, form: str) -> None:
    assert launchers.canonical(name) == form


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        launchers.canonical("mpi; rm", "distributed.launcher")
    assert "distributed.launcher" in caught.value.message
    for name in launchers.NAMES:
        assert name in caught.value.message


@pytest.mark.parametrize(
    "name,runner",
    [
        ("", TORCH),
        ("torchrun", TORCH),
        ("megatron", TORCH),
        ("torchtitan", TORCH),
        ("deepspeed", "deepspeed --num_gpus=4"),
        ("python", "python3"),
        ("vllm", ""),
        ("sglang", ""),
        ("primus", ""),
        ("slurm_multi", ""),
    ],
)
def test_runner_on_one_node(name: str, runner: str) -> None:
    assert launchers.environment(name, 1, 4)["MAD_MULTI_NODE_RUNNER"] == runner


@pytest.mark.parametrize(
    "name,runner",
    [
        ("", TORCH_MULTI),
        ("torchrun", TORCH_MULTI),
        ("megatron-lm", TORCH_MULTI),
        ("torchtitan", TORCH_MULTI),
        ("vllm", ""),
        ("deepspeed", "deepspeed --hostfile=/h --no_ssh --node_rank=1 --master_addr=n1 --master_port=29501"),
    ],
)
def test_runner_on_two_nodes(name: str, runner: str) -> None:
    variables = launchers.environment(name, 2, 4, "n1", 29501, 1, "/h")
    assert variables["MAD_MULTI_NODE_RUNNER"] == runner
    assert variables["WORLD_SIZE"] == "8", "processes, not nodes"
    expected = {"MASTER_ADDR": "n1", "MASTER_PORT": "29501", "NNODES": "2", "NODE_RANK": "1", "NPROC_PER_NODE": "4"}
    assert expected.items() <= variables.items()


def test_one_node_leaves_the_rank_variables_to_the_launcher() -> None:
    assert set(launchers.environment("torchrun", 1, 8)) == {"MAD_MULTI_NODE_RUNNER"}


@pytest.mark.parametrize("name", launchers.NAMES)
@pytest.mark.parametrize("nnodes", [1, 4])
def test_every_row_renders(name: str, nnodes: int) -> None:
    if name == "sglang-disagg" and nnodes == 1:
        with pytest.raises(InvalidInput, match="at least 3 nodes.*got 1"):
            launchers.environment(name, nnodes, 8)
        return
    variables = launchers.environment(name, nnodes, 8, "n1", 29500, 0, "/h")
    assert all(isinstance(value, str) and "{" not in value for value in variables.values())


def test_own_variables() -> None:
    assert launchers.environment("megatron", 1, 16)["TENSOR_MODEL_PARALLEL_SIZE"] == "8"
    assert launchers.environment("megatron", 2, 8, "a")["PIPELINE_MODEL_PARALLEL_SIZE"] == "2"
    assert launchers.environment("torchtitan", 1, 8)["TORCHTITAN_FSDP_ENABLED"] == "0"
    assert launchers.environment("vllm", 1, 8)["VLLM_TENSOR_PARALLEL_SIZE"] == "8"


def test_several_nodes_need_an_address() -> None:
    with pytest.raises(InvalidInput, match="master_addr"):
        launchers.environment("torchrun", 2, 8)


@pytest.mark.parametrize(
    "nnodes,given_split,split",
    [(4, (None, None), (1, 2)), (5, (None, None), (1, 3)), (5, (2, 2), (2, 2)), (3, (None, None), (1, 1)), (5, (3, None), (3, 1))],
)
def test_disagg_split(nnodes: int, given_split: tuple, split: tuple) -> None:
    assert launchers.disagg_split(nnodes, *given_split) == split


@pytest.mark.parametrize("arguments", [(1,), (2,), (5, 3, 3), (5, 0, 4), (4, None, 3)])
def test_disagg_split_refuses(arguments: tuple) -> None:
    with pytest.raises(InvalidInput):
        launchers.disagg_split(*arguments)


def test_command() -> None:
    assert launchers.command(["python3", "train.py", "--a", "x y"], "torchrun", nproc_per_node=2) == [
        "torchrun",
        "--standalone",
        "--nproc_per_node=2",
        "train.py",
        "--a",
        "x y",
    ]
    assert launchers.command(["python3", "train.py"], "python") == ["python3", "train.py"]
    assert launchers.command(["python3", "train.py"], "vllm", nproc_per_node=2) == ["python3", "train.py"]
