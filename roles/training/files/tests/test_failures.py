# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong outside of the training itself: mirrors, disks, devices, half precision, models without gradients."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from support.forked import run_hash
from torch import nn

from training_engine import durable, run_folder
from training_engine.checkpoint import CheckpointManager
from training_engine.checkpoint.mirror import copy_folder, open_mirror
from training_engine.cli import main
from training_engine.config import OptimSection
from training_engine.errors import MemoryExhausted, NoRetryError, SaveError, UsageError
from training_engine.events import MetricsLog
from training_engine.factory import make_data, make_model, make_trainer
from training_engine.hooks import Hook
from training_engine.peers import Place
from training_engine.setup import pick_device, wrap_model
from training_engine.step import RESCALED, UNHEALTHY, UPDATED


def _manager(folder: Path, **options) -> tuple[CheckpointManager, list[tuple[str, dict]]]:
    events: list[tuple[str, dict]] = []
    return CheckpointManager(folder, on_event=lambda name, **fields: events.append((name, fields)), **options), events


# -- mirrors


def test_a_damaged_mirror_is_not_used(tmp_path):
    """What comes from the mirror is verified like everything else, and the next older one is taken."""
    manager, dummy = _manager(tmp_path / "c", mirror=str(tmp_path / "m"))
    for step in (1, 2):
        manager.save(nn.Linear(2, 2), step=step)
    weights = tmp_path / "m" / "step-00000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    fresh, events = _manager(tmp_path / "new", mirror=str(tmp_path / "m"))
    fresh.prepare()
    assert fresh.load().metadata.step == 1
    assert [name for name, dummy in events] == ["quarantine", "fetched"]
    assert fresh.latest().metadata.step == 1


def test_a_mirror_that_fails_at_a_fetch_is_reported(tmp_path, monkeypatch):
    manager, dummy = _manager(tmp_path / "c", mirror=str(tmp_path / "m"))
    manager.save(nn.Linear(2, 2), step=1)
    fresh, events = _manager(tmp_path / "new", mirror=str(tmp_path / "m"))
    fresh.prepare()
    (tmp_path / "m" / "step-00000001" / "state.json").unlink()
    (tmp_path / "m" / "step-00000001" / "state.json").mkdir()
    assert fresh.latest() is None
    assert events[-1][0] == "mirror_failed"
    monkeypatch.setattr(fresh._mirror, "steps", lambda: 1 / 0)
    assert fresh.latest() is None
    assert events[-1] == ("mirror_failed", {"reason": "ZeroDivisionError: division by zero"})


def test_a_mirror_that_cannot_delete_is_reported(tmp_path, monkeypatch):
    manager, events = _manager(tmp_path / "c", mirror=str(tmp_path / "m"), keep_last_n=1, keep_best_k=0)
    monkeypatch.setattr(manager._mirror, "drop", lambda step: 1 / 0)
    for step in (1, 2):
        manager.save(nn.Linear(2, 2), step=step)
    assert ("mirror_failed", {"checkpoint": "step-00000001", "reason": "ZeroDivisionError: division by zero"}) in events


def test_a_step_that_is_saved_again_replaces_that_of_the_mirror(tmp_path):
    manager, dummy = _manager(tmp_path / "c", mirror=str(tmp_path / "m"))
    for value in (1.0, 2.0):
        manager.save(nn.Linear(2, 2), step=1, metrics={"val_loss": value})
    assert json.loads((tmp_path / "m" / "step-00000001" / "manifest.json").read_text())["metrics"]["val_loss"] == 2.0


def test_a_copy_that_differs_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_bytes(b"12")
    monkeypatch.setattr("training_engine.checkpoint.mirror.write_file", lambda path, parts: path.write_bytes(b"1"))
    with pytest.raises(OSError, match="differs from it"):
        copy_folder(tmp_path / "a", tmp_path / "b", ["f"])
    assert not (tmp_path / "b").exists()


def test_a_url_needs_fsspec(monkeypatch):
    assert open_mirror(f"memory://nothing-{os.getpid()}").steps() == []
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"training-engine\[mirror\]"):
        open_mirror("s3://bucket/x")


