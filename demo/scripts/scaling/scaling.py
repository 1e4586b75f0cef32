# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-256 throughput of several processes at once: what all cores reach together, and how far that is from one core times their number."""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import time

BLOCK = bytes(range(256)) * 4096
SECONDS = 0.5
SAMPLES = 3
MEGA = 1e6


def hash_until(deadline):
    """Hash until the deadline of the monotonic clock; return the bytes hashed."""
    total = 0
    while time.monotonic() < deadline:
        hashlib.sha256(BLOCK).digest()
        total += len(BLOCK)
    return total


def throughput(pool, processes, seconds):
    """Return the bytes per second of all processes, which start together."""
    start = time.monotonic()
    totals = pool.map(hash_until, [start + seconds] * processes, chunksize=1)
    return sum(totals) / (time.monotonic() - start)


def usable_cpus():
    """Return the number of CPUs this process may use (a container's cpuset counts)."""
    return len(os.sched_getaffinity(0))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=0, help="0: one for each usable CPU")
    processes = parser.parse_args().processes or usable_cpus()
    with multiprocessing.Pool(processes) as pool:
        throughput(pool, processes, SECONDS / 2)
        one = throughput(pool, 1, SECONDS / 2)
        rates = sorted(throughput(pool, processes, SECONDS) for dummy in range(SAMPLES))
    middle = rates[len(rates) // 2]
    efficiency = middle / one / min(processes, usable_cpus())
    print("SHA-256 by %d processes on %d usable CPUs, blocks of %d bytes" % (processes, usable_cpus(), len(BLOCK)))
    print("  samples: %s" % " ".join("%.4g" % (rate / MEGA) for rate in rates))
    print("  one process alone: %.4g MB per second; efficiency %.2f" % (one / MEGA, efficiency))
    print("performance: %.6g MB_per_second" % (middle / MEGA), flush=True)


if __name__ == "__main__":
    main()
