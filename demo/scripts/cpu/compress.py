# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compression throughput of one core: zlib over a text made of words, the same on every machine."""

from __future__ import annotations

import argparse
import zlib

import measure

MEGA = 1e6


def text(size):
    """Return reproducible text: words of a small dictionary, drawn by a fixed linear congruential generator."""
    state, words, out, length = 20261122, [], [], 0
    for index in range(2048):
        words.append(bytes(97 + (index * 7 + k * k * 3 + index // (k + 1)) % 26 for k in range(2 + index % 9)))
    while length < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        word = words[((state >> 33) * (state >> 40) >> 31) % len(words)]
        out.append(word)
        length += len(word) + 1
    return b" ".join(out)[:size]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", type=int, default=6, help="zlib level, 1 to 9")
    parser.add_argument("--bytes", type=int, default=1 << 20, help="bytes compressed by one call")
    args = parser.parse_args()
    data = text(args.bytes)
    packed = zlib.compress(data, args.level)
    if zlib.decompress(packed) != data:
        raise RuntimeError("what was compressed does not come back")
    implementation = "zlib %s" % zlib.ZLIB_RUNTIME_VERSION
    measure.describe("Compression", implementation=implementation, level=args.level, input_bytes=len(data), output_bytes=len(packed))
    measure.report(measure.measure(lambda: zlib.compress(data, args.level), len(data)), MEGA, "MB_per_second")


if __name__ == "__main__":
    main()
