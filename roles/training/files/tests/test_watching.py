# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the trainer watches by itself: drift, attention backends, histograms, further metrics, the commit of the code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from training_engine.attention import AttentionCase, check_attention
from training_engine.attention_guard import AttentionGuard
from training_engine.checkpoint import manager
from training_engine.data.sources import DataSet, TensorSource
from training_engine.data.stream import StreamDataModule
from training_engine.errors import ConfigError, DataError, UsageError
from training_engine.factory import make_trainer
from training_engine.models import CharLM
from training_engine.torchmetrics_bridge import ExtraMetrics, extra_metrics, make_extra
from training_engine.trackers import Histogram, Tracking, histogram_of, trackers


def _lines(config, name: str) -> list[dict]:
    return [json.loads(line) for line in (Path(config.run.run_dir) / name).read_text().splitlines()]


def _events(config, name: str) -> list[dict]:
    return [line for line in _lines(config, "events.jsonl") if line["event"] == name]


# -- drift


def _images(shift: float) -> DataSet:
    draw = torch.Generator().manual_seed(0)
    pixels, labels = torch.randn(400, 1, 8, 8, generator=draw), torch.randint(0, 4, (400,), generator=draw)
    parts = [TensorSource(pixel_values=pixels[:200], labels=labels[:200]),
             TensorSource(pixel_values=pixels[200:] + shift, labels=labels[200:])]
    return DataSet(parts[0], parts[1], "vision", f"shift {shift}", sizes={"channels": 1, "image_size": 8, "num_classes": 4})


@pytest.mark.parametrize("shift,found", [(0.0, set()), (0.5, {"input"})])
def test_the_trainer_tells_drift(small, shift, found):
    """Equal distributions raise no alarm; shifted inputs do, at every comparison, and the log holds the distances."""
    config = small(task="vision_classification", model="vit", dataset="synthetic_images", normalization="none", batch_size=8, max_steps=4,
                   drift_every=2, drift_batches=20, eval_every=0)
    make_trainer(config, data=_images(shift)).train()
    told = _events(config, "drift")
    assert {event["feature"] for event in told} >= found
    assert found or not told
    rows = [line for line in _lines(config, "metrics.jsonl") if "drift_input" in line]
    assert [row["step"] for row in rows] == [2, 4]
    assert all((row["drift_input_p"] < 0.01) == bool(found) for row in rows)
    assert {"drift_label", "drift_confidence"} <= set(rows[0])


def test_drift_of_text_and_refusals(small):
    config = small(max_steps=2, drift_every=2, drift_method="ks", eval_every=0)
    make_trainer(config).train()
    assert any("drift_label" in line for line in _lines(config, "metrics.jsonl"))
    with pytest.raises(ConfigError, match="drift_every needs val_fraction"):
        small(drift_every=2, val_fraction=0.0, eval_every=0)

    class Loader(list):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    with pytest.raises(DataError, match="cannot be sampled"):
        StreamDataModule(Loader(), name="s", batch_size=1, epoch_batches=1).sample_dataloader(limit=1)


# -- attention


