# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every benchmark here measures: warm-up, samples of a fixed least duration, the median, and the spread beside it."""

from __future__ import annotations

import os
import platform
import sys
import time

SAMPLES = 7
SAMPLE_SECONDS = 0.1
WARM_UP_SECONDS = 0.2
NOISY = 0.10
NOISE = "note: the samples scatter by more than %d%%; something else runs on this machine" % (100 * NOISY)


class Measurement:
    """The rates of all samples, in units of work per second."""

    def __init__(self, rates, repeats):
        self.rates = sorted(rates)
        self.repeats = repeats

    @property
    def median(self):
        """Return the middle rate."""
        half = len(self.rates) // 2
        if len(self.rates) % 2:
            return self.rates[half]
        return (self.rates[half - 1] + self.rates[half]) / 2.0

    @property
    def spread(self):
        """Return the distance between the quartiles, relative to the median."""
        quarter = len(self.rates) // 4
        return (self.rates[-1 - quarter] - self.rates[quarter]) / self.median


def timed(work, repeats):
    """Return the seconds that this many calls take."""
    started = time.perf_counter()
    for dummy in range(repeats):
        work()
    return time.perf_counter() - started


def calibrate(work, seconds):
    """Return how many calls fill a sample; the calls made to find out are the warm-up."""
    repeats, deadline = 1, time.perf_counter() + WARM_UP_SECONDS
    while True:
        taken = timed(work, repeats)
        if taken >= seconds:
            if time.perf_counter() >= deadline:
                return repeats
        else:
            repeats = max(repeats + 1, int(repeats * min(10.0, 1.2 * seconds / max(taken, 1e-9))))


def measure(work, amount, samples=SAMPLES, seconds=SAMPLE_SECONDS):
    """Call `work`, which does `amount` units at a time, until the samples are full."""
    repeats = calibrate(work, seconds)
    return Measurement([amount * repeats / timed(work, repeats) for dummy in range(samples)], repeats)


def describe(title, **facts):
    """Print what is measured and by what: numbers of two hosts compare only where these lines are alike."""
    print("%s on Python %s (%s), %s, %d CPUs" % (title, platform.python_version(), sys.executable, platform.machine(), os.cpu_count() or 1))
    for key, value in facts.items():
        print("  %s: %s" % (key.replace("_", " "), value))


def report(measurement, scale, unit):
    """Print the samples, say so when they scatter, and print the one line that is the result."""
    print("  samples: %s" % " ".join("%.4g" % (rate / scale) for rate in measurement.rates))
    print("  spread between the quartiles: %.1f%% of the median" % (100.0 * measurement.spread))
    if measurement.spread > NOISY:
        print("  " + NOISE)
    print("performance: %.6g %s" % (measurement.median / scale, unit), flush=True)
