# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models, data, losses, optimizers and schedulers of one's own: what fits works, what does not is one sentence with the way out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from support.forked import in_child
from torch import nn
from torch.optim import lr_scheduler

from training_engine.checkpoint import CheckpointManager
from training_engine.config import TrainingConfig
from training_engine.data.loader import MapDataModule, _taken, worker_died
from training_engine.data.sources import DataSet, TensorSource, sequence_set
from training_engine.data.stream import StreamDataModule
from training_engine.errors import CheckpointError, DataError, EngineError, NoRetryError, UsageError
from training_engine.factory import make_trainer
from training_engine.health import GradientMonitor
from training_engine.loss import ClassificationLoss, LossResult
from training_engine.output import ModelOutput
from training_engine.peers import Place
from training_engine.status import StatusFile
from training_engine.trainer import Trainer


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(16, classes), nn.Dropout(0.1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.layer(self.drop(pixel_values.flatten(1)))


@pytest.fixture
def config(tmp_path):
    def build(**values) -> TrainingConfig:
        chosen = {"task": "classification", "max_steps": 6, "checkpoint_every": 2, "batch_size": 4, "threads": 1, "attention_check": False,
                  "run_dir": str(tmp_path / "run"), **values}
        return TrainingConfig().with_values(**chosen)

    return build


def _pixels(rows: int = 32) -> torch.Tensor:
    return torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def _images(labels: torch.Tensor | None = None, **more: torch.Tensor) -> DataSet:
    tensors = {"pixel_values": _pixels(), "labels": torch.arange(32) % 3 if labels is None else labels, **more}
    return DataSet(TensorSource(**tensors), TensorSource(**tensors), "vision", "images")


def _samples(**of_the_fifth) -> list[dict]:
    found = [{"pixel_values": image, "labels": number % 3} for number, image in enumerate(_pixels())]
    found[5].update(of_the_fifth)
    return found


def _train(config: TrainingConfig, data: DataSet | None = None, model: nn.Module | None = None, loss=None, **options):
    data = data or _images()
    return Trainer(model or Net(), config, data=MapDataModule(data, config.data), loss=loss or ClassificationLoss(), **options).train()


def _events(config: TrainingConfig) -> list[dict]:
    return [json.loads(line) for line in (Path(config.run.run_dir) / "events.jsonl").read_text().splitlines()]


# -- data


def test_an_epoch_without_a_target_ends(config):
    """It makes no update, so no number of steps is ever reached."""
    with pytest.raises(DataError, match="a whole epoch holds nothing to predict"):
        _train(config(), _images(torch.full((32,), -100)))
    assert [event["event"] for event in _events(config())].count("empty_window") == 1


def test_windows_without_a_target_are_passed_over(config):
    labels = torch.arange(32) % 3
    labels[:16] = -100
    assert _train(config(shuffle=False, max_steps=10), _images(labels)).step == 10
    # Two rows of them (one in each epoch that was begun), each told once.
    assert [event["window"] for event in _events(config()) if event["event"] == "empty_window"] == [0, 8, 16]


@pytest.mark.parametrize(("sample", "words"), [
    ({"pixel_values": torch.rand(1, 5, 5)}, r"the samples .*5.* could not be made a batch: RuntimeError: stack expects"),
    ({"labels": 1.5}, "are not all whole numbers"),
    ({"labels": "cat"}, r"could not be made a batch: ValueError"),
])
def test_samples_that_are_no_batch(config, sample, words):
    with pytest.raises(DataError, match=words):
        make_trainer(config(max_steps=20), data=sequence_set(_samples(**sample), "vision"), model=Net()).train()


def test_samples_are_dicts(config):
    pairs = [(item["pixel_values"], item["labels"]) for item in _samples()]
    with pytest.raises(DataError, match="a sample is a tuple; samples are dicts"):
        sequence_set(pairs, "vision")
    with pytest.raises(DataError, match="a sample is a tuple, and a collator of the engine needs a dict"):
        _train(config(), DataSet(pairs, None, "vision", "pairs"))


class Broken:
    """Samples of which one ends differently."""

    def __init__(self, end) -> None:
        self.end = end

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict:
        return self.end() if index == 17 else _samples()[index]


def test_a_storage_that_is_away_is_not_the_datas_fault(config):
    def away() -> None:
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        _train(config(max_steps=9), DataSet(Broken(away), None, "vision", "broken"))


@pytest.mark.slow
@pytest.mark.parametrize(("end", "kind", "words"), [
    (lambda: 1 / 0, DataError, "^the samples .*17.* could not be made a batch: ZeroDivisionError"),
    (lambda: os._exit(3), EngineError, "a process that loads data has died"),
])
def test_what_happens_in_a_loading_process_is_told_here(config, end, kind, words):
    def work() -> None:  # in a process of its own: as long as torch knows of the dead one, any child's end raises there
        with pytest.raises(kind, match=words):
            _train(config(max_steps=9, num_workers=1), DataSet(Broken(end), None, "vision", "broken"))

    assert in_child(work) == 0


def test_errors_of_loading_processes():
    def fail(error: Exception):
        yield {}
        raise error

    assert "pid 3" in str(worker_died(RuntimeError("DataLoader worker (pid 3) exited")))
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback\nerrors.DataError: the samples 3\n"
    for error, kind, words in ((DataError(text), DataError, "^the samples 3$"), (ConnectionResetError(), EngineError, "has died"),
                               (RuntimeError("another"), RuntimeError, "^another$")):
        with pytest.raises(kind, match=words):
            _taken(fail(error), 2)


def test_an_empty_validation_part_is_none(config):
    train = _images().train
    assert _train(config(), DataSet(train, [], "vision", "x")).metrics == {}


def test_a_validation_loss_that_is_nan_is_an_event(config):
    data = _images()
    poisoned = _pixels()
    poisoned[3] = float("nan")
    found = DataSet(data.train, TensorSource(pixel_values=poisoned, labels=torch.arange(32) % 3), "vision", "x")
    assert _train(config(), found).metrics == {}
    assert [event["step"] for event in _events(config()) if event["event"] == "evaluation_not_finite"] == [6]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from _samples()


def test_data_without_an_index(config):
    with pytest.raises(UsageError, match=r"Endless has no length.*StreamDataModule"):
        _train(config(), DataSet(Endless(), None, "vision", "x"))
    with pytest.raises(UsageError, match=r"data is a DataLoader.*MapDataModule"):
        Trainer(Net(), config(), data=torch.utils.data.DataLoader(_images().train), loss=ClassificationLoss())


# -- models and losses


class Regression:
    """Squared errors of one number."""

    def weight(self, batch):
        return float(len(batch["pixel_values"]))

    def compute_loss(self, batch, output):
        return LossResult((output.logits.flatten() - batch["labels"]).square().sum(), self.weight(batch))


class Reconstruction(Regression):
    """Data without labels."""

    def compute_loss(self, batch, output):
        return LossResult((output.logits - batch["pixel_values"].flatten(1)).square().sum(), self.weight(batch))


class ManyLabels(Regression):
    def compute_loss(self, batch, output):
        total = nn.functional.binary_cross_entropy_with_logits(output.logits, batch["labels"], reduction="sum")
        return LossResult(total, self.weight(batch))


class Flat(Net):
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().forward(pixel_values)[:, 0]


@pytest.mark.parametrize(("loss", "model", "labels"), [
    (Regression(), Flat(), torch.rand(32)),
    (Regression(), Net(1), torch.rand(32)),
    (ManyLabels(), Net(), (torch.rand(32, 3) > 0.5).float()),
    (Reconstruction(), Net(16), None),
])
def test_losses_that_are_no_classification(config, loss, model, labels):
    """Only the loss is measured: accuracy means nothing for them."""
    tensors = {"pixel_values": _pixels(), **({} if labels is None else {"labels": labels})}
    data = DataSet(TensorSource(**tensors), TensorSource(**tensors), "vision", "x")
    result = _train(config(), data, model, loss)
    assert set(result.metrics) == {"val_loss", "val_perplexity"}
    with torch.no_grad():
        model.eval()
        total, weight = loss.compute_loss(tensors, ModelOutput(model(tensors["pixel_values"])))
    assert result.metrics["val_loss"] == pytest.approx(float(total) / weight)


def test_comparing_data_without_labels_is_refused(config):
    data = DataSet(TensorSource(pixel_values=_pixels()), TensorSource(pixel_values=_pixels()), "vision", "x")
    with pytest.raises(UsageError, match="no 'labels' to compare"):
        _train(config(drift_every=1), data, Net(16), Reconstruction())


class Renamed(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pylint: disable=arguments-renamed  # that is the mistake
        return super().forward(x)


class Cut(Net):
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().forward(pixel_values).detach()


class Normed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(pixel_values))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(3)


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 3, sparse=True)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.table((pixel_values.flatten(1) * 9).long()).sum(1)


