# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two libraries the statistics stand on, and the one error when they are absent. Everything else here imports them from here."""

from __future__ import annotations

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError

try:
    import numpy as np
    from scipy import special

    MISSING = ""
except ImportError as _error:
    np = special = None  # type: ignore[assignment]
    MISSING = str(_error)


__all__ = ["LibrariesMissing", "need", "np", "special"]


class LibrariesMissing(MadError):
    """numpy or scipy is not installed on the controller."""


def need() -> None:
    """Raise unless both are there."""
    if MISSING:
        raise LibrariesMissing(
            "comparing results needs the Python packages numpy and scipy on the controller (%s): pip install numpy scipy, into the "
            "environment that ansible-playbook runs in" % MISSING
        )
