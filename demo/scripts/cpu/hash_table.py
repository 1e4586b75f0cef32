# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hashing throughput of one core for several algorithms and block sizes: one row each in perf_hash_table.csv."""

from __future__ import annotations

import argparse
import csv
import hashlib

import measure

ALGORITHMS = ("sha256", "sha512", "sha3_256", "blake2b")
BLOCKS = (1024, 65536)
MEGA = 1e6


def rows():
    """Measure every pair and yield its row."""
    for algorithm in ALGORITHMS:
        function = getattr(hashlib, algorithm)
        for block in BLOCKS:
            data = bytes(range(256)) * (block // 256)
            found = measure.measure(lambda function=function, data=data: function(data).digest(), block, samples=5, seconds=0.05)
            yield {
                "model": "%s_%d" % (algorithm, block),
                "performance": "%.6g" % (found.median / MEGA),
                "metric": "MB_per_second",
                "algorithm": algorithm,
                "block_bytes": block,
                "spread": "%.4f" % found.spread,
            }


def main():
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="perf_hash_table.csv")
    path = parser.parse_args().output
    measure.describe("Hash table", method="hashlib, one thread")
    table = []
    for row in rows():
        print("  %(algorithm)-9s %(block_bytes)6d bytes: %(performance)s MB per second" % row, flush=True)
        table.append(row)
    if any(float(row["spread"]) > measure.NOISY for row in table):
        print("  " + measure.NOISE)
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
