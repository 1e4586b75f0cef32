# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nested Python values with tensors in them, as one safetensors file: no pickle, so that loading a checkpoint runs no code.

The tensors go into the file as they are; everything else goes as JSON into the header's metadata. Tensors that are the same memory
(tied weights) are stored once and are the same memory again after loading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from safetensors import safe_open

from .durable import Buffer
from .errors import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
          torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


@dataclass(frozen=True)
class Flat:
    """A nested value taken apart: the tensors by name, and the rest as JSON text."""

    tensors: dict[str, torch.Tensor]
    skeleton: str

    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def is_sharded(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor is spread over ranks. Told by its name: the class is imported by those who make such tensors only."""
    return type(tensor).__name__ == "DTensor"


def flatten(value: Any) -> Flat:
    """Take a nested value apart. Raises CheckpointError for a type that the format does not know.

    Names of tensors are their path in the value, so that a model's state dict keeps its names for every other reader.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[tuple[Any, ...], str] = {}
    return Flat(tensors, json.dumps(_pack(value, "", tensors, seen), separators=(",", ":")))


def _pack(value: Any, path: str, tensors: dict[str, torch.Tensor], seen: dict[tuple[Any, ...], str]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, torch.Tensor):
        return {"t": _add_tensor(value.detach(), path or "value", tensors, seen)}
    if isinstance(value, int):
        return value if abs(value) < 2**53 else {"i": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"f": str(value)}
    if isinstance(value, np.ndarray):
        return {"n": _add_tensor(torch.from_numpy(value.copy()), path or "value", tensors, seen), "d": str(value.dtype)}
    return _pack_container(value, path, tensors, seen)


def _pack_container(value: Any, path: str, tensors: dict[str, torch.Tensor], seen: dict[tuple[Any, ...], str]) -> Any:
    def inner(key: Any, item: Any) -> Any:
        return _pack(item, f"{path}.{key}" if path else str(key), tensors, seen)

    if isinstance(value, (list, tuple)):
        return {"l" if isinstance(value, list) else "u": [inner(index, item) for index, item in enumerate(value)]}
    if isinstance(value, Mapping):
        bad = [key for key in value if not isinstance(key, (str, int))]
        if bad:
            raise CheckpointError(f"state at {path or 'top'!r} has the key {bad[0]!r}; keys must be text or whole numbers")
        return {"m": [[key, inner(key, item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, (np.integer, np.floating)):
        return _pack(value.item(), path, tensors, seen)
    raise CheckpointError(f"state at {path or 'top'!r} is a {type(value).__name__}; a checkpoint holds tensors, arrays, numbers, text, "
                          "lists and dicts. Give state_dict() of the object instead")


def _add_tensor(tensor: torch.Tensor, path: str, tensors: dict[str, torch.Tensor], seen: dict[tuple[Any, ...], str]) -> str:
    if tensor.dtype not in DTYPES:
        raise CheckpointError(f"the tensor {path!r} has the type {tensor.dtype}, which the format does not hold")
    own = tensor.to_local() if is_sharded(tensor) else tensor
    identity = (own.untyped_storage().data_ptr(), own.storage_offset(), tuple(tensor.shape), own.stride(), tensor.dtype)
    if own.numel() and identity in seen:
        return seen[identity]
    name = path
    while name in tensors or name == "__metadata__":
        name += "'"
    tensors[name] = tensor
    seen[identity] = name
    return name


def unflatten(skeleton: str, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of `flatten`."""
    return _unpack(json.loads(skeleton), tensors)


def _unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "n" in value:
        return tensors[value["n"]].numpy().astype(value["d"], copy=False)
    (kind, item), *dummy = value.items()
    if kind == "t":
        return tensors[item]
    if kind == "m":
        return {key: _unpack(inner, tensors) for key, inner in item}
    if kind in ("l", "u"):
        parts = [_unpack(inner, tensors) for inner in item]
        return parts if kind == "l" else tuple(parts)
    scalars: dict[str, Any] = {"i": int, "f": float, "b": bytes.fromhex}
    return scalars[kind](item)


def serialize(flat: Flat, extra: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """The bytes of a safetensors file, part by part and without a copy of CPU tensors."""
    header: dict[str, Any] = {"__metadata__": {"skeleton": flat.skeleton, "format": "pt", **(extra or {})}}
    # Readers map the file into memory: the widest types come first, so that each tensor lies on a multiple of its item size.
    ordered = dict(sorted(flat.tensors.items(), key=lambda pair: -pair[1].element_size()))
    offset = 0
    for name, tensor in ordered.items():
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in ordered.values():
        if tensor.numel():
            yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def load(path: Path, elsewhere: Mapping[str, torch.Tensor] | None = None) -> Any:
    """Read a file written with `serialize`; tensors that are not in it come from `elsewhere`.

    Raises CheckpointError naming the file when it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as archive:
            skeleton = (archive.metadata() or {})["skeleton"]
            # Copies: what the library returns may be a mapping of the file, with another alignment than torch's own memory, and the
            # last bit of a matrix product can depend on the alignment.
            tensors = {name: archive.get_tensor(name).clone() for name in archive.keys()}  # noqa: SIM118  # not a dict
            return unflatten(skeleton, {**(elsewhere or {}), **tensors})
    except Exception as error:  # the library raises its own type, OSError, KeyError and ValueError, all of which mean the same here
        raise CheckpointError(f"{path} is not a state file of the engine, or is damaged: {type(error).__name__}: {error}") from error
