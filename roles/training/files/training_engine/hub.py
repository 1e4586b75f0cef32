# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and data of Hugging Face: `hf:NAME`, or `hf:FOLDER` without a network. Weights are safetensors, and no code comes with them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import TrainingConfig
from .data.sources import DataSet, TensorSource, TokenSource, fingerprint, split
from .errors import DataError, EngineError, UsageError
from .tasks import tasks

PREFIX = "hf:"
HEADS = {"language_modeling": "AutoModelForCausalLM", "masked_lm": "AutoModelForMaskedLM", "seq2seq": "AutoModelForSeq2SeqLM",
         "classification": "AutoModelForSequenceClassification", "vision_classification": "AutoModelForImageClassification"}
CLASSIFIERS = ("score", "classifier", "classification_head")  # as transformers calls them
HELD_OUT = ("validation", "val", "test")  # the first of these splits is for evaluation


def is_named(name: str) -> bool:
    """Whether a model or data set is one of Hugging Face."""
    return name.startswith(PREFIX)


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UsageError(f"models and data by name need {package}: pip install 'training-engine[models]' ({error})") from error


def _fetch(what: str, kind: type[EngineError], load: Callable[..., Any], name: str, **options: Any) -> Any:
    """What `load` returns for a name. Raises `kind` with the first line of whatever it says."""
    if not name:
        raise UsageError(f"{PREFIX} needs the name of a {what} or a folder behind it")
    try:
        return load(name, **options)
    except Exception as error:  # the libraries raise dozens of kinds: of their own, of HTTP clients and of file formats
        first = str(error).strip().partition("\n")[0]
        raise kind(f"the {what} {name!r} cannot be loaded ({type(error).__name__}: {first}); give a local folder, or a name that the "
                   "network or the cache of huggingface_hub has. Only safetensors weights are read, and no code of a repository is "
                   "run") from error


def load_model(config: TrainingConfig, sizes: Mapping[str, int]) -> nn.Module:
    """The model with the head that the task wants, in fp32; with `lora_rank`, its weights frozen and adapters on its linear layers."""
    transformers = _need("transformers")
    kind, name = HEADS[tasks.get(config.run.task).task_type], config.run.model.removeprefix(PREFIX)
    labels = {"num_labels": sizes["num_classes"], "ignore_mismatched_sizes": True} if "num_classes" in sizes else {}
    model: nn.Module = _fetch("model", UsageError, getattr(transformers, kind).from_pretrained, name, use_safetensors=True,
                              trust_remote_code=False, dtype=torch.float32, **labels)
    settings: Any = model.config
    settings.use_cache = False
    known = getattr(settings, "vocab_size", None)
    if known is not None and sizes.get("vocab_size", 0) > known:
        raise UsageError(f"the data has {sizes['vocab_size']} different tokens, the model {name!r} knows {known}; use its own tokenizer")
    if getattr(settings, "pad_token_id", None) is None and "pad_token_id" in sizes:
        settings.pad_token_id = sizes["pad_token_id"]  # classifiers look for the last token that is none
    return adapted(model, config.run.lora_rank, with_head="num_labels" in labels) if config.run.lora_rank else model


def adapted(model: nn.Module, rank: int, *, with_head: bool = False) -> nn.Module:
    """The model with LoRA adapters on its linear layers; nothing else of it is trained but a classifier's head, which is new."""
    peft = _need("peft")
    heads = [name for name, dummy in model.named_children() if with_head and name in CLASSIFIERS] or None
    made: nn.Module = peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear",
                                                                 modules_to_save=heads))
    return made


def load_data(config: TrainingConfig) -> DataSet:
    """Texts of a data set as tokens of the model's tokenizer, in memory: rows cut out of all of them, or padded ones with their labels."""
    task, name = tasks.get(config.run.task).task_type, config.data.dataset.removeprefix(PREFIX)
    if task not in ("language_modeling", "classification"):
        raise UsageError(f"data by name is made ready for language_modeling and classification, not for {task}: make a DataSet of your own")
    found, encode = _splits(name), _tokenizer(config)
    held_out = next((found[part] for part in HELD_OUT if part in found), None)
    make = _token_rows if task == "language_modeling" else _labelled_rows
    return make(config, encode, found["train"], held_out)


