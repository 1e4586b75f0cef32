# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The experiment database: runs, their configurations and metrics in one SQLite file."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UsageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (run_id TEXT PRIMARY KEY, created REAL NOT NULL, config TEXT NOT NULL, note TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS metrics (run_id TEXT NOT NULL REFERENCES runs(run_id), step INTEGER NOT NULL, name TEXT NOT NULL,
                                    value REAL, PRIMARY KEY (run_id, step, name)) WITHOUT ROWID;
"""


class ExperimentDB:
    """Any number of processes may write; a metric of a step that is written again is replaced, so a resumed run adds nothing twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as connection:
            connection.executescript(_SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT") if connection.in_transaction else None
        finally:
            connection.close()

    def add_run(self, run_id: str, config: Mapping[str, Any], note: str = "") -> None:
        """Register a run; a second time changes nothing."""
        with self._open() as connection:
            values = (run_id, time.time(), json.dumps(config, sort_keys=True), note)
            connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?)", values)

    def log(self, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step. Raises UsageError for an unknown run."""
        self.log_many(run_id, [(step, metrics)])

    def log_many(self, run_id: str, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Write the metrics of many steps in one transaction. Non-finite values are kept as NULL."""
        values = [(run_id, step, name, float(value) if math.isfinite(value) else None)
                  for step, metrics in rows for name, value in metrics.items()]
        with self._open() as connection:
            if connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone() is None:
                raise UsageError(f"the experiment database {self.path} has no run {run_id!r}; add_run comes first")
            connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", values)

    def history(self, run_id: str, name: str) -> list[tuple[int, float | None]]:
        """(step, value) of one metric, in the order of the steps."""
        with self._open() as connection:
            query = "SELECT step, value FROM metrics WHERE run_id = ? AND name = ? ORDER BY step"
            return connection.execute(query, (run_id, name)).fetchall()

    def best(self, name: str, mode: str = "min", limit: int = 10) -> list[tuple[str, float]]:
        """(run, its best value) over all runs, best first."""
        pick, order = ("MIN", "ASC") if mode == "min" else ("MAX", "DESC")
        query = (f"SELECT run_id, {pick}(value) v FROM metrics WHERE name = ? AND value IS NOT NULL "
                 f"GROUP BY run_id ORDER BY v {order} LIMIT ?")
        with self._open() as connection:
            return connection.execute(query, (name, limit)).fetchall()

    def import_log(self, run_id: str, path: Path) -> int:
        """Take in a metrics.jsonl; the number of lines with a step."""
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            if "step" in values:
                rows.append((int(values["step"]), {name: value for name, value in values.items()
                                                   if name != "step" and isinstance(value, (int, float))}))
        self.log_many(run_id, rows)
        return len(rows)
