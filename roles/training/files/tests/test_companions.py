# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands beside training: trackers, the dashboard, the old functions, Lightning, streams, legacy formats."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.forked import in_child, run_hash

import training_engine
from training_engine import shims, trackers
from training_engine.cli import main
from training_engine.config import TrainingConfig
from training_engine.data.loader import MapDataModule
from training_engine.data.stream import StreamDataModule
from training_engine.errors import DataError, NoRetryError, UsageError
from training_engine.export import export_bundle
from training_engine.export import mar_handler as handler
from training_engine.factory import make_data, make_model, make_trainer
from training_engine.health import GradientMonitor
from training_engine.hooks import Hook
from training_engine.lightning_adapter import LightningAdapter, is_lightning_trainer
from training_engine.loss import LanguageModelingLoss
from training_engine.models import ImageMLP
from training_engine.trackers import Tracking
from training_engine.trainer import Trainer
from training_engine.visualization import MOST_POINTS, dashboard, read_curves, thinned


def test_every_public_name_is_there():
    for name in training_engine.__all__:
        assert getattr(training_engine, name) is not None
    assert set(training_engine.__all__) <= set(dir(training_engine))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training_engine.nothing  # noqa: B018


# -- trackers


def _events(config, name: str) -> list[dict]:
    lines = (Path(config.run.run_dir) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.fixture
def memory():
    """A tracker that keeps what it gets, registered for one test."""
    kept: list[tuple] = []

    class Memory:
        def start(self, run_id, folder, config):
            kept.append(("start", run_id, config["batch_size"]))

        def log(self, step, values):
            kept.append(("log", step, values))

        def finish(self):
            kept.append(("finish",))

    trackers.trackers.add("memory", Memory, replace=True)
    return kept


def test_a_tracker_gets_what_the_log_gets(small, memory):
    config = small(max_steps=6, trackers="memory")
    make_trainer(config).train()
    lines = [json.loads(line) for line in (Path(config.run.run_dir) / "metrics.jsonl").read_text().splitlines()]
    assert memory[0][0] == "start"
    assert memory[-1] == ("finish",)
    losses = [(step, values["loss"]) for kind, step, values in memory[1:-1] if "loss" in values]
    assert losses == [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert [values["val_loss"] for kind, step, values in memory[1:-1] if "val_loss" in values] == [
        line["val_loss"] for line in lines if "val_loss" in line]


def test_trackers_change_nothing(small, tmp_path, memory):
    plain, tracked = small(run_dir=str(tmp_path / "a")), small(run_dir=str(tmp_path / "b"), trackers="memory")
    for config in (plain, tracked):
        make_trainer(config).train()
    assert run_hash(plain.run.run_dir) == run_hash(tracked.run.run_dir)


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_broken_tracker_is_told_once_and_training_goes_on(small, where):
    class Broken:
        def start(self, run_id, folder, config):
            self._fail("start")

        def log(self, step, values):
            self._fail("log")

        def finish(self):
            self._fail("finish")

        def _fail(self, now):
            if now == where:
                raise ConnectionError("the server is gone")

    trackers.trackers.add("broken", Broken, replace=True)
    config = small(max_steps=4, trackers="broken")
    assert make_trainer(config).train().exit_code == 0
    event, = _events(config, "tracker_failed")
    assert event["reason"] == "ConnectionError: the server is gone"


def test_a_slow_tracker_holds_nothing_up(small, monkeypatch):
    """Lines that do not fit into the queue are dropped and counted; the end of the run does not wait for ever."""
    monkeypatch.setattr(trackers, "PATIENCE", 0.2)
    release = threading.Event()

    class Slow:
        def start(self, run_id, folder, config):
            release.wait(600)

        def log(self, step, values):
            raise AssertionError("not reached")

        def finish(self):
            raise AssertionError("not reached")

    trackers.trackers.add("slow", Slow, replace=True)
    config = small(max_steps=6)
    assert make_trainer(config, hooks=[Tracking(["slow"], capacity=2)]).train().exit_code == 0
    release.set()
    assert _events(config, "tracker_dropped")[0]["lines"] >= 4
    assert "given up" in _events(config, "tracker_failed")[0]["reason"]


def test_an_unknown_tracker_is_a_usage_error(small):
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        make_trainer(small(trackers="tensorbord"))


@pytest.mark.slow
def test_weights_and_biases_offline(small, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setattr(trackers, "PATIENCE", 600.0)
    config = small(max_steps=4, trackers="wandb")
    make_trainer(config).train()
    assert _events(config, "tracker_failed") == []
    assert list((Path(config.run.run_dir) / "wandb").glob("offline-run-*/*.wandb"))


def test_the_adapter_of_weights_and_biases(small, monkeypatch):
    """What is called of the library, on a stand-in for it: the real one is started in the long suite."""
    calls: list[tuple] = []
    run = SimpleNamespace(log=lambda values, step: calls.append((step, sorted(values))), finish=lambda: calls.append(("finish",)))
    library = SimpleNamespace(init=lambda **options: calls.append((options["mode"], options["resume"])) or run, Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", library)
    make_trainer(small(max_steps=1, eval_every=0, val_fraction=0.0, trackers="wandb")).train()
    assert calls == [("offline", "allow"), (1, ["grad_norm", "loss", "lr"]), ("finish",)]


@pytest.mark.parametrize("name,module", [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow.tracking"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"training-engine\[track\]"):
        Tracking([name])


def test_tensorboard_takes_a_run_and_its_resume(small, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(trackers, "PATIENCE", 600.0)
    config = _train_twice(small, "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(Path(config.run.run_dir) / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_mlflow_takes_a_run_and_its_resume(small, monkeypatch):
    """On SQLite, whose tables take it long to make; the resumed run goes on in the same MLflow run."""
    mlflow = pytest.importorskip("mlflow.tracking")
    monkeypatch.setattr(trackers, "PATIENCE", 600.0)
    config = _train_twice(small, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{config.run.run_dir}/mlflow.db")
    run, = client.search_runs(["0"])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2, 3, 4, 5, 6]


def _train_twice(small, tracker: str) -> TrainingConfig:
    """Train four steps, and two more in a second run of the program; nothing may have gone wrong in the tracker."""
    config = small(max_steps=4, trackers=tracker)
    make_trainer(config).train()
    make_trainer(config.with_values(max_steps=6)).train()
    assert _events(config, "tracker_failed") == []
    return config


def test_the_adapter_of_mlflow(small, monkeypatch):
    """What is called of the library, on a stand-in for it: the real one is started in the long suite."""
    runs: dict[str, dict] = {}

    class Client:
        def __init__(self, tracking_uri):
            self.kept = runs.setdefault(tracking_uri, {})
            self.log_param = lambda run, name, value: self.kept["params"].update({(run, name): value})
            self.log_batch = lambda run, metrics: self.kept["steps"].extend((run, *metric) for metric in metrics if metric[0] == "loss")

        def set_terminated(self, run):
            self.kept["ends"].append(run)

        def search_runs(self, experiments, wanted):
            return [self.kept["run"]] if self.kept and wanted == f"tags.run_id = '{self.kept['tags']['run_id']}'" else []

        def create_run(self, experiment, tags, run_name):
            self.kept.update(run=SimpleNamespace(info=SimpleNamespace(run_id="r1")), tags=tags, params={}, steps=[], ends=[])
            return self.kept["run"]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Client))
    monkeypatch.setitem(sys.modules, "mlflow.entities", SimpleNamespace(Metric=lambda name, value, time, step: (name, step)))
    config = _train_twice(small, "mlflow")
    kept = runs[f"sqlite:///{config.run.run_dir}/mlflow.db"]
    assert kept["steps"] == [("r1", "loss", step) for step in range(1, 7)]
    assert (kept["params"]["r1", "batch_size"], kept["ends"]) == (3, ["r1", "r1"])


# -- the dashboard


def test_the_dashboard_of_a_run(small, tmp_path, capsys):
    config = small()
    make_trainer(config).train()
    folder = Path(config.run.run_dir)
    with open(folder / "events.jsonl", "a") as stream:
        stream.write(json.dumps({"event": "drift", "step": 3, "score": 0.2, "threshold": 0.1, "note": "<script>"}) + "\n")
    assert main(["dashboard", str(folder)]) == 0
    assert str(folder / "dashboard.html") in capsys.readouterr().out
    page = (folder / "dashboard.html").read_text()
    assert re.findall(r"<h2>([^<]+)</h2>", page) == ["Loss", "Learning rate", "Gradient norm", "Accuracy", "Drift", "Events"]
    assert not re.search(r"(?:src|href)=|<script|https?:", page)
    loss = re.search(r"<h2>Loss</h2>.*?points=\"([^\"]+)\"", page, re.S)[1].split()
    assert len(loss) == 12
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        dashboard(tmp_path, tmp_path / "x.html")
    (tmp_path / "metrics.jsonl").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        dashboard(tmp_path, tmp_path / "x.html")


def test_curves_are_thinned_and_survive_nan(tmp_path):
    points = [(float(n), float(n)) for n in range(5 * MOST_POINTS + 3)]
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS + 1 and kept[-1] == points[-1]
    assert read_curves([{"step": 1, "loss": "nan"}, {"step": 2, "loss": 1}])["loss"][1] == (2.0, 1.0)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": "nan"}\n')
    assert "<h2>Loss" not in dashboard(tmp_path, tmp_path / "d.html").read_text()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 2, "val_loss": 1.5}\n')
    assert re.findall("<(polyline|circle)", dashboard(tmp_path, tmp_path / "d.html").read_text()) == ["polyline", "circle"]


# -- the old functions


def test_the_old_fine_tuning_is_the_trainer(small, tmp_path):
    """Parity: the same bytes as the new way, and a warning that names it."""
    new = small(run_dir=str(tmp_path / "new"), max_steps=4, eval_every=0)
    make_trainer(new).train()
    old = small(run_dir=str(tmp_path / "old"), max_steps=4, eval_every=0)
    values = {leaf: value for section in old.to_dict().values() for leaf, value in section.items()}
    values["lr"] = values.pop("learning_rate")
    del values["model"]
    data = make_data(old)
    model = make_model(old, data)
    with pytest.warns(DeprecationWarning, match="use Trainer"):
        found = shims.test_fine_tuning(model, SimpleNamespace(d_model=64), **values)
    assert run_hash(tmp_path / "old") == run_hash(tmp_path / "new")
    assert (found["exit_code"], found["checkpoint"]) == (0, str(tmp_path / "old" / "ckpt" / "step-00000004"))
    assert found["history"][0]["loss"] == found["final_loss"]
    assert found["model"] is model


IMAGES = {"pixel_values": torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(0)), "labels": torch.arange(24) % 3}
VISION = {"task": "vision_classification", "epochs": 1, "batch_size": 8, "checkpoint_every": 0, "threads": 1}


def test_the_old_search_and_comparison():
    with pytest.warns(DeprecationWarning):
        found = shims.test_hyperparameter_search(lambda: ImageMLP(16, 3, width=8), VISION, IMAGES, IMAGES,
                                                 search_space={"lr": [1e-9, 0.05]})
    assert found["best"] == {"lr": 0.05}
    assert [trial["value"] for trial in found["trials"]][1] == found["best_value"] < found["trials"][0]["value"]
    with pytest.warns(DeprecationWarning):
        models = {"wide": ImageMLP(16, 3, width=32), "small": ImageMLP(16, 3, width=4)}
        table = shims.test_benchmark_comparison(models, VISION, IMAGES, IMAGES)
    assert table["wide"]["parameters"] > table["small"]["parameters"]
    assert table["small"]["steps"] == 3.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_old_functions_refuse_what_they_cannot_do():
    model = ImageMLP(16, 3, width=4)
    with pytest.raises(UsageError, match="train_data must be a dict of tensors"):
        shims.test_fine_tuning(model, VISION, [1, 2])
    with pytest.raises(training_engine.ConfigError, match="use_lora"):
        shims.test_fine_tuning(model, VISION, IMAGES, use_lora=True)
    with pytest.raises(UsageError, match="no metric 'val_loss'"):
        shims.test_hyperparameter_search(lambda: model, VISION, IMAGES, search_space={"lr": [0.1]})


# -- Lightning


def _lightning():
    return pytest.importorskip("lightning.pytorch")


@pytest.mark.slow
def test_lightning_accumulates_once(tmp_path):
    """A real Lightning trainer: no double accumulation, the step is the optimizer's, and the monitor stops on NaN."""
    pl = _lightning()

    class Module(pl.LightningModule):
        def __init__(self, poison=False):
            super().__init__()
            self.layer, self.poison = torch.nn.Linear(4, 1), poison

        def training_step(self, batch, index):
            return self.layer(batch[0]).mean() * (float("nan") if self.poison else 1.0)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def trainer(**options):
        return pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                          accelerator="cpu", default_root_dir=tmp_path, **options)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 4)), batch_size=2)
    with pytest.raises(UsageError, match="8 micro-batches for one update"):
        LightningAdapter(trainer(accumulate_grad_batches=4), 2)
    for theirs, ours in ((4, 1), (1, 4)):
        monitor, running = GradientMonitor(), trainer(accumulate_grad_batches=theirs)
        adapter = LightningAdapter(running, ours)
        running.callbacks.append(adapter.watch(monitor))
        running.fit(Module(), data)
        assert (adapter.accumulation_steps, adapter.step) == (4, 2)
    running = trainer()
    running.callbacks.append(LightningAdapter(running).watch(GradientMonitor()))
    with pytest.raises(NoRetryError, match="3 unhealthy gradients"):
        running.fit(Module(poison=True), data)


