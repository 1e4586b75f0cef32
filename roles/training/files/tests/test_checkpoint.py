# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: round trips, damage, retention, mirror, and the plan's six scenarios."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from training_engine import durable, rng, tree
from training_engine.checkpoint import CheckpointManager, layout
from training_engine.checkpoint.manager import unwrap
from training_engine.checkpoint.mirror import open_mirror
from training_engine.checkpoint.writer import BackgroundTask, Staging
from training_engine.errors import CheckpointError, DataError, SaveError, UsageError


def _model() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3)


def _steps(model, optimizer, scheduler, count: int) -> list[float]:
    out = []
    for dummy in range(count):
        loss = model(torch.randn(5, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        out.append(loss.item())
    return out


def test_save_load_resume_is_exact(tmp_path):
    """Scenarios 1, 2, 5 and 6: epoch, learning rate, custom state, and identical draws afterwards."""
    parts = _model()
    _steps(*parts, 10)
    manager = CheckpointManager(tmp_path)
    path = manager.save(*parts, epoch=5, metrics={"val_loss": 0.5}, custom_state={"loss": {"smoothing": 0.1}}, step=10)
    expected = [*_steps(*parts, 10), random.random(), float(np.random.rand()), parts[1].param_groups[0]["lr"]]
    fresh = _model()
    found = manager.load()
    assert manager.restore(found, *fresh) == {"loss": {"smoothing": 0.1}}
    assert (found.path, found.metadata.epoch, found.metadata.step) == (path, 5, 10)
    assert [*_steps(*fresh, 10), random.random(), float(np.random.rand()), fresh[1].param_groups[0]["lr"]] == expected


def test_weights_are_readable_by_everybody(tmp_path):
    parts = _model()
    path = CheckpointManager(tmp_path).save(parts[0], step=1)
    theirs = load_file(path / layout.MODEL)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in parts[0].state_dict().items())
    assert not [name for name in os.listdir(path) if name.endswith((".pt", ".pth", ".pkl"))]


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
                    | st.tuples(inner, inner), max_leaves=12))
def test_any_nested_value_round_trips(value):
    flat = tree.flatten(value)
    assert repr(tree.unflatten(flat.skeleton, flat.tensors)) == repr(value)


@pytest.mark.parametrize("dtype", list(tree.DTYPES))
def test_every_dtype_round_trips(tmp_path, dtype):
    value = {"a": torch.arange(7).to(dtype), "odd": torch.ones(3, dtype=torch.uint8), "empty": torch.zeros(0, 3, dtype=dtype),
             "scalar": torch.ones((), dtype=dtype), "t": torch.arange(6).to(dtype).reshape(2, 3).T, "np": np.arange(4, dtype=np.int64)}
    path = tmp_path / "x.safetensors"
    durable.write_file(path, tree.serialize(tree.flatten(value)))
    back = tree.load(path)
    assert all(torch.equal(back[name], value[name]) and back[name].dtype == dtype for name in ("a", "empty", "scalar", "t"))
    assert np.array_equal(back["np"], value["np"])


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path):
    shared = torch.randn(100)
    flat = tree.flatten({"embed": shared, "head": shared, "other": torch.randn(100)})
    assert len(flat.tensors) == 2
    back = tree.unflatten(flat.skeleton, flat.tensors)
    assert back["embed"] is back["head"]


@pytest.mark.parametrize("value", [{"x": object()}, {"x": {1.5: 2}}, {"x": torch.zeros(2, dtype=torch.complex64)}])
def test_what_cannot_be_saved_is_named(value):
    with pytest.raises(CheckpointError, match="x"):
        tree.flatten(value)


def test_every_flipped_bit_and_truncation_is_found(tmp_path):
    """1,000 random damages of every file of a checkpoint, the manifest included."""
    manager = CheckpointManager(tmp_path)
    path = manager.save(*_model(), epoch=1, metrics={"val_loss": 1.0}, step=3)
    assert manager.verify(path) == []
    draw = random.Random(3)
    files = sorted(path.iterdir())
    for number in range(1000):
        victim = files[number % len(files)]
        whole = victim.read_bytes()
        damaged = bytearray(whole)
        if draw.random() < 0.8:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(damaged)):]
        victim.write_bytes(damaged)
        assert manager.verify(path), f"damage {number} of {victim.name} was not found"
        victim.write_bytes(whole)
    assert manager.verify(path) == []


