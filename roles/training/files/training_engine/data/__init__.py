# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data: the plan of windows, sources of samples, collators, and the loader that ties them together."""

from __future__ import annotations

from .collate import collators
from .loader import DataModule, MapDataModule, Window
from .plan import WindowPlan
from .sources import DataSet, Source, TensorSource, datasets
from .stream import StreamDataModule

__all__ = ["DataModule", "DataSet", "MapDataModule", "Source", "StreamDataModule", "TensorSource", "Window", "WindowPlan", "collators",
           "datasets"]
