# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: written atomically, hashed, retained by rule, and quarantined when broken."""

from __future__ import annotations

from .layout import CheckpointMetadata
from .manager import CheckpointManager
from .store import Checkpoint, CheckpointStore

__all__ = ["Checkpoint", "CheckpointManager", "CheckpointMetadata", "CheckpointStore"]