@pytest.mark.parametrize(("model", "options", "words"), [
    (Renamed, {}, "forward needs x, and a batch has labels, pixel_values"),
    (Cut, {}, "the loss depends on no trainable parameter"),
    (Normed, {"batch_size": 31, "shuffle": False}, r"a batch of one sample.*drop_last"),
    (Lazy, {}, "layer.weight has no shape yet"),
    (Sparse, {}, "sparse=False"),
])
def test_models_that_cannot_be_trained(config, model, options, words):
    with pytest.raises(UsageError, match=words):
        _train(config(**options), model=model())


def test_a_late_label_beyond_the_classes(config):
    labels = torch.arange(32) % 3
    labels[20] = 9
    with pytest.raises(UsageError, match="labels reach from 0 to 9, but logits have 3 classes"):
        _train(config(shuffle=False, max_steps=20), _images(labels))


def test_a_loss_returns_a_sum_and_its_weight(config):
    class Mean(ClassificationLoss):
        def compute_loss(self, batch, output):
            return nn.functional.cross_entropy(output.logits, batch["labels"])

    with pytest.raises(UsageError, match="the loss Mean gave a Tensor; return LossResult"):
        _train(config(), loss=Mean())


@pytest.mark.parametrize("state", [{"found": {1, 2}}, {"when": object()}])
def test_what_a_checkpoint_cannot_hold_is_said_before_the_first_step(config, state):
    class Odd:
        def state_dict(self):
            return state

    with pytest.raises(CheckpointError, match="a checkpoint holds tensors"):
        _train(config(), stateful={"odd": Odd()})
    assert not (Path(config().run.run_dir) / "metrics.jsonl").read_text()


