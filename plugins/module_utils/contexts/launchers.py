# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher table: how the processes of a model start on one node or many. Data for all targets; nobody else knows these names.

A model script runs `$MAD_MULTI_NODE_RUNNER train.py` (torch-like launchers, DeepSpeed, plain Python) or reads the documented variables
(vLLM, SGLang, Primus). N is nodes, G processes (GPUs) per node.
"""

from __future__ import annotations

import re
import string
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..base.errors import InvalidInput
from ..base.quoting import quote
from ..base.scalars import shown

DEFAULT_PORT = 29500
SELF_STARTED = "slurm_multi"  # its script runs outside of any container and starts its own steps
_REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})\Z")
_WHERE = {"nnodes": 1, "nproc_per_node": 1, "master_addr": "", "master_port": DEFAULT_PORT, "node_rank": 0, "hostfile": ""}
Rank = Union[int, str]

_TORCH_SINGLE = ("torchrun", "--standalone", "--nproc_per_node={nproc}")
_TORCH_MULTI = (
    "torchrun",
    "--nnodes={nnodes}",
    "--nproc_per_node={nproc}",
    "--node_rank={rank}",
    "--master_addr={address}",
    "--master_port={port}",
)


class Launcher(NamedTuple):
    """One row. Words and values are templates over nnodes, nproc, rank, address, port, hostfile."""

    name: str
    aliases: Tuple[str, ...] = ()
    single: Tuple[str, ...] = ()  # command prefix on one node; () means the script starts its processes itself
    multi: Tuple[str, ...] = ()  # command prefix on each of several nodes
    single_env: Mapping[str, str] = {}
    multi_env: Mapping[str, str] = {}
    fewest_nodes: int = 1
    local: bool = True  # whether it can run on one machine without a scheduler


_TABLE = (
    # docker and native are what madengine calls a model that starts its processes itself.
    Launcher("python", ("python3", "docker", "native"), ("python3",), ("python3",)),
    Launcher("torchrun", (), _TORCH_SINGLE, _TORCH_MULTI),
    Launcher(
        "deepspeed",
        (),
        ("deepspeed", "--num_gpus={nproc}"),
        # Every node starts its own part: there is no sshd in a container, and from each of N nodes by ssh would be N times too often.
        ("deepspeed", "--hostfile={hostfile}", "--no_ssh", "--node_rank={rank}", "--master_addr={address}", "--master_port={port}"),
    ),
    Launcher(
        "megatron-lm",
        ("megatron", "megatron_lm"),
        _TORCH_SINGLE,
        _TORCH_MULTI,
        {"TENSOR_MODEL_PARALLEL_SIZE": "{upto8}", "PIPELINE_MODEL_PARALLEL_SIZE": "1", "CONTEXT_PARALLEL_SIZE": "1"},
        {"TENSOR_MODEL_PARALLEL_SIZE": "{nproc}", "PIPELINE_MODEL_PARALLEL_SIZE": "{nnodes}", "CONTEXT_PARALLEL_SIZE": "1"},
    ),
    Launcher(
        "torchtitan",
        (),
        _TORCH_SINGLE,
        _TORCH_MULTI,
        {
            "TORCHTITAN_TENSOR_PARALLEL_SIZE": "{nproc}",
            "TORCHTITAN_PIPELINE_PARALLEL_SIZE": "1",
            "TORCHTITAN_CONTEXT_PARALLEL_SIZE": "1",
            "TORCHTITAN_FSDP_ENABLED": "0",
        },
        {
            "TORCHTITAN_TENSOR_PARALLEL_SIZE": "{nproc}",
            "TORCHTITAN_PIPELINE_PARALLEL_SIZE": "{nnodes}",
            "TORCHTITAN_CONTEXT_PARALLEL_SIZE": "1",
            "TORCHTITAN_FSDP_ENABLED": "1",
        },
    ),
    Launcher("primus", single_env={"GPUS_PER_NODE": "{nproc}"}, multi_env={"GPUS_PER_NODE": "{nproc}"}),
    Launcher(
        "vllm",
        single_env={"VLLM_TENSOR_PARALLEL_SIZE": "{nproc}", "VLLM_PIPELINE_PARALLEL_SIZE": "1", "VLLM_DISTRIBUTED_BACKEND": "auto"},
        multi_env={"VLLM_TENSOR_PARALLEL_SIZE": "{nproc}", "VLLM_PIPELINE_PARALLEL_SIZE": "1", "VLLM_DISTRIBUTED_BACKEND": "none"},
    ),
    Launcher(
        "sglang",
        single_env={"SGLANG_TENSOR_PARALLEL_SIZE": "{nproc}", "SGLANG_PIPELINE_PARALLEL_SIZE": "1"},
        multi_env={
            "SGLANG_TENSOR_PARALLEL_SIZE": "{nproc}",
            "SGLANG_PIPELINE_PARALLEL_SIZE": "1",
            "NCCL_INIT_ADDR": "{address}:{port}",
        },
    ),
    Launcher(
        "sglang-disagg",
        ("sglang_disagg",),
        multi_env={
            "SGLANG_DISAGG_MODE": "enabled",
            "SGLANG_DISAGG_TOTAL_NODES": "{nnodes}",
            "SGLANG_TP_SIZE": "{nproc}",
            "SGLANG_NODE_RANK": "{rank}",
        },
        fewest_nodes=3,
    ),
    Launcher(SELF_STARTED, ("slurm-multi",), local=False),
)
_BY_NAME: Dict[str, Launcher] = {word: row for row in _TABLE for word in (row.name,) + row.aliases}
NAMES = tuple(row.name for row in _TABLE)
# A context that names no launcher gets torchrun's runner, as model repositories expect.
_UNNAMED = Launcher("", (), _TORCH_SINGLE, _TORCH_MULTI)


def canonical(name: str, key: str = "launcher") -> str:
    """The one form of a launcher's name ("" stays ""); an unknown one is an error that names the key and lists the names."""
    word = name.strip().lower()
    if not word:
        return ""
    if word not in _BY_NAME:
        raise InvalidInput("%s: launcher %s is not known; known are %s" % (key, shown(name), ", ".join(sorted(_BY_NAME))))
    return _BY_NAME[word].name