def _stand_in(steps: int):
    """Something that looks like a Lightning trainer: its class and module name are all that is looked at."""
    kind = type("Trainer", (), {"__module__": "pytorch_lightning.trainer.trainer"})
    made = kind()
    made.accumulate_grad_batches, made.global_step = steps, 3
    return made


def test_accumulation_beside_lightning(monkeypatch):
    with pytest.raises(UsageError, match="8 micro-batches for one update"):
        LightningAdapter(_stand_in(4), 2)
    for theirs, ours in ((4, 1), (1, 4)):
        adapter = LightningAdapter(_stand_in(theirs), ours)
        assert (adapter.accumulation_steps, adapter.step) == (4, 3)
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", SimpleNamespace(Callback=object))
    seen: list[object] = []
    watch = adapter.watch(SimpleNamespace(check_gradients=seen.append))
    watch.on_before_optimizer_step(None, "module", None)
    assert seen == ["module"]
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)
    with pytest.raises(UsageError, match=r"training-engine\[interop\]"):
        adapter.watch(GradientMonitor())


def test_only_a_lightning_trainer_is_one(small):
    other = make_trainer(small())
    assert not is_lightning_trainer(other)
    with pytest.raises(UsageError, match="not a Lightning trainer"):
        LightningAdapter(other)