# -- optimizers and schedulers


def _adam(model: Net) -> torch.optim.Optimizer:
    return torch.optim.Adam([{"params": [model.layer.weight], "lr": 1e-2}, {"params": [model.layer.bias], "lr": 1e-4}])


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_an_optimizer_keeps_the_rates_of_its_groups(config):
    model = Net()
    optimizer = _adam(model)
    _train(config(), model=model, optimizer=optimizer)
    assert _rates(optimizer) == [1e-2, 1e-4]
    lines = [json.loads(line) for line in (Path(config().run.run_dir) / "metrics.jsonl").read_text().splitlines()]
    assert {line["lr"] for line in lines if "lr" in line} == {1e-2}


def test_the_configured_schedule_scales_them(config):
    model = Net()
    optimizer = _adam(model)
    _train(config(schedule="linear", max_steps=4), model=model, optimizer=optimizer)
    assert _rates(optimizer) == pytest.approx([0.25e-2, 0.25e-4])


SCHEDULERS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 7),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0),
    "one_cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, [1e-2, 1e-3], total_steps=9),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
    "sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.5)], [2]),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_sets_the_rates_and_resumes_exactly(config, tmp_path, name):
    def go(folder: str, steps: int) -> tuple[Net, list[float]]:
        torch.manual_seed(0)
        model = Net()
        optimizer = _adam(model)
        _train(config(run_dir=str(tmp_path / folder), max_steps=steps, eval_every=2), model=model, optimizer=optimizer,
               scheduler=SCHEDULERS[name](optimizer))
        return model, _rates(optimizer)

    go("cut", 3)
    (resumed, rates), (whole, expected) = go("cut", 7), go("whole", 7)
    assert rates == expected
    assert rates[0] != 1e-2
    assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_optimizers_and_schedulers_that_do_not_fit(config):
    model, other = Net(), Net()
    with pytest.raises(UsageError, match="holds no trainable parameter of this model"):
        _train(config(), model=model, optimizer=_adam(other))
    with pytest.raises(UsageError, match="LBFGS evaluates the loss several times"):
        _train(config(), model=model, optimizer=torch.optim.LBFGS(model.parameters()))
    for optimizer in (None, _adam(model)):
        with pytest.raises(UsageError, match="a scheduler needs the optimizer that it was made for"):
            _train(config(), model=model, optimizer=optimizer, scheduler=SCHEDULERS["cosine"](_adam(model)))
    optimizer = _adam(model)
    with pytest.raises(UsageError, match="ReduceLROnPlateau waits for evaluations"):
        _train(config(), model=model, optimizer=optimizer, scheduler=SCHEDULERS["plateau"](optimizer))
    with pytest.raises(UsageError, match="parallel 'fsdp' replaces"):
        _train(config(parallel="fsdp"), model=model, optimizer=_adam(model))


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict:
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        self.count = state["count"]


