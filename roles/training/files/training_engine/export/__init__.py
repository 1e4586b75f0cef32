# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export: a bundle that serves itself, checked before it is finished."""

from __future__ import annotations

from .bundle import export_bundle, verify_bundle

__all__ = ["export_bundle", "verify_bundle"]