def test_a_broken_one_is_set_aside_and_the_newest_whole_one_used(tmp_path):
    """Scenario 3, and the way back."""
    events = []
    manager = CheckpointManager(tmp_path, on_event=lambda name, **fields: events.append((name, fields)))
    parts = _model()
    for step in (1, 2, 3):
        manager.save(*parts, step=step)
    (tmp_path / layout.folder_name(3) / layout.OPTIM).write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"optim.safetensors: 4 bytes(.|\n)*use an older one"):
        manager.load(tmp_path / layout.folder_name(3))
    assert manager.load().metadata.step == 2
    assert [name for name, dummy in events if name == "quarantine"] == ["quarantine"]
    assert len(list(tmp_path.glob(".bad-*"))) == 1
    for step in (1, 2):
        (tmp_path / layout.folder_name(step) / layout.MANIFEST).unlink()
    for dummy in range(2):
        with pytest.raises(DataError, match="every checkpoint"):
            manager.latest()


def test_an_empty_folder_is_a_fresh_start(tmp_path):
    assert CheckpointManager(tmp_path).latest() is None
    assert CheckpointManager(tmp_path / "none").list_checkpoints() == []
    with pytest.raises(CheckpointError, match="no checkpoint"):
        CheckpointManager(tmp_path).load()


def test_get_best_ignores_nan_and_survives_a_restart(tmp_path):
    """Scenario 4."""
    manager = CheckpointManager(tmp_path, keep_best_k=9, keep_last_n=9)
    for step, value in enumerate([3.0, 1.0, float("nan"), 2.0, 1.0], 1):
        manager.save_parts(step, {}, {}, {"metrics": {"val_loss": str(value) if math.isnan(value) else value}})
    assert CheckpointManager(tmp_path).get_best() == tmp_path / layout.folder_name(5)
    assert CheckpointManager(tmp_path, mode="max").get_best() == tmp_path / layout.folder_name(1)
    assert CheckpointManager(tmp_path, monitor="other").get_best() is None


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(allow_nan=True) | st.none(), min_size=1, max_size=12), st.integers(0, 4), st.integers(1, 4),
       st.sampled_from(["min", "max"]))
def test_retention_keeps_the_union(values, best, last, mode):
    entries = [layout.CheckpointMetadata(step, 0, Path(str(step)), {} if value is None else {"m": value})
               for step, value in enumerate(values)]
    gone = {entry.step for entry in layout.superseded(entries, keep_best_k=best, keep_last_n=last, monitor="m", mode=mode)}
    kept = {entry.step for entry in entries} - gone
    assert kept >= {entry.step for entry in entries[-last:]}
    assert kept >= {entry.step for entry in layout.ranking(entries, "m", mode)[:best]}
    assert len(kept) <= best + last


def test_retention_on_disk(tmp_path):
    manager = CheckpointManager(tmp_path, keep_best_k=1, keep_last_n=2)
    for step, value in enumerate([5.0, 1.0, 4.0, 3.0, 2.0], 1):
        manager.save_parts(step, {}, {}, {"metrics": {"val_loss": value}})
    assert [entry.step for entry in manager.list_checkpoints()] == [2, 4, 5]


def test_a_failed_write_leaves_the_old_ones_alone(tmp_path, monkeypatch):
    manager = CheckpointManager(tmp_path)
    parts = _model()
    manager.save(*parts, step=1)

    def full(operation: str, path: str) -> None:
        if operation == "fsync":
            raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(durable, "fault_hook", full)
    with pytest.raises(SaveError, match="No space left"):
        manager.save(*parts, step=2)
    manager.save_parts(3, {}, {}, {}, blocking=False)
    with pytest.raises(SaveError):
        manager.wait()
    monkeypatch.setattr(durable, "fault_hook", None)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("step")] == [layout.folder_name(1)]
    assert manager.load().metadata.step == 1