# -- disks


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_disk_ends_the_save_and_not_the_older_checkpoint(tmp_path, monkeypatch, blocking):
    manager, dummy = _manager(tmp_path / "c")
    manager.save(nn.Linear(2, 2), step=1)

    def full(operation: str, path: str) -> None:
        if operation == "fsync":
            raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(durable, "fault_hook", full)
    with pytest.raises(SaveError, match=r"step 2 could not be written .*No space left"):
        manager.save_parts(2, {}, {}, {}, blocking=blocking)
        manager.wait()
    monkeypatch.setattr(durable, "fault_hook", None)
    assert [entry.step for entry in manager.list_checkpoints()] == [1]
    assert not [path for path in (tmp_path / "c").iterdir() if path.name.startswith(".tmp")]


FAULTS = {errno.ENOSPC: (70, "SaveError"), errno.ENOTDIR: (64, "UsageError"), errno.EACCES: (64, "UsageError")}


@pytest.mark.parametrize("code", FAULTS)
def test_a_run_folder_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, capsys, code):
    """A full disk may have room at the next start, a path that is none will not."""
    def broken(operation: str, path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(durable, "fault_hook", broken)
    assert main(["train", "--preset", "smoke", "--run-dir", str(tmp_path / "run")]) == FAULTS[code][0]
    told = capsys.readouterr().err
    assert f"{FAULTS[code][1]}: the run folder {tmp_path}/run cannot be used: " in told and "Traceback" not in told


def test_a_disk_that_fills_up_in_the_log_is_one_sentence(tmp_path, monkeypatch, capsys):
    def full(log: MetricsLog, values: dict) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.path))

    monkeypatch.setattr(MetricsLog, "write", full)
    assert main(["train", "--preset", "smoke", "--dataset", "synthetic_text", "--run-dir", str(tmp_path / "run")]) == 70
    told = capsys.readouterr().err
    assert "the disk is full: " in told and "Traceback" not in told


def test_a_second_start_leaves_the_status_of_the_running_one(tmp_path, monkeypatch, capsys):
    """Neither one that waits in vain for the lock, nor one that fails before it asks for it, writes into the other's status.json."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "status.json").write_text('{"mine": true}')
    monkeypatch.setattr(run_folder, "LOCK_WAIT", 0.0)
    lock = run_folder.try_lock(folder)
    options = ["train", "--preset", "smoke", "--run-dir", str(folder), "--dataset"]
    assert main([*options, "synthetic_text"]) == 69
    assert "another process is training in" in capsys.readouterr().err
    assert main([*options, "file", "--text-file", str(tmp_path / "nowhere")]) == 65
    assert (folder / "status.json").read_text() == '{"mine": true}'
    lock.close()
    assert main([*options, "file", "--text-file", str(tmp_path / "nowhere")]) == 65
    assert json.loads((folder / "status.json").read_text())["exit_code"] == 65


def test_what_was_written_is_read_again(tmp_path, monkeypatch):
    manager, dummy = _manager(tmp_path / "c")
    monkeypatch.setattr(manager._store, "problems", lambda path: ["model.safetensors: another hash"])
    with pytest.raises(SaveError, match="not what was meant: model"):
        manager.save(nn.Linear(2, 2), step=1)


# -- devices and wrappers


def test_devices_that_are_not_there():
    with pytest.raises(UsageError, match="not one that torch knows"):
        pick_device("quantum", Place())
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="torch sees no such device"):
            pick_device("cuda:1", Place())
    assert pick_device("cpu", Place()).type == "cpu"


def test_compilation_wraps_the_model(small):
    """The wrapper is made here and its prefix stays out of checkpoints; compiling itself takes minutes and belongs to the long suite."""
    from training_engine.checkpoint.manager import unwrap
    from training_engine.peers import Peers

    model = nn.Linear(2, 2)
    wrapped = wrap_model(model, OptimSection(compile_mode="default"), Peers(Place()), torch.device("cpu"))
    assert wrapped is not model
    assert unwrap(wrapped) is model


@pytest.mark.slow
def test_a_compiled_run_resumes_exactly(small, tmp_path, monkeypatch):
    """torch.compile for real: stopped, resumed, the same bytes; and weights that an uncompiled model can read."""
    # A cache of its own: one that a killed process left behind half-written would fail this test.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))

    class StopAt(Hook):
        def on_batch_end(self, trainer, state, outcome) -> None:
            if state.window == 3:
                trainer.stop.request("test")

    values = {"compile_mode": "default", "max_steps": 6, "eval_every": 0, "data_size": 36, "batch_size": 2,
              "gradient_accumulation_steps": 1}
    whole, config = small(run_dir=str(tmp_path / "a"), **values), small(run_dir=str(tmp_path / "b"), **values)
    assert make_trainer(whole).train().exit_code == 0
    assert make_trainer(config, hooks=[StopAt()]).train().exit_code == 75
    assert make_trainer(config).train().exit_code == 0
    assert run_hash(whole.run.run_dir) == run_hash(config.run.run_dir)
    plain = CheckpointManager(Path(config.run.run_dir) / "ckpt").load()
    make_model(config, make_data(config)).load_state_dict(plain.model())


# -- half precision


class Kinds(Hook):
    """Keeps what became of each window; with `inject`, puts Inf into the weights' gradients through an enormous scale."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_batch_end(self, trainer, state, outcome) -> None:
        self.seen.append(outcome.kind)


