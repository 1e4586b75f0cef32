# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m training_engine`: the signal handlers first, everything else after."""

from __future__ import annotations

import sys

from . import stopping


def run() -> None:
    """Run the command line and leave with its exit code."""
    flag = stopping.begin()
    from .cli import main

    stopping.leave(main(sys.argv[1:], flag))


if __name__ == "__main__":
    run()
