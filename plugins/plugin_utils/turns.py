# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many forks of a play at a time: slots that are file locks, given back by the kernel however a fork ends.

Ansible's own `throttle` does not see under the strategy free that tasks of a dynamically included role are the same task.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.files import locked

_PAUSE = 0.1  # seconds between two looks at slots that are all taken


@contextlib.contextmanager
def turn(folder: str, name: str, limit: int) -> t.Iterator[None]:
    """Hold one of `limit` slots (0: as many as come); while waiting for one, the time limit of the task stands still."""
    with contextlib.ExitStack() as held:
        if limit > 0:
            os.makedirs(folder, exist_ok=True)
            left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                while not any(held.enter_context(locked(_slot(folder, name, number), blocking=False)) for number in range(limit)):
                    held.close()
                    time.sleep(_PAUSE)
            finally:
                signal.setitimer(signal.ITIMER_REAL, left, interval)
        yield


def _slot(folder: str, name: str, number: int) -> str:
    return os.path.join(folder, "%s-%d.lock" % (name, number))
