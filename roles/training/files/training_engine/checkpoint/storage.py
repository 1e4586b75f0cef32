# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What torch.distributed.checkpoint writes to and reads from: chunks of tensors, in safetensors files. Imported for sharded states only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItemType
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from ..errors import SaveError
from ..tree import DTYPES
from .layout import shard_file
from .shards import dtype_of, key_of, read_chunk

Identity = str | os.PathLike[str] | None


class ChunkTaker(StorageWriter):
    """A writer that only takes note of the chunks which the planner gives to this rank; the engine writes them, in its own order."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.chunks: dict[str, torch.Tensor] = {}
        self.index: dict[str, Any] = {}

    def reset(self, checkpoint_id: Identity = None) -> None:
        """Nothing is kept between saves."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan is taken as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans are taken as they are."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Take this rank's chunks. Raises SaveError for anything that is no tensor: it would have to be pickled."""
        results = []
        for item in plan.items:
            if item.type is WriteItemType.BYTE_IO:
                raise SaveError(f"{item.index.fqn} is not a tensor")
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, torch.Tensor)
            self.chunks[key_of(item.index.fqn, item.index.offset or [0] * tensor.dim())] = tensor.detach()
            results.append(WriteResult(item.index, tensor.nbytes, shard_file(self.rank)))
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On rank 0: the index of all chunks."""
        files = {(result.index.fqn, tuple(result.index.offset or ())): result.storage_data for rank in results for result in rank}
        for name, facts in metadata.state_dict_metadata.items():
            assert isinstance(facts, TensorStorageMetadata)
            chunks = [{"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), "file": files[name, tuple(chunk.offsets)]}
                      for chunk in facts.chunks]
            self.index[name] = {"dtype": DTYPES[facts.properties.dtype], "shape": list(facts.size), "chunks": chunks}

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """No names: the engine names folders."""
        return False


class ChunkReader(StorageReader):
    """Reads chunks out of a checkpoint folder, as shards.json says where they are."""

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder, self.index = folder, index
        self._files = {(name, tuple(chunk["offsets"])): chunk["file"] for name, facts in index.items() for chunk in facts["chunks"]}

    def reset(self, checkpoint_id: Identity = None) -> None:
        """Nothing is kept between loads."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index in DCP's own terms."""
        known: dict[str, Any] = {}
        for name, facts in self.index.items():
            chunks = [ChunkStorageMetadata(torch.Size(chunk["offsets"]), torch.Size(chunk["sizes"])) for chunk in facts["chunks"]]
            known[name] = TensorStorageMetadata(TensorProperties(dtype_of(facts)), torch.Size(facts["shape"]), chunks)
        return Metadata(known)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan is taken as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans are taken as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy the wanted part of each chunk to where the planner wants it."""
        for item in plan.items:
            place: MetadataIndex = item.storage_index
            offsets = tuple(place.offset or ())
            chunk = read_chunk(self.folder, self._files[place.fqn, offsets], key_of(place.fqn, offsets))
            for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                chunk = chunk.narrow(dim, start, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(chunk)
            planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """No names: the engine names folders."""
        return False