# -- streams


class Counter:
    """A stateful loader of one's own: batches of consecutive rows, seven of them before it ends."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.at = rows, 0

    def __iter__(self):
        while self.at < 7:
            self.at += 1
            yield {"input_ids": self.rows[self.at - 1:self.at + 2], "labels": self.rows[self.at - 1:self.at + 2]}
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state_dict):
        self.at = state_dict["at"]


class StopAt(Hook):
    def __init__(self, window: int) -> None:
        self.window = window

    def on_batch_end(self, trainer, state, outcome) -> None:
        if state.window == self.window:
            trainer.stop.request("test")


def _stream_trainer(config, loader, hooks=()) -> Trainer:
    data = make_data(config)
    module = StreamDataModule(loader, name="rows", epoch_batches=6, batch_size=3,
                              val=list(MapDataModule(data, config.data).val_dataloader()))
    return Trainer(make_model(config, data), config, data=module, loss=LanguageModelingLoss(), hooks=hooks)


def _torchdata(rows: torch.Tensor):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    data = [{"input_ids": row, "labels": row} for row in rows]
    return stateful.StatefulDataLoader(data, batch_size=3)


@pytest.mark.parametrize("make", [Counter, _torchdata])
def test_a_stream_resumes_where_it_was(small, tmp_path, make):
    """Stopped twice, once at the end of an epoch: the bytes of the run that was not."""
    rows = torch.randint(0, 32, (21, 8), generator=torch.Generator().manual_seed(3))
    whole = small(run_dir=str(tmp_path / "whole"))
    assert _stream_trainer(whole, make(rows)).train().exit_code == 0
    config = small(run_dir=str(tmp_path / "stopped"))
    for window in (3, 7):
        assert _stream_trainer(config, make(rows), [StopAt(window)]).train().exit_code == 75
    assert _stream_trainer(config, make(rows)).train().exit_code == 0
    assert run_hash(config.run.run_dir) == run_hash(whole.run.run_dir)


def test_a_stream_that_cannot_be_resumed_is_refused(small):
    with pytest.raises(DataError, match="no state_dict"):
        StreamDataModule([1, 2], name="list", epoch_batches=1, batch_size=1)
    module = StreamDataModule(Counter(torch.zeros(9, 8)), name="rows", epoch_batches=6, batch_size=3)
    trainer = make_trainer(small())
    trainer._build(None)
    with pytest.raises(DataError, match="no position of the stream for window 4"):
        next(module.train_dataloader(trainer.plan, 4))
    assert list(module.val_dataloader()) == []
    empty = Counter(torch.zeros(9, 8))
    empty.__class__ = type("Empty", (Counter,), {"__iter__": lambda self: iter(())})
    with pytest.raises(DataError, match="no batch at all"):
        next(StreamDataModule(empty, name="rows", epoch_batches=6, batch_size=3).train_dataloader(trainer.plan, 0))


# -- legacy formats


@pytest.mark.slow
def test_every_format_agrees_and_is_reproducible(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, example = ImageMLP(64, 10, width=16), {"pixel_values": torch.randn(5, 1, 8, 8)}

    def export(name: str) -> None:
        export_bundle(model, example, tmp_path / name, name="mlp", formats=("pt2", "onnx", "torchscript", "mar"))

    # Each in a process of its own: TorchScript numbers its classes over the life of a process.
    assert [in_child(lambda name=name: export(name)) for name in ("a", "b")] == [0, 0]
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert {"model.onnx", "model.torchscript", "model.mar"} <= files[0].keys()
    assert {name for name in files[0] if files[0][name] != files[1][name]} == set()


def test_the_handler_of_the_archive(tmp_path, monkeypatch):
    """The handler that is in the archive, called as TorchServe calls it."""
    import zipfile

    torch.manual_seed(0)
    model, example = ImageMLP(64, 10, width=16), {"pixel_values": torch.randn(5, 1, 8, 8)}
    bundle = export_bundle(model, example, tmp_path / "bundle", name="mlp", formats=("mar",))
    with zipfile.ZipFile(bundle / "model.mar") as archive:
        archive.extractall(tmp_path / "mar")
    manifest = json.loads((tmp_path / "mar" / "MAR-INF" / "MANIFEST.json").read_text())
    assert (tmp_path / "mar" / manifest["model"]["serializedFile"]).exists()
    copied = (tmp_path / "mar" / manifest["model"]["handler"]).read_text()
    inputs = [["pixel_values", "float32"]]
    assert f"\nINPUTS: list[list[str]] = {inputs!r}\n" in copied
    assert copied.replace(repr(inputs), "[]") == Path(handler.__file__).read_text()
    monkeypatch.setattr(handler, "INPUTS", inputs)
    monkeypatch.setattr(handler, "_state", {})
    context = SimpleNamespace(system_properties={"model_dir": str(tmp_path / "mar")})
    assert handler.handle(None, context) is None
    body = json.dumps({"inputs": {"pixel_values": example["pixel_values"][:2].tolist()}}).encode()
    answer, = handler.handle([{"body": body}], context)
    with torch.no_grad():
        assert torch.allclose(torch.tensor(answer["logits"]), model.eval()(example["pixel_values"][:2]), atol=1e-6)
