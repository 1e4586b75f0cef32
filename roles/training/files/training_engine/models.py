# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small models to train, measure and test with: a character language model, a perceptron and a vision transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from .registry import Registry

models: Registry[Callable[[Mapping[str, int]], nn.Module]] = Registry("model")


class Block(nn.Module):
    """A pre-norm transformer block with scaled-dot-product attention; input and output (B, T, D)."""

    def __init__(self, width: int, heads: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, dropout_p=drop)
        x = x + F.dropout(self.proj(mixed.transpose(1, 2).reshape(batch, length, width)), self.dropout, self.training)
        hidden: torch.Tensor = x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), self.dropout, self.training)
        return hidden


class CharLM(nn.Module):
    """A decoder over characters. input_ids (B, T) to logits (B, T, V); the head shares its weights with the embedding."""

    def __init__(self, vocab_size: int, sequence_length: int, *, width: int = 64, layers: int = 2, heads: int = 4,
                 dropout: float = 0.1) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(vocab_size, width), nn.Embedding(sequence_length, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal=True) for dummy in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V)."""
        x = self.embed(input_ids) + self.position.weight[:input_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


class ImageMLP(nn.Module):
    """A perceptron over pixels: pixel_values (B, C, H, W) to logits (B, classes)."""

    def __init__(self, inputs: int, classes: int, *, width: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes)."""
        logits: torch.Tensor = self.body(pixel_values)
        return logits


class TinyViT(nn.Module):
    """A vision transformer over patches: pixel_values (B, C, H, W) to logits (B, classes)."""

    def __init__(self, channels: int, image_size: int, classes: int, *, patch: int = 2, width: int = 48, layers: int = 2,
                 heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn((image_size // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal=False) for dummy in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes)."""
        x = self.patch(pixel_values).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x.mean(1)))
        return logits


@models.register("char_lm")
def char_lm(sizes: Mapping[str, int]) -> nn.Module:
    """A character model of 2 layers, width 64."""
    return CharLM(sizes["vocab_size"], sizes["sequence_length"])


@models.register("char_lm_medium")
def char_lm_medium(sizes: Mapping[str, int]) -> nn.Module:
    """A character model of 4 layers, width 256."""
    return CharLM(sizes["vocab_size"], sizes["sequence_length"], width=256, layers=4, heads=8)


@models.register("mlp")
def mlp(sizes: Mapping[str, int]) -> nn.Module:
    """A perceptron for images."""
    return ImageMLP(sizes["channels"] * sizes["image_size"] ** 2, sizes["num_classes"])


@models.register("vit")
def vit(sizes: Mapping[str, int]) -> nn.Module:
    """A small vision transformer."""
    return TinyViT(sizes["channels"], sizes["image_size"], sizes["num_classes"])
