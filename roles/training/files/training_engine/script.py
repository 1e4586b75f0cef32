# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of one's own that end as the commands do: a signal or the time limit lets them save, and the exit code is of the table."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

from .cli import exit_code_of
from .stopping import StopFlag, begin, deadline_from, leave


def run_script(main: Callable[[StopFlag, float | None], Any]) -> NoReturn:
    """Run main(stop, deadline), which gives both to `Trainer` and returns its result, and end the process with the exit code.

    Signals are heard from here on: import torch inside of main where it shall survive one that comes during the import. Errors become the
    code that they mean, with a message. main may also return a number, or None for 0.
    """
    flag = begin()
    leave(exit_code_of(lambda: _code(main(flag, deadline_from(os.environ)))))


def _code(result: Any) -> int:
    return int(getattr(result, "exit_code", result) or 0)