def _splits(name: str) -> Mapping[str, Any]:
    library = _need("datasets")
    saved = any((Path(name) / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    found = _fetch("data set", DataError, library.load_from_disk if saved else library.load_dataset, name)
    parts: Mapping[str, Any] = found if isinstance(found, Mapping) else {"train": found}
    if "train" not in parts:
        raise DataError(f"the data set {name!r} has no split 'train', only {sorted(parts)}")
    return parts


def _tokenizer(config: TrainingConfig) -> Any:
    name = config.data.tokenizer or (config.run.model if is_named(config.run.model) else "")
    if not name:
        raise UsageError("data by name needs a tokenizer: set tokenizer, or use a model by name")
    load = _need("transformers").AutoTokenizer.from_pretrained
    return _fetch("tokenizer", UsageError, load, name.removeprefix(PREFIX), trust_remote_code=False)


def _column(rows: Any, name: str, size: int) -> list[Any]:
    """The first `size` values (0: all) of a column. Raises DataError where there is none of this name, or an empty value in it."""
    if name not in rows.column_names:
        raise DataError(f"the data set has no column {name!r}, only {sorted(rows.column_names)}; set text_column or label_column")
    values = list(rows[:size][name] if size else rows[name])
    if any(value is None for value in values):
        raise DataError(f"the column {name!r} has empty values (the first in row {values.index(None)})")
    return values


def _token_rows(config: TrainingConfig, encode: Any, train: Any, held_out: Any) -> DataSet:
    data = config.data
    end = [encode.eos_token_id] if encode.eos_token_id is not None else []

    def tokens(rows: Any) -> torch.Tensor:
        lists = encode(_column(rows, data.text_column, data.data_size), add_special_tokens=False)["input_ids"]
        return torch.tensor(list(chain.from_iterable([*ids, *end] for ids in lists)), dtype=torch.int64)

    whole, length = tokens(train), data.sequence_length
    rows = len(whole) // length
    cut = len(whole) if held_out is not None else (rows - int(rows * data.val_fraction)) * length
    rest = tokens(held_out) if held_out is not None else whole[cut:]
    val = TokenSource(rest, length)
    return DataSet(TokenSource(whole[:cut], length), val if len(val) else None, "text", fingerprint(whole, rest),
                   {"vocab_size": len(encode), "sequence_length": length})


def _labelled_rows(config: TrainingConfig, encode: Any, train: Any, held_out: Any) -> DataSet:
    data = config.data
    if encode.pad_token_id is None:
        encode.pad_token = encode.eos_token

    def tensors(rows: Any) -> dict[str, torch.Tensor]:
        labels = _column(rows, data.label_column, data.data_size)
        if not all(isinstance(label, int) and label >= 0 for label in labels):
            raise DataError(f"the labels in {data.label_column!r} are not all whole numbers from 0 on, as {labels[0]!r}; number them")
        made = encode(_column(rows, data.text_column, data.data_size), truncation=True, padding="max_length",
                      max_length=data.sequence_length, return_tensors="pt")
        return {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"], "labels": torch.tensor(labels)}

    whole = tensors(train)
    sizes = {"vocab_size": len(encode), "sequence_length": data.sequence_length, "num_classes": int(whole["labels"].max()) + 1,
             "pad_token_id": int(encode.pad_token_id)}
    if held_out is not None:
        rest = tensors(held_out)
    else:
        kept, held = split(len(whole["labels"]), data.val_fraction, config.run.seed)
        whole, rest = ({name: tensor[rows] for name, tensor in whole.items()} for rows in (kept, held))
    return DataSet(TensorSource(**whole), TensorSource(**rest) if len(rest["labels"]) else None, "text",
                   fingerprint(*whole.values(), *rest.values()), sizes)