class FlashIsWrong(TorchFunctionMode):
    """A stand-in for a broken kernel: whenever the flash backend may be used, attention is off by a little."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention and torch.backends.cuda.flash_sdp_enabled():
            return out * 1.01
        return out


def test_a_backend_that_differs_is_not_used(small):
    """The trainer leaves it out for every update, says why, and learns what it learns with plain arithmetic."""
    losses = []
    for number, broken in enumerate((True, False)):
        config = small(run_dir=str(Path(small().run.run_dir) / str(number)), max_steps=3, eval_every=3)
        if broken:
            with FlashIsWrong():
                make_trainer(config).train()
            told = {event["backend"]: event["reason"] for event in _events(config, "attention_fallback")}
            assert "differs by" in told["flash"]
            assert _events(config, "attention")[0]["backends"] == ["math"]
        else:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                make_trainer(config.with_values(attention_check=False)).train()
            assert _events(config, "attention") == []
        losses.append([line["loss"] for line in _lines(config, "metrics.jsonl") if "loss" in line])
    assert losses[0] == losses[1]


def test_models_own_masks_and_scales_are_checked():
    told = []
    guard = AttentionGuard(lambda name, **what: told.append((name, what)))
    q = torch.randn(3, 2, 5, 4)
    mask = torch.ones(3, 1, 5, 7, dtype=torch.bool).tril()

    def forward():
        F.scaled_dot_product_attention(q, torch.randn(3, 2, 7, 4), torch.randn(3, 2, 7, 4), attn_mask=mask, scale=0.3)
        F.scaled_dot_product_attention(q, q, q, attn_mask=torch.zeros(5, 5))
        F.scaled_dot_product_attention(q[0], q[0], q[0])  # three dimensions: not what is compared

    assert "math" in guard.check(CharLM(5, 4), forward)
    assert not guard.restricted
    assert len(told[-1][1]["cases"]) == 2
    assert AttentionGuard(lambda *_, **__: None).check(torch.nn.Linear(1, 1), lambda: None) == []
    added = AttentionCase(kind="masked", given_mask=torch.zeros(32, 32))
    assert any(report.usable for report in check_attention(added))


# -- histograms


class Kept:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.histograms: list[tuple[int, str, Histogram]] = []

    def start(self, run_id, folder, config):
        pass

    def log(self, step, values):
        pass

    def histogram(self, step, name, histogram):
        self.histograms.append((step, name, histogram))

    def finish(self):
        pass


def test_histograms_reach_the_trackers(small):
    kept = Kept()
    trackers.add("kept", lambda: kept, replace=True)
    make_trainer(small(trackers="kept", histogram_every=2, max_steps=4, eval_every=4)).train()
    names = {name for dummy, name, dummy in kept.histograms}
    assert "val_confidence_histogram" in names
    assert "gradients/embed.weight" in names
    assert {step for step, name, dummy in kept.histograms if name.startswith("gradients/")} == {2, 4}
    with pytest.raises(ConfigError, match="histogram_every needs trackers"):
        small(histogram_every=2)
    assert Tracking([]).dropped == 0


def test_histogram_numbers():
    found = histogram_of(torch.arange(100.0), bins=10)
    assert found.counts == (10.0,) * 10
    assert found.edges[0] == 0.0
    assert found.quantile(0.5) == pytest.approx(49.5)
    assert sum(histogram_of(torch.zeros(5)).counts) == 5
    assert sum(histogram_of(torch.tensor([1.0, float("nan")])).counts) == 0
    assert histogram_of(torch.empty(0)).quantile(0.5) >= 0.0


# -- torchmetrics


def test_further_metrics_agree_with_sums(small):
    pytest.importorskip("torchmetrics")
    extra_metrics.add("micro_recall", _micro, replace=True)
    config = small(task="vision_classification", model="mlp", dataset="synthetic_images", max_steps=2, eval_every=2,
                   extra_metrics="f1, micro_recall, matthews")
    result = make_trainer(config).train()
    assert result.metrics["val_micro_recall"] == pytest.approx(result.metrics["val_accuracy"])
    assert 0.0 <= result.metrics["val_f1"] <= 1.0
    assert -1.0 <= result.metrics["val_matthews"] <= 1.0
    assert make_extra(" ") is None
    with pytest.raises(UsageError, match="extra metric"):
        ExtraMetrics(("f2",))


def _micro(classes):
    from torchmetrics.classification import MulticlassRecall

    return MulticlassRecall(num_classes=classes, average="micro")


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics", None)
    with pytest.raises(UsageError, match=r"training-engine\[metrics\]"):
        ExtraMetrics(("f1",))


# -- the commit


def test_the_commit_of_the_code(small, monkeypatch, tmp_path):
    """From the working folder's repository, or named by the environment; recorded in every checkpoint."""
    monkeypatch.setenv("TRAINING_GIT_COMMIT", "A" * 40)
    manager.git_commit.cache_clear()
    trainer = make_trainer(small(max_steps=1, eval_every=0))
    trainer.train()
    assert trainer.folder.manager.list_checkpoints()[-1].git_commit == "a" * 40
    monkeypatch.setenv("TRAINING_GIT_COMMIT", "$(whoami)")
    manager.git_commit.cache_clear()
    assert manager.git_commit() is None
    monkeypatch.delenv("TRAINING_GIT_COMMIT")
    monkeypatch.chdir(tmp_path)
    manager.git_commit.cache_clear()
    assert manager.git_commit() is None
    for argv in (["init", "-q"], ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run(["git", *argv], check=True)
    manager.git_commit.cache_clear()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert manager.git_commit() == head
    monkeypatch.setenv("PATH", str(tmp_path))
    manager.git_commit.cache_clear()
    assert manager.git_commit() is None
    manager.git_commit.cache_clear()
