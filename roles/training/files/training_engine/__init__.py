# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A training engine whose resume is bit-identical, and which tells its supervisor the truth.

Nothing heavy is imported here: the public names are loaded at first use, because the signal handlers have to be in place before
`import torch` (which takes seconds) begins.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "config": ("TrainingConfig", "TrainingConfigBuilder"),
    "errors": ("EngineError", "ConfigError", "UsageError", "DataError", "CheckpointError", "NoRetryError"),
    "exitcodes": ("ExitCode",),
    "registry": ("Registry",),
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "EngineError",
    "ExitCode",
    "NoRetryError",
    "Registry",
    "TrainingConfig",
    "TrainingConfigBuilder",
    "UsageError",
]

if TYPE_CHECKING:
    from .config import TrainingConfig, TrainingConfigBuilder
    from .errors import CheckpointError, ConfigError, DataError, EngineError, NoRetryError, UsageError
    from .exitcodes import ExitCode
    from .registry import Registry


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
