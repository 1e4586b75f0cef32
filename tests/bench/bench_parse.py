# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log parsing against a bare loop `any(pattern in chunk)` over the same patterns and the same 1 GB, and the memory it takes.

Both are timed by their own CPU seconds in one run, turn about, so that what else the machine does counts for neither.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from typing import Callable

from ansible_collections.mad.engine.plugins.module_utils.results import perf

SIZE = int(os.environ.get("MAD_BENCH_BYTES", str(1 << 30)))
ROUNDS = 2
TARGET_RATIO, TARGET_MEGABYTES = 0.8, 64
WORDS = "step loss lr epoch throughput the model training forward backward INFO grad_norm 0.1234 iteration elapsed time".split()


def write_log(path: str) -> None:
    """A training log without errors; its performance line comes last, so that everything is looked for until the end."""
    chance = random.Random(1)
    lines = []
    for step in range(30000):
        words = " ".join(chance.choice(WORDS) for _word in range(8))
        lines.append("[2026-11-22 10:11:%02d] INFO step %d/100000 loss=%.4f lr=%.2e %s\n" % (step % 60, step, chance.random(), 1e-4, words))
    block = "".join(lines).encode()
    with open(path, "wb") as stream:
        while stream.tell() < SIZE:
            stream.write(block)
        stream.write(b"performance: 14164 tok/s\n")


def bare_loop(path: str) -> None:
    patterns = [pattern.encode() for pattern in perf.DEFAULT_ERROR_PATTERNS]
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            any(pattern in chunk for pattern in patterns)


def parser(path: str) -> None:
    parsed = perf.parse(path)
    if parsed["metrics"][0]["text"] != "14164" or parsed["errors"]:
        raise SystemExit("the parser did not read what was written: %r" % parsed["metrics"])


def seconds(work: Callable[[str], None], path: str) -> float:
    started = time.process_time()
    work(path)
    return time.process_time() - started


def main() -> int:
    """Print the ratio and the memory; 1 if a target was missed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.log")
        write_log(path)
        bare_loop(path)  # the file is in the page cache for both
        found = [(seconds(bare_loop, path), seconds(parser, path)) for _round in range(ROUNDS)]
    bare, ours = (min(times) for times in zip(*found, strict=True))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("bare loop  %6.2f s  %6.0f MB/s" % (bare, SIZE / 1e6 / bare))
    print("parser     %6.2f s  %6.0f MB/s" % (ours, SIZE / 1e6 / ours))
    print("ratio      %6.2f    (target %.1f or more)" % (bare / ours, TARGET_RATIO))
    print("memory     %6.0f MB (target below %d)" % (megabytes, TARGET_MEGABYTES))
    return 0 if bare / ours >= TARGET_RATIO and megabytes < TARGET_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
