# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharded checkpoints: torch.distributed.checkpoint plans who writes and reads what; the files are safetensors and JSON, never pickle.

    shard0.safetensors shard1.safetensors ...   the chunks of each rank, under "<file>:<name>@<offsets>"
    shards.json                                 of every sharded tensor its type, shape and chunks

DCP's own storage reads its `.metadata` with pickle; this one takes its place on both ways.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open

from ..durable import read_json, replace_json
from ..errors import CheckpointError, SaveError
from ..tree import DTYPES, Flat, is_sharded
from .layout import SHARDS, is_plain_name, shard_file

WAIT = 600.0  # seconds that rank 0 waits for the shards of the others
POLL = 0.02
_NAMES = {text: dtype for dtype, text in DTYPES.items()}
Written = tuple[int, str]


def key_of(name: str, offsets: Sequence[int]) -> str:
    """The name of a chunk in its file."""
    return f"{name}@{','.join(map(str, offsets))}"


@dataclass
class SharedSave:
    """One rank's part of a save that all ranks make together. token: names the folder they write into; index: rank 0's shards.json."""

    rank: int
    world: int
    token: str
    chunks: dict[str, torch.Tensor]
    index: dict[str, Any]
    given_up: threading.Event

    def done(self, folder: Path, written: Mapping[str, Written]) -> None:
        """Tell rank 0 what this rank has written."""
        replace_json(folder / f"done{self.rank}.json", {"files": written})

    def failed(self, folder: Path, error: BaseException) -> None:
        """Tell rank 0 that this rank cannot write, so that it does not wait."""
        replace_json(folder / f"done{self.rank}.json", {"error": f"{type(error).__name__}: {error}"})

    def collect(self, folder: Path) -> dict[str, Written]:
        """On rank 0: what the others have written, once all have. Their notes are removed. Raises SaveError."""
        out: dict[str, Written] = {}
        limit = time.monotonic() + WAIT
        for rank in range(1, self.world):
            note = folder / f"done{rank}.json"
            while (said := read_json(note)) is None:
                if self.given_up.is_set() or time.monotonic() > limit:
                    raise SaveError(f"rank {rank} has not written its shard into {folder}; all ranks need the same folder, on storage they "
                                    "share")
                time.sleep(POLL)
            if "error" in said:
                raise SaveError(f"rank {rank} could not write its shard: {said['error']}")
            out.update({name: (int(size), str(digest)) for name, (size, digest) in said["files"].items()})
            note.unlink()
        return out


def split(flats: Mapping[str, Flat]) -> tuple[dict[str, Flat], dict[str, torch.Tensor]]:
    """The flats without their sharded tensors, and those by "<file>:<name>"."""
    plain: dict[str, Flat] = {}
    sharded: dict[str, torch.Tensor] = {}
    for file, flat in flats.items():
        kept = {name: tensor for name, tensor in flat.tensors.items() if not is_sharded(tensor)}
        sharded.update({f"{file}:{name}": tensor for name, tensor in flat.tensors.items() if is_sharded(tensor)})
        plain[file] = Flat(kept, flat.skeleton)
    return plain, sharded


def plan_save(tensors: Mapping[str, torch.Tensor], given_up: threading.Event) -> SharedSave:
    """Agree with the other ranks on who writes which chunk of `tensors`; nothing is written yet. All ranks call it together."""
    from torch.distributed.checkpoint import state_dict_saver as dcp

    from .storage import ChunkTaker

    token = [uuid.uuid4().hex[:8]]
    dist.broadcast_object_list(token, src=0)
    taker = ChunkTaker(dist.get_rank())
    try:
        dcp.save(dict(tensors), storage_writer=taker)
    except BaseException as error:  # DCP's own error derives from BaseException
        raise _told(error, SaveError("the ranks could not agree on a sharded save")) from error
    return SharedSave(dist.get_rank(), dist.get_world_size(), token[0], taker.chunks, taker.index, given_up)


def read_into(folder: Path, targets: Mapping[str, torch.Tensor]) -> None:
    """Fill `targets` ("<file>:<name>" -> tensor) out of a checkpoint's shards. With sharded targets all ranks call it together."""
    from torch.distributed.checkpoint import state_dict_loader as dcp

    from .storage import ChunkReader

    together = any(is_sharded(tensor) for tensor in targets.values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one process alone puts the chunks together is what is meant
            dcp.load(dict(targets), storage_reader=ChunkReader(folder, read_index(folder)), no_dist=not together)
    except BaseException as error:  # DCP's own error derives from BaseException
        raise _told(error, CheckpointError(f"the shards of {folder} do not fit")) from error


def _told(error: BaseException, ours: Exception) -> BaseException:
    """The error to raise for one out of DCP: its own kind with our words, anything that is no Exception as it is."""
    known = isinstance(error, Exception) or type(error).__name__ == "CheckpointException"
    return type(ours)(f"{ours}: {error}") if known else error


def read_index(folder: Path) -> dict[str, Any]:
    """shards.json. Raises CheckpointError where it is not what it should be."""
    try:
        index = json.loads((folder / SHARDS).read_text(encoding="utf-8"))
        for facts in index.values():
            _NAMES[facts["dtype"]]
            torch.Size(facts["shape"])
            for chunk in facts["chunks"]:
                if not (is_plain_name(chunk["file"]) and len(chunk["offsets"]) == len(chunk["sizes"]) == len(facts["shape"])):
                    raise ValueError(f"{chunk} is not a chunk of the shape {facts['shape']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / SHARDS} is not an index of shards: {type(error).__name__}: {error}") from error
    return dict(index)


def empty_like(facts: Mapping[str, Any]) -> torch.Tensor:
    """A whole tensor to assemble an entry of the index in."""
    return torch.empty(facts["shape"], dtype=_NAMES[facts["dtype"]])


def dtype_of(facts: Mapping[str, Any]) -> torch.dtype:
    """The type of an entry of the index."""
    return _NAMES[facts["dtype"]]


def read_chunk(folder: Path, file: str, key: str) -> torch.Tensor:
    """One chunk. Raises CheckpointError."""
    try:
        with safe_open(folder / file, framework="pt") as archive:
            tensor: torch.Tensor = archive.get_tensor(key)
            return tensor
    except Exception as error:  # the library raises its own type, OSError and KeyError, all of which mean the same here
        raise CheckpointError(f"{folder / file} lacks the chunk {key!r}, or is damaged: {type(error).__name__}: {error}") from error


__all__ = ["SHARDS", "SharedSave", "plan_save", "read_index", "read_into", "shard_file", "split"]
