# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: written atomically, hashed, retained by rule, and quarantined when broken.

The public names are loaded at first use: whether a checkpoint is whole can be told without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layout import CheckpointMetadata
    from .manager import CheckpointManager
    from .store import Checkpoint, CheckpointStore

_WHERE = {"Checkpoint": "store", "CheckpointManager": "manager", "CheckpointMetadata": "layout", "CheckpointStore": "store"}
__all__ = ["Checkpoint", "CheckpointManager", "CheckpointMetadata", "CheckpointStore"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
