# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index: what one more row costs in a history of 1,000,000 rows against an empty one, and eight campaigns writing at once.

The two histories are timed turn about in one run, by wall clock (waiting for the disk is part of the cost), and compared by medians.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.mad.engine.plugins.plugin_utils.history.schema import RESULTS
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index
from ansible_collections.mad.engine.tests.support.records import success

HISTORY = int(os.environ.get("MAD_BENCH_ROWS", "1000000"))
ADDED = 60
CAMPAIGNS, RUNS = 8, 50
TARGET = 2.0


def old_rows(template: dict[str, object]) -> Iterator[tuple[object, ...]]:
    """Rows of campaigns of 500 runs, ids spread as hashes are."""
    values = [template[column.name] for column in RESULTS.columns]
    campaign, run, started = (list(RESULTS.columns.keys()).index(name) for name in ("campaign", "run_id", "started"))
    for number in range(HISTORY):
        values[campaign] = "old-%05d" % (number // 500)
        values[run] = "%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)
        values[started] = 1.0e9 + number
        yield tuple(values)


def fill(path: str) -> None:
    """Make a long history quickly: the index makes its tables, plain SQL the rows."""
    with Index("sqlite:///" + path) as index:
        index.add([success(1)])
        template = index.select()[0]
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    marks = ",".join("?" * len(RESULTS.columns))
    with connection:
        connection.executemany("INSERT INTO mad_results VALUES (%s)" % marks, old_rows(template))
    connection.close()


def add_one(path: str, number: int) -> float:
    """Seconds of one run-once step: open the index, bring one row in, close it."""
    record = success(number, campaign="new")
    started = time.perf_counter()
    with Index("sqlite:///" + path) as index:
        index.add([record])
    return time.perf_counter() - started


def one_campaign(path: str, number: int) -> None:
    """One of eight campaigns at once."""
    with Index("sqlite:///" + path) as index:
        for run in range(RUNS):
            index.add([success(run, campaign="campaign-%d" % number)])


def lost_rows(path: str) -> int:
    """How many rows of eight campaigns writing at once are not there afterwards."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=one_campaign, args=(path, number)) for number in range(CAMPAIGNS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with Index("sqlite:///" + path) as index:
        return CAMPAIGNS * RUNS - len(index.select())


def main() -> int:
    """Print the ratio and the lost rows; 1 if a target was missed."""
    with tempfile.TemporaryDirectory() as folder:
        empty, full = os.path.join(folder, "empty.db"), os.path.join(folder, "full.db")
        fill(full)
        found = [(add_one(empty, number), add_one(full, number)) for number in range(1, ADDED + 1)]
        size = os.path.getsize(full) / 1e6
        lost = lost_rows(os.path.join(folder, "shared.db"))
    first, last = (statistics.median(times) for times in zip(*found, strict=True))
    print("one row more, empty history       %6.1f ms" % (first * 1000))
    print("one row more, %9d rows      %6.1f ms (%.0f MB)" % (HISTORY, last * 1000, size))
    print("ratio                             %6.2f    (target %.1f or less)" % (last / first, TARGET))
    print("eight campaigns at once: lost rows %5d    (target 0)" % lost)
    return 0 if last / first <= TARGET and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
