# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m training_engine`: the signal handlers first, everything else after."""

from __future__ import annotations

import os
import sys

from . import stopping


def run() -> None:
    """Run the command line and leave with its exit code, without the seconds that tearing down the interpreter takes."""
    flag = stopping.install()
    launcher = os.environ.get("TRAINING_LAUNCHER", "")
    if launcher.isdigit() and os.getppid() == int(launcher):
        stopping.guard_against_orphaning(int(launcher))
    from .cli import main

    code = main(sys.argv[1:], flag)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
