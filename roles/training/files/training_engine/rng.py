# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random numbers: seeds that follow from (seed, window, rank), and every generator's state as plain data for the checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

MASK = 2**64 - 1


def mix(*parts: int) -> int:
    """A well-spread 63-bit number out of whole numbers (splitmix64 over the parts); the same on every platform."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & MASK)) & MASK
        state = (state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 1


def permutation(size: int, *parts: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """An order of range(size) as a pure function of `parts`; it does not depend on the version of numpy or torch."""
    keys = np.arange(size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + np.uint64(mix(*parts))
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
    return np.argsort(keys, kind="stable").astype(np.int64)


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed Python, numpy and torch (CPU and accelerators) of this process."""
    value = mix(seed, rank)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    torch.manual_seed(value)


def seed_window(seed: int, window: int, rank: int) -> None:
    """Seed torch's generators for one window, so that dropout does not depend on who drew numbers before it."""
    value = mix(seed, window, rank, 1)
    torch.default_generator.manual_seed(value)
    if _cuda_in_use():
        torch.cuda.manual_seed(value)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch has no annotation there


def capture() -> dict[str, Any]:
    """The state of every generator of this process: Python, numpy's global one, torch on the CPU and on each CUDA device."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
    return {"python": {"version": version, "internal": np.asarray(internal, dtype=np.int64), "gauss": gauss},
            "numpy": {"kind": str(kind), "keys": np.asarray(keys, dtype=np.int64), "position": int(position),
                      "has_gauss": int(has_gauss), "cached": float(cached)},
            "torch": torch.get_rng_state(), "cuda": list(cuda)}


def restore(state: dict[str, Any]) -> None:
    """Put back what `capture` returned."""
    python, legacy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(int(number) for number in python["internal"]), python["gauss"]))
    np.random.set_state((legacy["kind"], legacy["keys"].astype(np.uint32), legacy["position"], legacy["has_gauss"], legacy["cached"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
