# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of a checkpoint, as pure functions: names, the manifest, and which checkpoints a retention rule gives up.

    step-00000420/  model.safetensors  optim.safetensors  rank0.safetensors ...  state.json  manifest.json
                    shards.json  shard0.safetensors ...   (only where tensors are sharded over ranks)

The manifest is written last and holds the sha256 of every file; its presence with matching hashes is the definition of "whole".
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
SEAL = "sha256_of_the_rest"
MODEL, OPTIM, STATE = "model.safetensors", "optim.safetensors", "state.json"
SHARDS = "shards.json"
LATEST = "LATEST"
TEMPORARY, BAD, DELETED, RETIRED = ".tmp-", ".bad-", ".del-", ".old-"
_NAME = re.compile(r"step-(\d{8,})")


def folder_name(step: int) -> str:
    """The folder of the checkpoint of a step."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step a folder belongs to, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def rank_file(rank: int) -> str:
    """The file with what belongs to one rank alone."""
    return f"rank{rank}.safetensors"


def shard_file(rank: int) -> str:
    """The file with one rank's chunks of sharded tensors."""
    return f"shard{rank}.safetensors"


def is_plain_name(name: str) -> bool:
    """Whether a file name of a manifest stays inside its folder."""
    return bool(name) and name not in {".", "..", MANIFEST} and "/" not in name and "\\" not in name and "\0" not in name


@dataclass(frozen=True)
class CheckpointMetadata:
    """What is known of a checkpoint without opening its files."""

    step: int
    epoch: int
    path: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    timestamp: float = 0.0
    git_commit: str | None = None
    world_size: int = 1
    info: Mapping[str, Any] = field(default_factory=dict)

    def metric(self, name: str) -> float | None:
        """A finite metric, or None: a NaN must never be or stay the best."""
        value = self.metrics.get(name)
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """The only spelling of a manifest that counts as whole: it holds the hash of itself, so that a flipped bit anywhere shows."""
    facts = {name: value for name, value in manifest.items() if name != SEAL}
    seal = hashlib.sha256(_spelled(facts)).hexdigest()
    return _spelled({**facts, SEAL: seal})


def _spelled(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def ranking(entries: Iterable[CheckpointMetadata], monitor: str, mode: str) -> list[CheckpointMetadata]:
    """The entries that have the metric, best first; of equal ones the newer first."""
    sign = 1.0 if mode == "min" else -1.0
    scored = [(value, entry) for entry in entries if (value := entry.metric(monitor)) is not None]
    return [entry for value, entry in sorted(scored, key=lambda pair: (sign * pair[0], -pair[1].step))]


def superseded(entries: Iterable[CheckpointMetadata], *, keep_best_k: int, keep_last_n: int, monitor: str,
               mode: str) -> list[CheckpointMetadata]:
    """The entries that neither rule keeps. The newest is always kept."""
    by_age = sorted(entries, key=lambda entry: entry.step, reverse=True)
    kept = {entry.step for entry in by_age[:max(1, keep_last_n)]}
    kept |= {entry.step for entry in ranking(by_age, monitor, mode)[:keep_best_k]}
    return [entry for entry in by_age if entry.step not in kept]
