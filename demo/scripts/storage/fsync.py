# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable writes: how many blocks a second reach the disk below the work folder, each followed by fsync."""

from __future__ import annotations

import argparse
import os
import time

SAMPLES = 5
SAMPLE_SECONDS = 0.25
LEAST_WRITES = 10
FILE_BYTES = 4 << 20
VOLATILE = ("tmpfs", "ramfs", "devtmpfs")


def file_system(path):
    """Return type and mount point of the file system that holds the path."""
    path, best = os.path.realpath(path), ("unknown", "")
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as handle:
        for line in handle:
            fields = line.split()
            point = fields[1].encode().decode("unicode_escape")
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[1]):
                best = (fields[2], point)
    return best


def sample(descriptor, block, seconds, latencies):
    """Write and fsync until the time is over (ten times at the least); return writes per second."""
    blocks, count, started = FILE_BYTES // len(block), 0, time.perf_counter()
    while True:
        before = time.perf_counter()
        os.pwrite(descriptor, block, (count * 17 % blocks) * len(block))
        os.fsync(descriptor)
        now = time.perf_counter()
        latencies.append(now - before)
        count += 1
        if now - started >= seconds and count >= LEAST_WRITES:
            return count / (now - started)


def run(path, block):
    """Return the sorted rates of the samples and all sorted latencies; the first sample warms up."""
    latencies = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for dummy in range(FILE_BYTES >> 20):
            os.write(descriptor, b"\0" * (1 << 20))
        os.fsync(descriptor)
        sample(descriptor, block, SAMPLE_SECONDS / 2, [])
        rates = sorted(sample(descriptor, block, SAMPLE_SECONDS, latencies) for dummy in range(SAMPLES))
    finally:
        os.close(descriptor)
        os.unlink(path)
    return rates, sorted(latencies)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=4096, help="bytes of one write")
    parser.add_argument("--folder", default=".", help="where to write")
    args = parser.parse_args()
    kind, point = file_system(args.folder)
    print("Durable writes of %d bytes below %s" % (args.block, os.path.realpath(args.folder)))
    print("  file system: %s%s" % (kind, ", mounted at " + point if point else ""))
    print("  method: pwrite + fsync, overwriting a file of %d MiB in a fixed order, one thread" % (FILE_BYTES >> 20))
    if kind in VOLATILE:
        print("  note: this file system lies in memory, so that fsync costs nothing; set mad_work_dir to a folder on a disk")
    rates, latencies = run(os.path.join(args.folder, "fsync.%d.bin" % os.getpid()), b"\xa5" * args.block)
    print("  samples: %s" % " ".join("%.4g" % rate for rate in rates))
    print("  latency: median %.3g ms, 99%% below %.3g ms, worst %.3g ms" % tuple(
        1e3 * latencies[min(len(latencies) - 1, int(part * len(latencies)))] for part in (0.5, 0.99, 1.0)
    ))
    print("performance: %.6g fsyncs_per_second" % rates[len(rates) // 2], flush=True)


if __name__ == "__main__":
    main()
