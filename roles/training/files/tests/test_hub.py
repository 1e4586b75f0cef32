# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and data of Hugging Face out of local folders, and LoRA. Those marked `models` need that extra: `pytest -m models`."""

from __future__ import annotations

import os

import pytest
import torch
from support.forked import run_hash

from training_engine import hub
from training_engine.cli import main
from training_engine.config import TrainingConfig, TrainingConfigBuilder
from training_engine.durable import sha256_file
from training_engine.errors import DataError, UsageError
from training_engine.factory import make_data, make_model, make_trainer
from training_engine.hooks import Hook

os.environ.setdefault("HF_HUB_OFFLINE", "1")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "it", "while", "one", "bird", "sang"]


class StopAt(Hook):
    """Asks to stop after a number of updates."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer, state, outcome):
        if state.step == self.step:
            trainer.stop.request("test")


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """A tiny decoder, its tokenizer and two data sets, as from_pretrained, load_from_disk and load_dataset find them."""
    import datasets
    import tokenizers
    import transformers

    folder = tmp_path_factory.mktemp("hub")
    names = ["<pad>", "<end>", "<unk>", *dict.fromkeys(WORDS)]
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: number for number, word in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(3)
    sizes = {"vocab_size": 32, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)).save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    texts = [" ".join(WORDS[number % 7:number % 7 + 5]) for number in range(60)]
    rows = datasets.Dataset.from_dict({"text": texts, "label": [number % 3 for number in range(60)]})
    datasets.DatasetDict({"train": rows, "test": rows.select(range(9))}).save_to_disk(folder / "split")
    (folder / "plain").mkdir()
    rows.to_json(folder / "plain" / "train.jsonl")
    return folder


@pytest.fixture
def configure(hub_folder, tmp_path):
    """A builder of configurations over those folders."""

    def build(data="split", run="run", **values):
        builder = TrainingConfigBuilder()
        chosen = {"model": f"hf:{hub_folder / 'model'}", "dataset": f"hf:{hub_folder / data}", "run_dir": str(tmp_path / run),
                  "batch_size": 4, "sequence_length": 8, "max_steps": 8, "checkpoint_every": 3, "threads": 1, **values}
        for name, value in chosen.items():
            getattr(builder, f"with_{name}")(value)
        return builder.build()

    return build


def trained(config, hooks=()):
    """How the run ended, and the model it ended with."""
    trainer = make_trainer(config, hooks=list(hooks))
    return trainer.train(), trainer


@pytest.mark.models
@pytest.mark.parametrize("task, data, rank", [("language_modeling", "split", 0), ("language_modeling", "plain", 2),
                                              ("classification", "split", 2), ("classification", "plain", 0)])
def test_a_model_and_data_by_name_resume_with_the_same_bytes(configure, task, data, rank):
    options = {"task": task, "data": data, "lora_rank": rank}
    whole, dummy = trained(configure(run="whole", **options))
    assert whole.exit_code == 0 and whole.metrics["val_loss"] > 0
    stopped, dummy = trained(configure(run="cut", **options), [StopAt(5)])
    assert stopped.exit_code == 75
    resumed, dummy = trained(configure(run="cut", **options))
    assert (resumed.exit_code, resumed.step) == (0, whole.step)
    assert run_hash(configure(run="whole").run.run_dir) == run_hash(configure(run="cut").run.run_dir)


@pytest.mark.models
@pytest.mark.parametrize("task, trained_parts", [("language_modeling", ("lora_",)), ("classification", ("lora_", "score.modules_to_save"))])
def test_lora_trains_the_adapters_and_a_new_head_and_nothing_else(configure, task, trained_parts):
    config = configure(lora_rank=2, task=task)
    before = {name: value.clone() for name, value in make_model(config, make_data(config)).state_dict().items()}
    dummy, trainer = trained(config)
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    wanted = {name for name in before if any(part in name for part in trained_parts)}
    assert wanted and changed == wanted == {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert len(trainer.optimizer.state) == len(changed)


@pytest.mark.models
def test_the_command_line_trains_evaluates_and_exports_by_name(configure, tmp_path, capsys, hub_folder):
    options = [f"--model=hf:{hub_folder / 'model'}", f"--dataset=hf:{hub_folder / 'split'}", f"--run-dir={tmp_path / 'run'}",
               "--sequence-length=8", "--batch-size=4", "--max-steps=4", "--threads=1", "--lora-rank=2"]
    assert main(["train", *options]) == 0
    assert main(["evaluate", *options]) == 0
    assert main(["export", str(tmp_path / "bundle"), "--format=safetensors", *options]) == 0
    assert "val_loss" in capsys.readouterr().out and sha256_file(tmp_path / "bundle" / "model.safetensors")


@pytest.mark.models
@pytest.mark.parametrize("values, error, words", [
    ({"dataset": "hf:/nowhere/at/all"}, DataError, "'/nowhere/at/all' cannot be loaded"),
    ({"model": "hf:nobody/has-this"}, UsageError, "cannot be loaded"),
    ({"text_column": "texts"}, DataError, "no column 'texts', only ['label', 'text']"),
    ({"task": "classification", "label_column": "text"}, DataError, "not all whole numbers"),
    ({"model": "char_lm"}, UsageError, "needs a tokenizer"),
])
def test_what_cannot_be_loaded_is_told_in_one_message(configure, values, error, words):
    config = configure(**values)
    with pytest.raises(error) as caught:
        make_model(config, make_data(config))
    assert words in str(caught.value)


@pytest.mark.models
def test_weights_in_a_pickle_are_not_read(configure, hub_folder, tmp_path):
    import shutil

    shutil.copytree(hub_folder / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    config = configure(model=f"hf:{tmp_path / 'model'}", tokenizer=str(hub_folder / "model"))
    with pytest.raises(UsageError, match="cannot be loaded"):
        make_model(config, make_data(config))


def test_only_two_tasks_have_data_by_name(small):
    with pytest.raises(UsageError, match="not for masked_lm"):
        make_data(small(dataset="hf:x", task="masked_lm"))


def test_adapters_are_for_models_by_name(small):
    config = small(lora_rank=4)
    with pytest.raises(UsageError, match="lora_rank is for models by name"):
        make_model(config, make_data(config))


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'training-engine\[models\]'"):
        hub._need("transformers")


def test_a_name_is_asked_for():
    with pytest.raises(UsageError, match="needs the name of a model"):
        hub._fetch("model", UsageError, dict, "")


# -- what needs no package of theirs


class Rows:
    """What is used of a data set: names of columns, and columns or slices by index."""

    def __init__(self, **columns):
        self.columns, self.column_names = columns, list(columns)

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {name: values[key] for name, values in self.columns.items()}


class Letters:
    """What is used of a tokenizer, with one token for each letter."""

    eos_token_id, eos_token, pad_token_id, pad_token = 1, "<end>", None, None

    def __len__(self):
        return 40

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "pad_token":
            super().__setattr__("pad_token_id", self.eos_token_id)

    def __call__(self, texts, *, max_length=0, **_options):
        ids = [[ord(letter) - 87 for letter in text] for text in texts]
        if not max_length:
            return {"input_ids": ids}
        cut = [row[:max_length] for row in ids]
        return {"input_ids": torch.tensor([row + [self.pad_token_id] * (max_length - len(row)) for row in cut]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (max_length - len(row)) for row in cut])}


def _sized(**values):
    return TrainingConfig().with_values(sequence_length=4, **values)


def test_texts_become_rows_of_tokens_with_their_ends():
    rows = Rows(text=["abcab", "cc", "abcabca"])
    data = hub._token_rows(_sized(val_fraction=0.5), Letters(), rows, None)
    flat = [10, 11, 12, 10, 11, 1, 12, 12, 1, 10, 11, 12, 10, 11, 12, 10, 1]
    assert data.train.rows.flatten().tolist() == flat[:8]
    assert data.val.rows.flatten().tolist() == flat[8:16]
    assert data.sizes == {"vocab_size": 40, "sequence_length": 4}
    held_out = hub._token_rows(_sized(data_size=1), Letters(), rows, Rows(text=["ab"]))
    assert (held_out.train.rows.tolist(), held_out.val) == ([flat[:4]], None)


def test_texts_and_labels_become_padded_rows():
    rows = Rows(text=["ab", "abcdef", "c", "cc"], label=[0, 2, 1, 2])
    data = hub._labelled_rows(_sized(val_fraction=0.0), Letters(), rows, Rows(text=["aa"], label=[1]))
    assert data.train.tensors["input_ids"][:2].tolist() == [[10, 11, 1, 1], [10, 11, 12, 13]]
    assert data.train.tensors["attention_mask"][0].tolist() == [1, 1, 0, 0]
    assert data.val.tensors["labels"].tolist() == [1]
    assert data.sizes == {"vocab_size": 40, "sequence_length": 4, "num_classes": 3, "pad_token_id": 1}
    parts = hub._labelled_rows(_sized(val_fraction=0.5), Letters(), rows, None)
    assert sorted([*parts.train.tensors["labels"].tolist(), *parts.val.tensors["labels"].tolist()]) == [0, 1, 2, 2]
    assert hub._labelled_rows(_sized(val_fraction=0.0), Letters(), rows, None).val is None


@pytest.mark.parametrize(("rows", "words"), [
    (Rows(words=["a"], label=[0]), r"no column 'text', only \['label', 'words'\]"),
    (Rows(text=["a", None], label=[0, 1]), r"'text' has empty values \(the first in row 1\)"),
    (Rows(text=["a"], label=["spam"]), "not all whole numbers from 0 on, as 'spam'"),
])
def test_columns_that_cannot_be_used(rows, words):
    with pytest.raises(DataError, match=words):
        hub._labelled_rows(_sized(), Letters(), rows, None)


def test_what_cannot_be_fetched_is_one_sentence():
    with pytest.raises(UsageError, match="hf: needs the name of a model or a folder"):
        hub._fetch("model", UsageError, open, "")
    with pytest.raises(DataError, match=r"the data set '/nowhere' cannot be loaded \(FileNotFoundError.*give a local folder"):
        hub._fetch("data set", DataError, open, "/nowhere")
    with pytest.raises(UsageError, match="data by name needs a tokenizer"):
        hub._tokenizer(_sized())
    with pytest.raises(UsageError, match="not for vision_classification"):
        hub.load_data(_sized(task="vision_classification", dataset="hf:x"))