def _row(name: str) -> Launcher:
    word = canonical(name)
    return _BY_NAME[word] if word else _UNNAMED


def check_nodes(name: str, nnodes: int) -> None:
    """Refuse a number of nodes that a launcher cannot work with."""
    row = _row(name)
    if nnodes < row.fewest_nodes:
        raise InvalidInput(
            "launcher %s requires at least %d nodes (1 proxy, 1 prefill, 1 decode), got %d; set distributed.nnodes"
            % (row.name, row.fewest_nodes, nnodes),
            "placement",
        )


def check_local(name: str) -> None:
    """Refuse a launcher that one machine without a scheduler cannot serve."""
    row = _row(name)
    check_nodes(name, 1)
    if not row.local:
        raise InvalidInput("launcher %s starts its own Slurm steps; it runs on target slurm only" % row.name, "placement")


def disagg_split(nnodes: int, prefill: Optional[int] = None, decode: Optional[int] = None) -> Tuple[int, int]:
    """(prefill, decode) nodes of sglang-disagg: the first node is the proxy; given numbers must add up to nnodes - 1."""
    check_nodes("sglang-disagg", nnodes)
    if prefill is None and decode is None:
        prefill = max(1, (nnodes - 1) * 2 // 5)
    workers = nnodes - 1
    prefill = workers - (decode or 0) if prefill is None else prefill
    decode = workers - prefill if decode is None else decode
    if prefill < 1 or decode < 1 or prefill + decode != workers:
        raise InvalidInput(
            "sglang_disagg: prefill_nodes %d and decode_nodes %d must be 1 or more each and add up to %d (nnodes - 1)"
            % (prefill, decode, workers)
        )
    return prefill, decode


# What Primus calls the back end that a model's name begins with (`primus_pretrain/torchtitan_MI300X_...`); longer words first.
_PRIMUS = (
    ("megatron_bridge", "megatron_bridge"),
    ("moe_package", "moe_package"),
    ("torchtitan", "torchtitan"),
    ("megatron", "megatron"),
    ("maxtext", "MaxText"),
)
PRIMUS_CONFIG = "exp_pretrain.yaml"


def primus_variables(model: str, settings: Mapping[str, Any]) -> Dict[str, str]:
    """Primus' own configuration out of `distributed.primus` (config_path, cli_extra, backend); the back end may stand in the model's name."""
    unknown = sorted(set(settings) - {"config_path", "cli_extra", "backend"})
    if unknown:
        raise InvalidInput("distributed.primus.%s is not known; known are config_path, cli_extra, backend" % unknown[0])
    word = model.partition("/")[2].lower() if model.lower().startswith("primus") else ""
    named = next((name for token, name in _PRIMUS if word == token or word.startswith(token + "_")), "")
    found = {"PRIMUS_CONFIG_PATH": str(settings.get("config_path") or PRIMUS_CONFIG)}
    backend, extra = str(settings.get("backend") or named), str(settings.get("cli_extra") or "")
    found.update({"BACKEND": backend} if backend else {})
    return {**found, **({"PRIMUS_CLI_EXTRA": extra} if extra else {})}


def _values(nnodes: int, nproc_per_node: int, master_addr: str, master_port: Rank, node_rank: Rank, hostfile: str) -> Dict[str, Any]:
    return {
        "nnodes": nnodes,
        "nproc": nproc_per_node,
        "upto8": min(nproc_per_node, 8),
        "rank": node_rank,
        "address": master_addr,
        "port": master_port,
        "hostfile": hostfile,
    }


def runner(
    launcher: str,
    nnodes: int = 1,
    nproc_per_node: int = 1,
    master_addr: str = "",
    master_port: Rank = DEFAULT_PORT,
    node_rank: Rank = 0,
    hostfile: str = "",
) -> List[str]:
    """The command prefix that starts the processes of one node, as words; [] when the script does it itself."""
    row = _row(launcher)
    check_nodes(launcher, nnodes)
    words = row.multi if nnodes > 1 else row.single
    if words and nnodes > 1 and not master_addr and row.name != "python":
        raise InvalidInput("launcher %s on %d nodes needs the address of the first one (master_addr)" % (row.name or "torchrun", nnodes))
    values = _values(nnodes, nproc_per_node, master_addr, master_port, node_rank, hostfile)
    return [word.format(**values) for word in words]


def environment(
    launcher: str,
    nnodes: int = 1,
    nproc_per_node: int = 1,
    master_addr: str = "",
    master_port: Rank = DEFAULT_PORT,
    node_rank: Rank = 0,
    hostfile: str = "",
) -> Dict[str, str]:
    """Variables a model finds on each node.

    On one node: MAD_MULTI_NODE_RUNNER and what the launcher's own row adds. On several also MASTER_ADDR, MASTER_PORT, NNODES,
    NODE_RANK, NPROC_PER_NODE and WORLD_SIZE, which counts processes (N x G), never nodes.
    """
    row = _row(launcher)
    words = runner(launcher, nnodes, nproc_per_node, master_addr, master_port, node_rank, hostfile)
    values = _values(nnodes, nproc_per_node, master_addr, master_port, node_rank, hostfile)
    variables = {"MAD_MULTI_NODE_RUNNER": " ".join(words)}
    if nnodes > 1:
        variables.update(
            MASTER_ADDR=master_addr,
            MASTER_PORT=str(master_port),
            NNODES=str(nnodes),
            NODE_RANK=str(node_rank),
            NPROC_PER_NODE=str(nproc_per_node),
            WORLD_SIZE=str(nnodes * nproc_per_node),
        )
    own = row.multi_env if nnodes > 1 else row.single_env
    variables.update({name: value.format(**values) for name, value in own.items()})
    return variables


def _without_interpreter(script_argv: Sequence[str], prefix: Sequence[str]) -> List[str]:
    """torchrun and its kind start Python themselves: `python3 x.py` becomes `x.py` behind them."""
    starts_python = list(script_argv[:1]) in (["python3"], ["python"])
    return list(script_argv[1:] if prefix and starts_python else script_argv)


def command(script_argv: Sequence[str], launcher: str, **where: Any) -> List[str]:
    """The whole command line that starts a Python program directly under a launcher; `where` as for `runner`."""
    prefix = runner(launcher, **where)
    return prefix + _without_interpreter(script_argv, prefix)


def _shell_word(template: str, values: Mapping[str, Any]) -> str:
    """One quoted word; a value that is nothing but $NAME or ${NAME} stays a reference, in double quotes."""
    parts = []
    for literal, field, _spec, _conversion in string.Formatter().parse(template):
        parts.append(quote(literal) if literal else "")
        if field:
            reference = _REFERENCE.match(str(values[field]))
            parts.append('"${%s}"' % (reference.group(1) or reference.group(2)) if reference else quote(values[field]))
    return "".join(parts)


def shell_command(script_argv: Sequence[str], launcher: str, **where: Any) -> str:
    """`command()` as shell text for a rendered job: everything quoted, but node_rank, master_addr and hostfile may be `$NAME`."""
    prefix = runner(launcher, **where)  # checks the numbers
    row = _row(launcher)
    values = _values(**dict(_WHERE, **where))
    templates = row.multi if where.get("nnodes", 1) > 1 else row.single
    words = [_shell_word(template, values) for template in templates]
    return " ".join(words + [quote(word) for word in _without_interpreter(script_argv, prefix)])
