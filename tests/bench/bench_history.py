# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history: importing a perf.csv of 100,000 rows (time, memory), and asking 1,000,000 rows for two campaigns of 1,000 runs.

The import runs in a process of its own, so that its peak is its own; CPU seconds, because the machine may have other work.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import sqlite3
import sys
import tempfile
import time

from ansible_collections.mad.engine.plugins.module_utils.results.rows import MADENGINE_COLUMNS
from ansible_collections.mad.engine.plugins.plugin_utils.history import imports, query
from ansible_collections.mad.engine.plugins.plugin_utils.history.schema import RESULTS, refresh
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked as judge
from ansible_collections.mad.engine.tests.support.records import success

IMPORTED = int(os.environ.get("MAD_BENCH_IMPORT", "100000"))
HISTORY = int(os.environ.get("MAD_BENCH_ROWS", "1000000"))
RUNS = 1000
CELLS = '{"model":"%s","performance":"%r","metric":"tokens_per_second","better":"higher","host":"n1","n_gpus":"8","gpu_architecture":"gfx942"}'
IMPORT_SECONDS, IMPORT_MB, ASK_SECONDS = 10.0, 200.0, 2.0


def write_perf(path: str) -> None:
    """A perf.csv as madengine would have written it over the years."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, MADENGINE_COLUMNS, restval="")
        writer.writeheader()
        for number in range(IMPORTED):
            writer.writerow(
                {
                    **{"model": "model_%d" % (number % 50), "n_gpus": "8", "nnodes": "1", "gpus_per_node": "8", "pipeline": "p"},
                    **{"args": "--batch-size %d" % (number % 7), "tags": "pyt,nightly", "docker_file": "docker/m.ubuntu.amd.Dockerfile"},
                    **{"docker_sha": "%064x" % (number // 50), "docker_image": "ci-m", "git_commit": "%040x" % (number // 50)},
                    **{"machine_name": "node%d" % (number % 16), "deployment_type": "local", "gpu_architecture": "gfx942"},
                    **{"performance": "%.3f" % (1000 + number % 977 * 1.1), "metric": "tokens_per_second", "status": "SUCCESS"},
                    **{"build_duration": "12.5", "test_duration": "%.2fs" % (number % 600), "build_number": str(number)},
                }
            )


def bring(path: str, url: str, answer: multiprocessing.queues.Queue[tuple[int, float, float, float]]) -> None:
    """Import in a process of its own; rows, CPU seconds, wall seconds, peak in MB."""
    started, used = time.perf_counter(), time.process_time()
    report = imports.import_files(url, [path])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.put((report.new, time.process_time() - used, time.perf_counter() - started, peak))


def timed_import(folder: str) -> tuple[int, float, float, float]:
    """Make the file and import it."""
    path = os.path.join(folder, "perf.csv")
    write_perf(path)
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.queues.Queue[tuple[int, float, float, float]] = context.Queue()
    worker = context.Process(target=bring, args=(path, "sqlite:///" + os.path.join(folder, "import.db"), answer))
    worker.start()
    found = answer.get(timeout=600)
    worker.join()
    return found


def fill(path: str) -> None:
    """A long history quickly: the index makes its tables, plain SQL the rows."""
    with Index("sqlite:///" + path) as index:
        index.add([success(1)], 1.0)
        template = index.select()[0]
        names = list(RESULTS.columns.keys())
        values = [template[name] for name in names]
        places = {name: names.index(name) for name in ("campaign", "created", "run_id", "started", "model", "value", "row_json")}
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA synchronous=OFF")
        with connection:
            connection.executemany("INSERT INTO mad_results VALUES (%s)" % ",".join("?" * len(names)), _rows(values, places))
        connection.close()
        with index.writing() as writing:
            refresh(writing, [("c-%05d" % number, 1e9 + number) for number in range(HISTORY // RUNS)])


def _rows(values: list[object], places: dict[str, int]) -> object:
    for number in range(HISTORY):
        campaign, run = divmod(number, RUNS)
        own = {"campaign": "c-%05d" % campaign, "created": 1e9 + campaign, "run_id": "%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)}
        own.update(started=1e9 + number, model="model-%d" % (run % 100), value=1000.0 + number % 977)
        own["row_json"] = CELLS % (own["model"], own["value"])
        for name, value in own.items():
            values[places[name]] = value
        yield tuple(values)


def _compared(url: str, names: list[str]) -> list[dict[str, object]]:
    """What perf_compare says of two campaigns that only the history knows."""
    given = {"results": "/nowhere", "database_url": url, "baseline": names[0], "candidate": names[1]}
    return judge.compare(given, write=False).entries


def asked(path: str) -> dict[str, float]:
    """Seconds of what compare and report ask."""
    url, last = "sqlite:///" + path, "c-%05d" % (HISTORY // RUNS - 1)
    questions = {
        "two campaigns of %d runs" % RUNS: lambda: len(query.rows(url, campaign=["c-%05d" % (HISTORY // RUNS // 2), last])) == 2 * RUNS,
        "one model in the last 20 campaigns": lambda: len(query.rows(url, model="model-3", last=20, before=last)) == 20 * RUNS // 100,
        "comparing two of them": lambda: len(_compared(url, ["c-%05d" % (HISTORY // RUNS // 2), last])) == min(100, RUNS),
        "the last 100 campaigns": lambda: len(query.campaigns(url, last=100)) == 100,
    }
    found = {}
    for name, question in questions.items():
        started = time.perf_counter()
        assert question(), name
        found[name] = time.perf_counter() - started
    return found


def main() -> int:
    """Print the figures; 1 if a target was missed."""
    with tempfile.TemporaryDirectory() as folder:
        rows, cpu, wall, peak = timed_import(folder)
        path = os.path.join(folder, "history.db")
        fill(path)
        answers = asked(path)
        size = os.path.getsize(path) / 1e6
    print("import of %d rows: %.1f CPU s, %.1f s, %.0f MB   (targets %.0f s, %.0f MB)" % (rows, cpu, wall, peak, IMPORT_SECONDS, IMPORT_MB))
    print("a history of %d rows (%.0f MB):" % (HISTORY, size))
    for name, seconds in answers.items():
        print("  %-36s %6.3f s   (target %.0f s)" % (name, seconds, ASK_SECONDS))
    met = rows == IMPORTED and cpu <= IMPORT_SECONDS and peak <= IMPORT_MB and max(answers.values()) <= ASK_SECONDS
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
