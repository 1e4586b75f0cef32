# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run costs beyond `docker run`: 20 tiny containers by our supervisor against a shell loop of `docker run --rm` of the same image.

Run it as `python tests/bench/bench_overhead_core.py`; it needs a Docker engine. Both are timed alternately, so that a busy machine is
equally busy for both; the ratio and the seconds per run are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.mad.engine.tests.support import base_image
from ansible_collections.mad.engine.tests.support.bench_host import PRINT, BenchHost

RUNS, ROUNDS = 20, 3
TARGET = 0.10  # seconds a run


def loop(image: str, folder: Path) -> float:
    """Seconds of a shell loop that runs the same containers with the same mounts, one after the other."""
    (folder / "run.sh").write_text(PRINT)
    command = "docker run --rm --network host -v %s:/myworkspace -w /myworkspace %s bash run.sh >/dev/null" % (folder, image)
    begun = time.monotonic()
    subprocess.run(["bash", "-c", "for n in $(seq %d); do %s; done" % (RUNS, command)], check=True)
    return time.monotonic() - begun


def ours(image: str, folder: Path) -> float:
    """Seconds from the start of the supervisor to the last record."""
    host = BenchHost(folder, image=image)
    try:
        for _number in range(RUNS):
            host.run(PRINT, "docker")
        host.stage()
        begun = time.monotonic()
        host.start()
        while host.folder.supervised():
            time.sleep(0.02)
        took = time.monotonic() - begun
        assert all(record["status"] == "SUCCESS" for record in host.wait().values())
        return took
    finally:
        host.close()


def main() -> int:
    """Measure, print, compare with the target."""
    image = base_image.make("tiny")
    loops, runs = [], []
    for _round in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as one, tempfile.TemporaryDirectory(dir="/var/tmp") as two:
            loops.append(loop(image, Path(one)))
            runs.append(ours(image, Path(two)))
    extra = [(run - plain) / RUNS for run, plain in zip(runs, loops, strict=True)]
    print("shell loop  %s s for %d containers" % (" ".join("%.2f" % value for value in loops), RUNS))
    print("supervisor  %s s" % " ".join("%.2f" % value for value in runs))
    print(
        "beyond docker run: median %.3f s a run (target %.2f), ratio %.2f"
        % (statistics.median(extra), TARGET, statistics.median(runs) / statistics.median(loops))
    )
    return 0 if statistics.median(extra) <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
