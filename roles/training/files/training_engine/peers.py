# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranks of a run: who we are, and the few things all of them have to agree on."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from .errors import PeerError, UsageError

TIMEOUT = datetime.timedelta(minutes=10)


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def place_from(env: Mapping[str, str]) -> Place:
    """The place out of one source: RANK and WORLD_SIZE together (our launcher, torchrun), else Slurm's step, else a single process.

    Raises UsageError for half a description: a stale WORLD_SIZE would let a single process wait for peers that never come.
    """
    for rank, world, local in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")):
        if rank in env and world in env:
            found = Place(_number(env, rank), _number(env, world), _number(env, local))
            if not 0 <= found.rank < found.world:
                raise UsageError(f"{rank}={found.rank} is not one of {world}={found.world} ranks")
            return found
    if env.get("WORLD_SIZE", "1") != "1":
        raise UsageError(f"WORLD_SIZE={env['WORLD_SIZE']} is set but RANK is not; start with `python -m training_engine launch`, torchrun "
                         "or srun, or unset WORLD_SIZE")
    return Place()


def _number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}={text!r} is not a number; start with `python -m training_engine launch`, torchrun or srun, or unset "
                         f"{name}") from None


class Peers:
    """Agreement between ranks. With one rank every call is free. Raises PeerError when a rank went away."""

    def __init__(self, place: Place, device: torch.device | None = None) -> None:
        self.rank, self.world = place.rank, place.world
        self._control: dist.ProcessGroup | None = None
        if self.world > 1:
            self._join(place, device or torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this rank writes the files."""
        return self.rank == 0

    def _join(self, place: Place, device: torch.device) -> None:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, rank=place.rank, world_size=place.world, timeout=TIMEOUT)
            # Small agreements go over the CPU, beside the gradients.
            self._control = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise PeerError(f"rank {place.rank} of {place.world} could not join the others at {os.environ['MASTER_ADDR']}:"
                            f"{os.environ['MASTER_PORT']}: {error}") from error

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sums over all ranks, in fp64."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        self._guard(lambda: dist.all_reduce(tensor, group=self._control))
        return [float(value) for value in tensor.tolist()]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sum([0.0])

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks, in their order, on every rank."""
        if self.world == 1:
            return [data]
        lengths = [torch.zeros(1, dtype=torch.int64) for dummy in range(self.world)]
        self._guard(lambda: dist.all_gather(lengths, torch.tensor([len(data)]), group=self._control))
        longest = max(int(length) for length in lengths)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[:len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else mine[:0]
        every = [torch.zeros(longest, dtype=torch.uint8) for dummy in range(self.world)]
        self._guard(lambda: dist.all_gather(every, mine, group=self._control))
        return [bytes(part[:int(length)].numpy().tobytes()) for part, length in zip(every, lengths, strict=True)]

    def from_first(self, text: str) -> str:
        """The text that rank 0 gave, on every rank."""
        return self.gather(text.encode() if self.first else b"")[0].decode()

    @staticmethod
    def _guard(collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            raise PeerError(f"another rank went away during an agreement: {error}") from error

    def leave(self) -> None:
        """Leave the group in good order."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error out of a collective of torch (in a backward pass, say) means that a peer is gone."""
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)