def test_fp16_finds_its_scale_and_resumes(small, tmp_path):
    """Overflows while the scale is sought are neither failures nor updates, the schedule does not advance, and a resume is exact."""
    values = {"precision": "fp16", "eval_every": 0, "max_steps": 8}
    whole, kinds = small(run_dir=str(tmp_path / "a"), **values), Kinds()
    trainer = make_trainer(whole, hooks=[kinds])
    original = torch.amp.GradScaler.__init__
    try:
        torch.amp.GradScaler.__init__ = lambda self, device: original(self, device, init_scale=2.0**40)
        assert trainer.train().exit_code == 0
        assert kinds.seen[0] == RESCALED
        assert kinds.seen.count(UPDATED) == 8 == trainer.state.step < trainer.state.window
        config = small(run_dir=str(tmp_path / "b"), **values)
        for steps in (3, 8):
            assert make_trainer(config.with_values(max_steps=steps, schedule_steps=8)).train().exit_code == 0
    finally:
        torch.amp.GradScaler.__init__ = original
    weights = [CheckpointManager(Path(run.run.run_dir) / "ckpt").load().model() for run in (whole, config)]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights[0].values())


def test_an_unhealthy_step_changes_nothing(small):
    """One window with a NaN: the weights stay, the event names the window, training goes on."""

    class Poison(Hook):
        def __init__(self) -> None:
            self.before: list[torch.Tensor] = []
            self.kinds: list[str] = []

        def on_batch_end(self, trainer, state, outcome) -> None:
            self.kinds.append(outcome.kind)
            loss = trainer.step.loss
            if state.window == 3:
                self.before = [parameter.detach().clone() for parameter in trainer._model.parameters()]
                self.original = loss.compute_loss
                loss.compute_loss = lambda *args: self.original(*args)._replace(total=self.original(*args).total * float("nan"))
            elif state.window == 4:
                loss.compute_loss = self.original
                assert all(torch.equal(a, b) for a, b in zip(self.before, trainer._model.parameters(), strict=True))

    config, poison = small(eval_every=0), Poison()
    assert make_trainer(config, hooks=[poison]).train().exit_code == 0
    assert poison.kinds == [UPDATED] * 3 + [UNHEALTHY] + [UPDATED] * 9
    lines = (Path(config.run.run_dir) / "events.jsonl").read_text().splitlines()
    event, = [item for item in map(json.loads, lines) if item["event"] == "unhealthy"]
    assert event["window"] == 3


def test_logits_without_a_gradient_are_a_verdict(small):
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(32, 32)
            self.other = nn.Parameter(torch.zeros(32))

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.layer(input_ids).detach().requires_grad_()

    with pytest.raises(NoRetryError, match="do not depend on the trainable parameters"):
        make_trainer(small(), model=Detached()).train()


def test_parameters_that_are_not_used_are_left_alone(small):
    """A branch of the model that no window reaches: no gradient, no update, no complaint."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head, self.unused = nn.Embedding(32, 8), nn.Linear(8, 32), nn.Linear(8, 8)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(input_ids))

    torch.manual_seed(0)
    model = Branch()
    before = model.unused.weight.detach().clone()
    assert make_trainer(small(max_steps=3), model=model).train().exit_code == 0
    assert torch.equal(model.unused.weight, before)


def test_out_of_memory_with_several_ranks_says_what_to_do(small):
    trainer = make_trainer(small())
    trainer._build(None)
    window = next(trainer.data.train_dataloader(trainer.plan, 0))
    trainer.peers.world = 2
    with pytest.raises(MemoryExhausted, match="lower batch_size and raise gradient_accumulation_steps"):
        trainer.step._split_further(window, RuntimeError("can't allocate memory"))
    trainer.peers.world = 1

    def fail(*_args) -> None:
        raise RuntimeError("something else")

    trainer.step._accumulate = fail
    with pytest.raises(RuntimeError, match="something else"):
        trainer.step.run(window, 1.0, 0)
