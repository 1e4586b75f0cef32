# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: CPU seconds and megabytes for 10,000 runs with logs, for 10,000 that all failed, and what a report adds to a small play."""

from __future__ import annotations

import os
import sys
import tempfile
import time

from ansible_collections.mad.engine.plugins.plugin_utils.report.make import Options, make
from ansible_collections.mad.engine.tests.support import reports

RUNS = int(os.environ.get("MAD_BENCH_RUNS", "10000"))
HOSTS, REPEATS = 100, 5
SECONDS, MEGABYTES, SMALL = 10.0, 15.0, 0.3


def one(folder: str, name: str) -> tuple[float, float]:
    """(CPU seconds, megabytes) of a campaign's report."""
    started = time.process_time()
    path = make(Options(folder, [name])).files["html"]
    return time.process_time() - started, os.path.getsize(path) / 1e6


def main() -> int:
    """Print figures and targets; 1 if one was missed."""
    models = max(1, RUNS // HOSTS // REPEATS)
    with tempfile.TemporaryDirectory() as folder:
        reports.fleet(folder, "mixed", hosts=HOSTS, models=models, repeats=REPEATS, failing=0.05, logs=200)
        reports.fleet(folder, "failed", hosts=HOSTS, models=models, repeats=REPEATS, failing=1.0, logs=200)
        reports.fleet(folder, "small", hosts=1, models=6, repeats=1)
        one(folder, "small")  # what Python reads once
        found = {name: one(folder, name) for name in ("mixed", "failed", "small")}
    count = HOSTS * models * REPEATS
    print("%5d runs, 5 %% failed       %6.2f CPU s, %5.1f MB  (targets %.0f s, %.0f MB)" % (count, *found["mixed"], SECONDS, MEGABYTES))
    print("%5d runs, all failed       %6.2f CPU s, %5.1f MB" % (count, *found["failed"]))
    print("    6 runs                   %6.2f CPU s, %5.1f MB  (target %.1f s)" % (*found["small"], SMALL))
    kept = all(found[name][0] <= SECONDS and found[name][1] <= MEGABYTES for name in ("mixed", "failed"))
    return 0 if kept and found["small"][0] <= SMALL else 1


if __name__ == "__main__":
    sys.exit(main())
