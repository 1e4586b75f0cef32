# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharded checkpoints and FSDP2: real gloo ranks, shards in safetensors, whole again in one process, and nothing pickled."""

from __future__ import annotations

import json
import pickle
import signal
import threading
from pathlib import Path

import pytest
import torch
from support.forked import in_child, run_hash, start_child, train_ranks, wait_child
from support.small import build

from training_engine import durable
from training_engine.checkpoint import layout, shards
from training_engine.checkpoint.manager import CheckpointManager, load_model
from training_engine.checkpoint.store import CheckpointStore
from training_engine.commands import evaluate_run
from training_engine.errors import CheckpointError, SaveError
from training_engine.factory import make_data, make_model

FSDP = {"parallel": "fsdp", "batch_size": 2, "max_steps": 6, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two ranks with FSDP2, and its configuration."""
    config = build(tmp_path_factory.mktemp("sharded") / "run", **FSDP, keep_best_k=3, schedule="constant", warmup_steps=0)
    assert train_ranks(config, 2) == [0, 0]
    return config


def _newest(config) -> Path:
    return max((Path(config.run.run_dir) / "ckpt").glob("step-*"))


def test_every_file_of_it_is_safetensors_or_json(trained):
    """No pickle: each shard can be opened by any reader of safetensors, and the index by a person."""
    folder = _newest(trained)
    index = json.loads((folder / layout.SHARDS).read_text())
    assert {chunk["file"] for facts in index.values() for chunk in facts["chunks"]} == {"shard0.safetensors", "shard1.safetensors"}
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    for path in folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, UnicodeDecodeError)):
            pickle.loads(path.read_bytes())
    assert any(name.startswith("optim.safetensors:optimizer.state.") for name in index)


def test_one_process_puts_it_together(trained, capsys):
    """Export and evaluation need the whole model; evaluation finds what the ranks had found together."""
    manager = CheckpointManager(Path(trained.run.run_dir) / "ckpt")
    checkpoint = manager.load()
    assert checkpoint.sharded
    model = make_model(trained, make_data(trained))
    load_model(model, checkpoint)
    assert model.head.weight is model.embed.weight
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert checkpoint.optim()["optimizer"]["state"][0]["exp_avg"].shape == next(model.parameters()).shape
    assert evaluate_run(trained, best=False) == 0
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert abs(float(printed["val_loss"]) - checkpoint.metadata.metrics["val_loss"]) < 1e-4


def test_ddp_and_fsdp_compute_the_same_up_to_rounding(trained, tmp_path):
    config = trained.with_values(run_dir=str(tmp_path / "ddp"), parallel="ddp")
    assert train_ranks(config, 2) == [0, 0]
    logs = [[json.loads(line)["loss"] for line in (Path(run) / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
            for run in (config.run.run_dir, trained.run.run_dir)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("values,window", [({}, 4), ({"async_save": False, "optimizer": "sgd"}, 5)])
def test_killed_and_resumed(small, tmp_path, values, window):
    """One rank is killed, the other notices; both start again, and every byte is the same."""
    whole = small(run_dir=str(tmp_path / "whole"), **FSDP, **values)
    assert train_ranks(whole, 2) == [0, 0]
    config = small(run_dir=str(tmp_path / "killed"), **FSDP, **values)
    codes = train_ranks(config, 2, kill_window=window)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert train_ranks(config, 2) == [0, 0]
    assert run_hash(config.run.run_dir) == run_hash(whole.run.run_dir)


@pytest.mark.slow
def test_killed_inside_a_sharded_save(small, tmp_path):
    """The rank without the manifest dies before one of its writes: no half checkpoint is ever taken for a whole one."""
    whole = small(run_dir=str(tmp_path / "whole"), **FSDP)
    assert train_ranks(whole, 2) == [0, 0]
    for number in (1, 4):
        config = small(run_dir=str(tmp_path / f"killed-{number}"), **FSDP)
        assert train_ranks(config, 2, kill_operation=number)[1] == -signal.SIGKILL
        assert train_ranks(config, 2) == [0, 0]
        assert run_hash(config.run.run_dir) == run_hash(whole.run.run_dir)


@pytest.mark.slow
def test_fp16_with_its_scaler(small, tmp_path):
    config = small(run_dir=str(tmp_path / "run"), **{**FSDP, "max_steps": 3, "precision": "fp16"})
    assert train_ranks(config, 2) == [0, 0]


def test_another_number_of_ranks_is_refused(trained):
    assert in_child(lambda: _train_alone(trained)) == 93


def _train_alone(config) -> int:
    from training_engine.errors import EngineError
    from training_engine.factory import make_trainer

    try:
        return int(make_trainer(config.with_values(max_steps=8)).train().exit_code)
    except EngineError as error:
        return int(error.exit_code)


# -- the parts, in one process


def _shared(rank: int, world: int = 2) -> shards.SharedSave:
    return shards.SharedSave(rank, world, "0" * 8, {}, {}, threading.Event())


def test_rank_0_hears_of_a_rank_that_cannot_write(tmp_path):
    _shared(1).failed(tmp_path, OSError("no space"))
    with pytest.raises(SaveError, match="no space"):
        _shared(0).collect(tmp_path)


def test_rank_0_gives_up_when_told(tmp_path):
    shared = _shared(0)
    shared.given_up.set()
    with pytest.raises(SaveError, match="rank 1 has not written"):
        shared.collect(tmp_path)


def test_a_rank_that_cannot_write_says_so(tmp_path):
    def full(operation: str, path: str) -> None:
        if operation == "write" and path.endswith("shard1.safetensors"):
            raise OSError("no space")

    durable.fault_hook = full
    try:
        with pytest.raises(OSError, match="no space"):
            CheckpointStore(tmp_path, lambda *_, **__: None).add(3, {"shard1.safetensors": [b"x"]}, _shared(1))
    finally:
        durable.fault_hook = None
    with pytest.raises(SaveError, match="no space"):
        _shared(0).collect(next(tmp_path.glob(".tmp-*")))


@pytest.mark.parametrize("index", ["[]", "{", '{"a": {}}', '{"a": {"dtype": "F32", "shape": [1], "chunks": [{"offsets": [0]}]}}',
                                   '{"a": {"dtype": "F32", "shape": [1], "chunks": [{"offsets": [0], "sizes": [1], "file": "../x"}]}}',
                                   '{"a": {"dtype": "pickle", "shape": [1], "chunks": []}}'])
def test_a_damaged_index_is_told(tmp_path, index):
    (tmp_path / layout.SHARDS).write_text(index)
    with pytest.raises(CheckpointError, match="not an index of shards"):
        shards.read_index(tmp_path)


def test_a_missing_shard_is_told(trained, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in _newest(trained).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "shard1.safetensors").unlink()
    index = shards.read_index(folder)
    with pytest.raises(CheckpointError, match=r"shard1\.safetensors"):
        shards.read_into(folder, {name: shards.empty_like(facts) for name, facts in index.items()})


def test_plain_loops_use_the_same_calls(tmp_path):
    """save and restore of the manager with a model that one's own code has sharded; a plain checkpoint is refused by name."""
    codes = [start_child(lambda rank=rank: _own_loop(rank, tmp_path)) for rank in range(2)]
    assert [wait_child(code) for code in codes] == [0, 0]


def _own_loop(rank: int, folder: Path) -> int:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)

    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))
        fully_shard(model)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    model, optimizer = make()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(folder / "ckpt")
    manager.save(model, optimizer, step=1, custom_state={"note": [1, 2]})
    dist.barrier()
    other, second = make()
    assert manager.restore(manager.load(), other, second) == {"note": [1, 2]}
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine.to_local(), theirs.to_local())
        assert torch.equal(second.state[mine]["exp_avg"].to_local(), optimizer.state[theirs]["exp_avg"].to_local())
    if rank == 0:
        CheckpointManager(folder / "plain").save(torch.nn.Linear(4, 6), step=1)
    dist.barrier()
    with pytest.raises(CheckpointError, match="before the model is spread"):
        load_model(other, CheckpointManager(folder / "plain").load())
    return 0
