# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of samples that need no network: a text of the standard library, scikit-learn's digits, synthetic text and images.

A source is a sequence of samples. One that can also give a ready batch for many indices (`fetch`) saves most of the cost of loading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from .. import rng
from ..config import DataSection
from ..errors import DataError
from ..registry import Registry
from .collate import IGNORE, Batch, Sample, VisionCollator


class Source(Protocol):
    """A sequence of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class BatchSource(Protocol):
    """A source that gives a ready batch."""

    def fetch(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        """The batch of these samples."""


class TensorSource:
    """Samples that are rows of tensors in memory, one tensor for each name."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise DataError(f"the tensors of a source have different lengths: {sizes}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int) -> Sample:
        return {name: tensor[index] for name, tensor in self.tensors.items()}

    def fetch(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        """See BatchSource. Gathered by torch, so that the memory is aligned alike in every process."""
        chosen = torch.from_numpy(indices)
        return {name: tensor.index_select(0, chosen) for name, tensor in self.tensors.items()}


class TokenSource:
    """Rows of `length` tokens cut one after the other out of one long text. Labels are the tokens; the loss shifts them."""

    def __init__(self, tokens: torch.Tensor, length: int) -> None:
        self.rows = tokens[:len(tokens) // length * length].reshape(-1, length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return {"input_ids": self.rows[index]}

    def fetch(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        """See BatchSource: input_ids and labels are the same memory."""
        rows = self.rows.index_select(0, torch.from_numpy(indices))
        return {"input_ids": rows, "labels": rows}


@dataclass
class Transformed:
    """A source with a random transformation; item `index` of `epoch` gets its own generator, whatever process loads it."""

    source: Source
    transform: Callable[[Sample, np.random.Generator], Sample]
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        generator = np.random.Generator(np.random.PCG64(rng.mix(self.seed, self.epoch, index, 2)))
        return self.transform(self.source[index], generator)

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader before each batch."""
        self.epoch = epoch


@dataclass(frozen=True)
class DataSet:
    """Two sources, the sizes a model needs to know, and a hash of the content."""

    train: Source
    val: Source | None
    modality: str
    fingerprint: str
    sizes: dict[str, int] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


datasets: Registry[Callable[[DataSection, int], DataSet]] = Registry("dataset")


def fingerprint(*tensors: torch.Tensor) -> str:
    """sha256 over the bytes of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def split(count: int, fraction: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of `count` samples are for training, and which are held out."""
    order = torch.from_numpy(rng.permutation(count, seed, -1))
    held = int(count * fraction)
    return order[held:], order[:held]


def _tensor_set(config: DataSection, seed: int, modality: str, sizes: dict[str, int], meta: dict[str, Any],
                tensors: dict[str, torch.Tensor]) -> DataSet:
    if config.data_size:
        tensors = {name: tensor[:config.data_size] for name, tensor in tensors.items()}
    train, val = split(len(next(iter(tensors.values()))), config.val_fraction, seed)
    parts = [TensorSource(**{name: tensor[rows] for name, tensor in tensors.items()}) for rows in (train, val)]
    return DataSet(parts[0], parts[1] if len(val) else None, modality, fingerprint(*tensors.values()), sizes, meta)


def text_set(text: str, config: DataSection) -> DataSet:
    """Characters of a text as tokens; the end of the text is the validation part."""
    letters = sorted(set(text))
    index = {letter: number for number, letter in enumerate(letters)}
    tokens = torch.tensor([index[letter] for letter in text], dtype=torch.int64)
    if config.data_size:
        tokens = tokens[:config.data_size * config.sequence_length]
    rows = len(tokens) // config.sequence_length
    cut = (rows - int(rows * config.val_fraction)) * config.sequence_length
    val = TokenSource(tokens[cut:], config.sequence_length)
    return DataSet(TokenSource(tokens[:cut], config.sequence_length), val if len(val) else None, "text", fingerprint(tokens),
                   {"vocab_size": len(letters), "sequence_length": config.sequence_length}, {"letters": "".join(letters)})


@datasets.register("text")
def standard_library_text(config: DataSection, _seed: int) -> DataSet:
    """The reference topics that come with Python: 465 000 characters of English. They differ between versions of Python, so their hash
    is part of every checkpoint."""
    from pydoc_data import topics

    return text_set("\n\n".join(topics.topics[name] for name in sorted(topics.topics)), config)


@datasets.register("file")
def text_file(config: DataSection, _seed: int) -> DataSet:
    """The UTF-8 text file that `text_file` names."""
    if not config.text_file:
        raise DataError("the data set 'file' needs the option text_file")
    try:
        return text_set(Path(config.text_file).read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"text_file {config.text_file!r} cannot be read as text: {error}") from error


@datasets.register("digits")
def digits(config: DataSection, seed: int) -> DataSet:
    """scikit-learn's 1797 images of digits, 8 x 8 pixels, as (1, 8, 8) floats of 0 to 1, normalised once."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the data set 'digits' needs scikit-learn: pip install 'training-engine[data]'") from error
    raw = load_digits()
    pixels = torch.tensor(np.asarray(raw.images), dtype=torch.float32).unsqueeze(1) / 16.0
    pixels = VisionCollator(normalization=config.normalization).normalize(pixels)
    tensors = {"pixel_values": pixels, "labels": torch.tensor(np.asarray(raw.target), dtype=torch.int64)}
    return _tensor_set(config, seed, "vision", {"num_classes": 10, "image_size": 8, "channels": 1}, {}, tensors)


@datasets.register("synthetic_text")
def synthetic_text(config: DataSection, seed: int) -> DataSet:
    """Rows of different lengths out of a noisy counting language with 32 tokens (so there is something to learn), padded and masked."""
    count, length, vocab = config.data_size or 512, config.sequence_length, 32
    draw = np.random.Generator(np.random.PCG64(rng.mix(seed, 3)))
    start, stride = draw.integers(0, vocab, (count, 1)), draw.integers(1, 4, (count, 1))
    ids = torch.from_numpy((start + stride * np.arange(length)) % vocab)
    mask = torch.from_numpy((np.arange(length) < draw.integers(max(2, length // 4), length + 1, (count, 1))).astype(np.int64))
    labels = ids.masked_fill(mask == 0, IGNORE)
    return _tensor_set(config, seed, "text", {"vocab_size": vocab, "sequence_length": length}, {},
                       {"input_ids": ids * mask, "labels": labels, "attention_mask": mask})


@datasets.register("synthetic_images")
def synthetic_images(config: DataSection, seed: int) -> DataSet:
    """Images of 3 x 16 x 16 whose class is the place of a bright square, with noise."""
    count = config.data_size or 512
    draw = np.random.Generator(np.random.PCG64(rng.mix(seed, 4)))
    labels = draw.integers(0, 4, count)
    pixels = draw.normal(0.3, 0.1, (count, 3, 16, 16)).astype(np.float32)
    for number, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        pixels[number, :, row * 8:row * 8 + 8, column * 8:column * 8 + 8] += 0.5
    return _tensor_set(config, seed, "vision", {"num_classes": 4, "image_size": 16, "channels": 3}, {},
                       {"pixel_values": torch.from_numpy(pixels), "labels": torch.from_numpy(labels)})


def sequence_set(samples: Sequence[Sample], modality: str, *, val: Sequence[Sample] | None = None, **sizes: int) -> DataSet:
    """A data set out of a list of samples of one's own; `fingerprint` covers their number and names only."""
    if len(samples) and not isinstance(samples[0], Mapping):
        raise DataError(f"a sample is a {type(samples[0]).__name__}; samples are dicts of names and tensors, such as "
                        "{'pixel_values': ..., 'labels': ...} or {'input_ids': ...}")
    names = ",".join(sorted(samples[0])) if len(samples) else ""
    return DataSet(samples, val, modality, hashlib.sha256(f"{len(samples)}:{names}".encode()).hexdigest(), sizes)
