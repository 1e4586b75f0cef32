# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory bandwidth of one core: copies between two buffers that no cache holds. Counted as STREAM does: bytes read plus bytes written."""

from __future__ import annotations

import argparse
import glob
import os

import measure

GIGA = 1e9
LEAST = 64 << 20
MOST = 1 << 30


def _number(text):
    units = {"K": 10, "M": 20, "G": 30}
    text = text.strip()
    return int(text[:-1]) << units[text[-1]] if text[-1:] in units else int(text or 0)


def largest_cache():
    """Return the bytes of the largest cache that Linux reports, 0 if it reports none."""
    sizes = [0]
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        with open(path, encoding="ascii") as handle:
            sizes.append(_number(handle.read()))
    return max(sizes)


def free_memory():
    """Return the bytes that may be used: what the machine has free, or less in a limited container."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as handle:
                text = handle.read().strip()
        except OSError:
            continue
        if text.isdigit():
            free = min(free, int(text))
    return free


def buffer_size():
    """Return four times the largest cache, within sensible bounds and a quarter of the free memory for both buffers."""
    return min(max(4 * largest_cache(), LEAST), MOST, max(free_memory() // 8, 1 << 20))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=0, help="size of each buffer; 0: four times the largest cache")
    size = parser.parse_args().bytes or buffer_size()
    source, target = memoryview(bytearray(b"\x5a") * size), memoryview(bytearray(b"\x01") * size)

    def copy():
        target[:] = source

    method = "memcpy by memoryview, one thread, read + written bytes"
    measure.describe("Memory copy", buffer_bytes=size, largest_cache_bytes=largest_cache(), method=method)
    found = measure.measure(copy, 2 * size)
    if target[-1] != 0x5A:
        raise RuntimeError("the copy did not arrive")
    measure.report(found, GIGA, "GB_per_second")


if __name__ == "__main__":
    main()