def test_saving_a_step_again_replaces_it_and_a_kill_between_is_mended(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save_parts(1, {}, {"n": 1}, {})
    manager.save_parts(1, {}, {"n": 2}, {})
    assert manager.load().state() == {"n": 2}
    os.rename(tmp_path / layout.folder_name(1), tmp_path / f"{layout.RETIRED}{layout.folder_name(1)}.abc")
    assert manager.latest().state() == {"n": 2}


def test_prepare_clears_what_was_half_written(tmp_path):
    for name in (".tmp-00000001.x", ".del-step-00000002.y"):
        (tmp_path / name).mkdir()
    (tmp_path / ".LATEST.1234").write_text("x")
    CheckpointManager(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []


def test_async_save_sees_the_state_at_the_call(tmp_path):
    manager = CheckpointManager(tmp_path)
    tensor = torch.zeros(1000)
    for step in range(1, 4):
        manager.save_parts(step, {"a.safetensors": {"x": tensor}}, {}, {}, blocking=False)
        tensor += 1
    manager.wait()
    for step in range(1, 4):
        assert float(tree.load(tmp_path / layout.folder_name(step) / "a.safetensors")["x"][0]) == step - 1


def test_staging_reuses_its_buffers():
    staging, flat = Staging(), tree.flatten({"x": torch.ones(8)})
    first = staging.copy({"f": flat})["f"].tensors["x"]
    assert staging.copy({"f": flat})["f"].tensors["x"].data_ptr() == first.data_ptr()
    assert first.data_ptr() != flat.tensors["x"].data_ptr()


def test_background_errors_are_raised_once():
    task = BackgroundTask()
    task.start(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.wait()
    task.wait()
    assert not task.busy


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_the_mirror_saves_the_run_when_the_folder_is_lost(tmp_path, kind):
    if kind == "url":
        pytest.importorskip("fsspec")
    place = str(tmp_path / "mirror") if kind == "folder" else f"memory://mirror-{os.getpid()}"
    local = tmp_path / "ckpt"
    manager = CheckpointManager(local, keep_best_k=0, keep_last_n=2, mirror=place)
    parts = _model()
    for step in (1, 2, 3):
        manager.save(*parts, step=step)
    assert open_mirror(place).steps() == [2, 3]
    shutil.rmtree(local)
    fresh = CheckpointManager(local, mirror=place)
    fresh.prepare()
    found = fresh.latest()
    assert found is not None
    assert found.metadata.step == 3
    assert fresh.verify(found.path) == []


def test_a_broken_mirror_is_reported_and_does_not_stop(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    events = []
    manager = CheckpointManager(tmp_path / "c", mirror=str(blocker / "x"), on_event=lambda name, **_: events.append(name))
    manager.save(*_model(), step=1)
    assert "mirror_failed" in events
    assert manager.latest() is not None


def test_hostile_manifest(tmp_path):
    """A manifest may not name files outside of its folder."""
    manager = CheckpointManager(tmp_path)
    path = manager.save(*_model(), step=1)
    manifest = json.loads((path / layout.MANIFEST).read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": "0"}
    (path / layout.MANIFEST).write_bytes(layout.sealed(manifest))
    assert any("not inside the folder" in problem for problem in manager.verify(path))


@pytest.mark.parametrize("text", ["", "null", "[]", "[" * 100_000, '{"files": 3}', '{"files": [1]}', '{"files": {"a": 1}}',
                                  '{"step": 3, "files": {}, "metrics": [1]}'])
def test_a_manifest_of_any_kind_is_set_aside(tmp_path, text):
    """Never an error that hides the older checkpoints: they are used."""
    manager = CheckpointManager(tmp_path)
    older, newer = (manager.save(*_model(), step=step) for step in (2, 3))
    (newer / "manifest.json").write_text(text)
    assert manager.verify(newer)
    assert manager.get_best() is None
    assert manager.load().path == older
    assert [path.name[:4] for path in tmp_path.glob(".bad*")] == [".bad"]


def test_wrappers_leave_no_prefix():
    model = nn.Linear(2, 2)
    wrapped = nn.Module()
    wrapped._orig_mod = model
    assert unwrap(wrapped) is model
    assert unwrap(model) is model


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save(nn.Linear(2, 2), step=1)
    with pytest.raises(CheckpointError, match="does not fit"):
        manager.restore(manager.load(), nn.Linear(3, 2))
    with pytest.raises(CheckpointError, match="without optimizer"):
        manager.restore(manager.load(), nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters()))


@pytest.mark.parametrize("options", [{"mode": "best"}, {"keep_last_n": 0}, {"keep_best_k": -1}])
def test_faulty_options(tmp_path, options):
    with pytest.raises(UsageError):
        CheckpointManager(tmp_path, **options)


def test_rng_capture_is_complete():
    rng.seed_all(7)
    np.random.standard_normal()
    random.gauss(0, 1)
    state = rng.capture()

    def draws():
        return random.random(), random.gauss(0, 1), np.random.rand(), np.random.standard_normal(), torch.rand(3).tolist()

    first = draws()
    flat = tree.flatten(state)
    rng.restore(tree.unflatten(flat.skeleton, flat.tensors))
    assert draws() == first


def test_permutation_is_pinned():
    """Golden values: the order of samples must never change between versions."""
    assert rng.permutation(10, 1, 2).tolist() == rng.permutation(10, 1, 2).tolist()
    assert sorted(rng.permutation(1000, 5, 0).tolist()) == list(range(1000))
    order = rng.permutation(5000, 3, 1)
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert rng.permutation(8, 0, 0).tolist() == GOLDEN_ORDER
    assert rng.mix(1, 2, 3) == GOLDEN_MIX


GOLDEN_ORDER = [2, 0, 7, 3, 4, 5, 6, 1]
GOLDEN_MIX = 2623250113353451629