def test_a_resume_with_other_parts_is_a_verdict(config):
    def parts(make=_adam) -> dict:
        model = Net()
        return {"model": model, "optimizer": make(model)}

    _train(config(max_steps=2), **parts())
    with pytest.raises(NoRetryError, match=r"the optimizer of .* is another one"):
        _train(config(), **parts(lambda model: torch.optim.Adam(model.parameters())))
    with pytest.raises(NoRetryError, match=r"holds the state of \[\], now stateful names \['ema'\]"):
        _train(config(), **parts(), stateful={"ema": Counter()})
    one = parts()
    with pytest.raises(NoRetryError, match="was saved without a scheduler"):
        _train(config(), **one, scheduler=SCHEDULERS["cosine"](one["optimizer"]))
    with pytest.raises(CheckpointError, match=r"does not fit the model: .*(?s:.*)give the model that it was made for"):
        _train(config(), model=Net(5))
    # None of them counts as a start that died: that rule is for supervisors, not for a person who tries.
    assert StatusFile(Path(config().run.run_dir)).value.fruitless == 0
    assert _train(config(), **parts()).step == 6


def test_a_script_of_ones_own_is_a_rank_where_its_launcher_says_so(config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE=2 is set but RANK is not"):
        _train(config())
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UsageError, match="RANK=2 is not one of WORLD_SIZE=2 ranks"):
        _train(config())
    assert _train(config(), place=Place()).step == 6


# -- seldom taken ways


def test_parts_of_a_checkpoint_that_are_not_what_they_should_be(tmp_path):
    manager = CheckpointManager(tmp_path)
    manager.save_parts(1, {"model.safetensors": [torch.ones(2)]}, [1], {})
    checkpoint = manager.load()
    with pytest.raises(CheckpointError, match=r"state\.json is not a JSON object"):
        checkpoint.state()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not hold a dict"):
        checkpoint.model()


def test_no_medians_over_gradients_that_come_and_go():
    """A layer that a window does not reach has no gradient: the history of another set of layers says nothing about this one."""
    seen = []
    monitor = GradientMonitor(relative_limit=10.0, on_issue=lambda **what: seen.append(what))
    for count in (2, 3):
        for dummy in range(20):
            monitor.observe([1.0] * count, 1.0, ["a", "b", "c"][:count])
    assert not seen
    monitor.observe([1.0, 1.0, 50.0], 1.0, ["a", "b", "c"])
    assert seen[0]["issues"] == ["unusual: c"]


def test_what_is_kept_for_the_loss_does_not_grow():
    """Weights of batches that are never trained on (a window that a stop has left over)."""
    loss = ClassificationLoss()
    for dummy in range(200):
        loss.weight({"labels": torch.zeros(2, dtype=torch.int64)})
    assert len(loss._weights._kept) <= 64


@pytest.mark.parametrize(("error", "kind"), [("can't allocate memory: 9 bytes", None), ("something else", RuntimeError)])
def test_a_check_of_attention_that_has_no_memory_is_left_out(config, error, kind):
    class Hungry(Net):
        fails = True

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            if not self.training and self.fails:
                self.fails = False
                raise RuntimeError(error)
            return super().forward(pixel_values)

    if kind is None:
        assert _train(config(attention_check=True), model=Hungry()).exit_code == 0
        assert "attention_unchecked" in {event["event"] for event in _events(config())}
    else:
        with pytest.raises(kind, match=error):
            _train(config(attention_check=True), model=Hungry())


class Stream(list):
    """A loader that says where it stands."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        pass


def test_the_name_of_the_stream_in_the_state_is_taken(small):
    """Given by hand under any name it is not saved twice; another object cannot have its name."""
    module = StreamDataModule(Stream(), name="rows", epoch_batches=6, batch_size=3)
    parts = {"data": module, "loss": ClassificationLoss()}
    assert Trainer(Net(), small(), **parts)._stateful == {"data": module}
    assert Trainer(Net(), small(), **parts, stateful={"stream": module})._stateful == {"stream": module}
    with pytest.raises(UsageError, match="under the name 'data'"):
        Trainer(Net(), small(), **parts, stateful={"data": Stream()})
