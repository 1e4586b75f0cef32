# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collators: a list of samples becomes one batch. They are chosen by modality and registered by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch

from ..errors import DataError
from ..registry import Registry

Sample = dict[str, Any]
Batch = dict[str, torch.Tensor]
Collator = Callable[[Sequence[Sample]], Batch]
IGNORE = -100  # the label of positions that count nothing; never a token id, so that token 0 stays a token


class LossBatch(TypedDict, total=False):
    """The names that losses and models know. Shapes: B samples, T positions, C channels, H x W pixels."""

    input_ids: torch.Tensor  # (B, T) int64
    labels: torch.Tensor  # (B, T) or (B,) int64, IGNORE where nothing is to be predicted
    attention_mask: torch.Tensor  # (B, T) 1 for real positions, 0 for padding
    document_ids: torch.Tensor  # (B, T) which document a position of a packed row belongs to
    pixel_values: torch.Tensor  # (B, C, H, W) float


NORMALIZATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1.0,)),
    "unit": ((0.0,), (1.0,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "digits": ((0.3053,), (0.3760,)),
}
collators: Registry[Callable[..., Collator]] = Registry("collator")


@collators.register("text")
class TextCollator:
    """Pads token rows to the longest. Samples: input_ids, and labels if they differ from the tokens."""

    def __init__(self, *, pad_id: int = 0, **_: Any) -> None:
        self.pad_id = pad_id

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Batch with input_ids, labels (IGNORE at padding) and attention_mask, all (B, T)."""
        rows = [torch.as_tensor(sample["input_ids"]) for sample in samples]
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        labels = torch.full((len(rows), length), IGNORE, dtype=torch.int64)
        mask = torch.zeros((len(rows), length), dtype=torch.int64)
        for number, (row, sample) in enumerate(zip(rows, samples, strict=True)):
            target = torch.as_tensor(sample.get("labels", row))
            if len(target) != len(row):
                raise DataError(f"a sample has {len(row)} input_ids and {len(target)} labels; they must be of one length")
            ids[number, :len(row)] = row
            labels[number, :len(row)] = target
            mask[number, :len(row)] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


@collators.register("vision")
class VisionCollator:
    """Stacks images and normalises them with a preset, or with (mean, std) of one's own. Samples: pixel_values (C, H, W), labels."""

    def __init__(self, *, normalization: str | tuple[Sequence[float], Sequence[float]] = "unit", **_: Any) -> None:
        if isinstance(normalization, str) and normalization not in NORMALIZATION:
            raise DataError(f"there is no normalisation {normalization!r}; available: {', '.join(NORMALIZATION)}, or give (mean, std)")
        mean, std = NORMALIZATION[normalization] if isinstance(normalization, str) else normalization
        self._mean = torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1)
        self._scale = normalization != "none"

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) of bytes (0 to 255) or floats to normalised floats. Raises DataError when the channels do not fit the preset."""
        channels = self._mean.shape[0]
        if channels not in (1, pixels.shape[1]):
            raise DataError(f"the images have {pixels.shape[1]} channels, the normalisation has {channels}; choose another preset")
        values = pixels.float() / 255.0 if pixels.dtype == torch.uint8 and self._scale else pixels.float()
        return (values - self._mean) / self._std

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Batch with pixel_values (B, C, H, W) and labels (B,), whole numbers. Raises DataError for labels that are not."""
        pixels = torch.stack([torch.as_tensor(sample["pixel_values"]) for sample in samples])
        labels = [int(sample["labels"]) for sample in samples]
        if labels != [sample["labels"] for sample in samples]:
            raise DataError(f"the labels {[float(sample['labels']) for sample in samples]} are not all whole numbers; for a regression "
                            "give MapDataModule a collator of your own")
        return {"pixel_values": self.normalize(pixels), "labels": torch.tensor(labels)}


@collators.register("multimodal")
class MultimodalCollator:
    """Text and image of each sample: the text collator's batch with pixel_values beside it."""

    def __init__(self, **options: Any) -> None:
        self._text, self._vision = TextCollator(**options), VisionCollator(**options)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Batch with input_ids, labels, attention_mask and pixel_values."""
        pixels = torch.stack([torch.as_tensor(sample["pixel_values"]) for sample in samples])
        return {**self._text(samples), "pixel_values": self._vision.normalize(pixels)}
