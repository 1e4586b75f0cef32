# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data: the plan of windows, collators, sources and the loader."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_engine.config import DataSection
from training_engine.data import MapDataModule, WindowPlan, collators, datasets
from training_engine.data.collate import IGNORE, MultimodalCollator, TextCollator, VisionCollator
from training_engine.data.sources import TensorSource, Transformed, sequence_set, text_set
from training_engine.errors import DataError, UsageError


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.integers(0, 2**40))
def test_an_epoch_is_every_sample_once(size, batch, accumulation, world, shuffle, seed):
    options = {"batch_size": batch, "accumulation": accumulation, "world": world, "seed": seed, "shuffle": shuffle}
    plans = [WindowPlan(size, rank=rank, **options) for rank in range(world)]
    for epoch in (0, 1):
        seen = []
        for window in range(epoch * plans[0].windows_per_epoch, (epoch + 1) * plans[0].windows_per_epoch):
            parts = [plan.micro_batches(window) for plan in plans]
            assert len({len(part) for part in parts}) == 1, "every rank must make as many backward passes as the others"
            assert plans[0].shape(window).epoch == epoch
            seen += [int(index) for part in parts for micro in part if not micro.blank for index in micro.indices]
        assert sorted(seen) == list(range(size))
        assert plans[0].shape((epoch + 1) * plans[0].windows_per_epoch - 1).last_of_epoch


def test_the_order_does_not_depend_on_the_number_of_ranks():
    def window(world: int, number: int) -> set[int]:
        plans = [WindowPlan(50, batch_size=12 // world, world=world, rank=rank, seed=4) for rank in range(world)]
        return {int(i) for plan in plans for micro in plan.micro_batches(number) if not micro.blank for i in micro.indices}

    assert [window(1, n) for n in range(6)] == [window(2, n) for n in range(6)] == [window(3, n) for n in range(6)]


def test_a_plan_that_cannot_be():
    with pytest.raises(DataError, match="do not fill one update"):
        WindowPlan(3, batch_size=4, drop_last=True)
    plan = WindowPlan(10, batch_size=2)
    plan.check(plan.state_dict())
    with pytest.raises(DataError, match="size: 11 then, 10 now"):
        plan.check({**plan.state_dict(), "size": 11})


def test_text_collator():
    batch = TextCollator(pad_id=9)([{"input_ids": [1, 2, 3]}, {"input_ids": [4], "labels": [5]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[1, 2, 3], [5, IGNORE, IGNORE]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    with pytest.raises(DataError, match="2 input_ids and 1 labels"):
        TextCollator()([{"input_ids": [1, 2], "labels": [1]}])


def test_vision_and_multimodal_collators():
    image = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    pixels = VisionCollator(normalization="imagenet")([{"pixel_values": image, "labels": 1}])["pixel_values"]
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))
    assert VisionCollator(normalization=([0.5], [0.5])).normalize(torch.ones(1, 1, 2, 2)).unique().tolist() == [1.0]
    with pytest.raises(DataError, match="1 channels, the normalisation has 3"):
        VisionCollator(normalization="cifar10").normalize(torch.ones(1, 1, 2, 2))
    with pytest.raises(DataError, match="no normalisation"):
        VisionCollator(normalization="other")
    both = MultimodalCollator(normalization="unit")([{"input_ids": [1], "pixel_values": image}])
    assert set(both) == {"input_ids", "labels", "attention_mask", "pixel_values"}


@pytest.mark.parametrize("name", ["text", "digits", "synthetic_text", "synthetic_images"])
def test_sources_are_the_same_at_every_call(name):
    if name == "digits":
        pytest.importorskip("sklearn")
    section = DataSection(dataset=name, data_size=64, sequence_length=16)
    first, second = datasets.get(name)(section, 3), datasets.get(name)(section, 3)
    assert first.fingerprint == second.fingerprint
    assert len(first.train) + len(first.val) == 64
    module = MapDataModule(first, section)
    batch = next(iter(module.val_dataloader()))
    assert batch["labels"].dtype == torch.int64


def test_a_text_of_ones_own(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcd" * 100, encoding="utf-8")
    found = datasets.get("file")(DataSection(dataset="file", text_file=str(path), sequence_length=8), 0)
    assert found.sizes["vocab_size"] == 4
    with pytest.raises(DataError, match="text_file"):
        datasets.get("file")(DataSection(dataset="file"), 0)
    with pytest.raises(DataError, match="missing"):
        datasets.get("file")(DataSection(dataset="file", text_file=str(tmp_path / "missing")), 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_transforms_do_not_depend_on_workers(workers):
    def jitter(sample, generator):
        return {**sample, "pixel_values": sample["pixel_values"] + generator.normal()}

    base = TensorSource(pixel_values=torch.zeros(12, 1, 2, 2), labels=torch.arange(12))
    section = DataSection(num_workers=workers, batch_size=4, normalization="none")
    module = MapDataModule(sequence_set([], "vision"), section)
    object.__setattr__(module.data, "train", Transformed(base, jitter, seed=1))
    windows = list(itertools.islice(module.train_dataloader(WindowPlan(12, batch_size=4), 2), 3))
    values = [round(float(window.batches[0]["pixel_values"].sum()), 5) for window in windows]
    assert [window.shape.epoch for window in windows] == [0, 1, 1]
    assert values == JITTER.setdefault("first", values)


JITTER: dict[str, list[float]] = {}


def test_text_set_holds_the_end_back():
    found = text_set("ab" * 500, DataSection(sequence_length=10, val_fraction=0.2))
    assert (len(found.train), len(found.val)) == (80, 20)


def test_lengths_must_agree_and_names_be_known():
    with pytest.raises(DataError, match="different lengths"):
        TensorSource(a=torch.zeros(2), b=torch.zeros(3))
    with pytest.raises(UsageError, match="did you mean 'vision'"):
        collators.get("visionn")
    assert np.asarray(TensorSource(a=torch.arange(5)).fetch(np.array([3, 1]))["a"]).tolist() == [3, 1]
