# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Learning-rate schedules in closed form: the rate follows from the step alone, so there is no state to save or to lose."""

from __future__ import annotations

import math
from collections.abc import Callable

from .config import OptimSection


def schedule(config: OptimSection, horizon: int) -> Callable[[int], float]:
    """The learning rate of the update that comes after `step` finished ones.

    Warm-up is linear to the peak over `warmup_steps`; then constant, linear or cosine down to min_learning_rate_ratio at `horizon`.
    """
    peak, warm, floor = config.learning_rate, config.warmup_steps, config.min_learning_rate_ratio
    span = max(1, horizon - warm)

    def rate(step: int) -> float:
        if step < warm:
            return peak * (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / span)
        if config.schedule == "constant":
            return peak
        shape = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return peak * (floor + (1.0 - floor) * shape)

    return rate
