# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the history, their version, and the way from an older version to this one. Nothing here is special to one database.

mad_results: one row for each row of perf.csv. Its key names the campaign by name *and* time of planning: `nightly` of tonight and
`nightly` of last night, planned in another folder, are two campaigns. Text columns carry the cells as they stand; the numbers beside them
are what queries sort and compare by; row_json holds every cell that is not empty.
mad_campaigns: one row for each campaign, kept by whoever writes rows, so that "the last five" costs nothing in a long history.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    MISSING = ""
except ImportError as _error:
    MISSING = str(_error)

VERSION = 2
LONGEST_MODEL = 600  # characters: PostgreSQL indexes no text above 2,700 bytes
LARGEST = 2**31 - 1  # of a whole number
CREATED_UNKNOWN = 0.0  # imported, or brought in by a release that did not know it

# Text columns, filled from the cells of the same name.
TEXTS = (
    *("model", "host", "machine_name", "deployment_type", "launcher", "status", "failure_class", "reason", "performance", "metric"),
    *("better", "args", "tags", "gpu_vendor", "gpu_architecture", "gpu_product", "n_gpus", "nnodes", "docker_image", "digest"),
    *("git_commit", "repo_commit", "unit", "hardware"),
)
if not MISSING:
    METADATA = sa.MetaData()
    VERSIONS = sa.Table("mad_schema", METADATA, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    RESULTS = sa.Table(
        "mad_results",
        METADATA,
        sa.Column("campaign", sa.String(64), primary_key=True),
        sa.Column("created", sa.Float(53), primary_key=True),
        sa.Column("run_id", sa.String(16), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("result", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in TEXTS),
        sa.Column("source", sa.String(16), nullable=False),  # record, or import
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("run_duration", sa.Float(53)),
        sa.Column("queue_duration", sa.Float(53)),
        sa.Column("started", sa.Float(53)),
        sa.Column("finished", sa.Float(53)),
        sa.Column("row_json", sa.Text, nullable=False),
        sa.Index("mad_results_by_model", "model", "campaign", "created"),
    )
    CAMPAIGNS = sa.Table(
        "mad_campaigns",
        METADATA,
        sa.Column("campaign", sa.String(64), primary_key=True),
        sa.Column("created", sa.Float(53), primary_key=True),
        sa.Column("started", sa.Float(53), index=True),  # of its first run; without one the planning, or the file it came from
        sa.Column("finished", sa.Float(53)),
        sa.Column("results", sa.Integer, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
    )


class OtherVersion(Exception):
    """The tables are of a newer release; the text names its version."""


def version(connection: Connection) -> int:
    """The version of the tables that are there; 0 without any. OtherVersion when this release does not know it."""
    if not sa.inspect(connection).has_table(VERSIONS.name):
        return 0
    found = int(connection.execute(sa.select(sa.func.max(VERSIONS.c.version))).scalar() or 0)
    if found > VERSION:
        raise OtherVersion(str(found))
    return found


def prepare(connection: Connection) -> None:
    """Make the tables, or bring older ones to this version. The caller holds the write lock and commits."""
    found = version(connection)
    if found == VERSION:
        return
    if found:
        for number in range(found + 1, VERSION + 1):
            _MIGRATIONS[number](connection)
        connection.execute(VERSIONS.delete())
    else:
        METADATA.create_all(connection)
    connection.execute(VERSIONS.insert().values(version=VERSION))


def of_campaign(table: sa.Table, key: tuple[str, float]) -> sa.ColumnElement[bool]:
    """The rows of a table that belong to (campaign, created)."""
    return sa.and_(table.c.campaign == key[0], table.c.created == key[1])


def of_campaigns(table: sa.Table, keys: Sequence[tuple[str, float]]) -> sa.ColumnElement[bool]:
    """The same of any of them. SQLite nests an OR no deeper than 1,000, and finds by an index only what stands alone: the names are for that."""
    names = sorted({campaign for campaign, _created in keys})
    return sa.and_(table.c.campaign.in_(names), sa.tuple_(table.c.campaign, table.c.created).in_(keys))


def insert(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Put complete rows into mad_results. The driver gets them directly: what SQLAlchemy does for every row costs more than the database."""
    statement = RESULTS.insert().compile(dialect=connection.dialect)
    names = statement.positiontup
    values = list(map(operator.itemgetter(*names), entries)) if names else list(entries)
    connection.exec_driver_sql(str(statement), values)


def refresh(connection: Connection, keys: Iterable[tuple[str, float]], fallback: float | None = None) -> None:
    """Make the row in mad_campaigns of each (campaign, created) say what mad_results holds of it."""
    for campaign, created in keys:
        mine, here = of_campaign(RESULTS, (campaign, created)), of_campaign(CAMPAIGNS, (campaign, created))
        summed = sa.select(
            sa.func.min(RESULTS.c.started), sa.func.max(RESULTS.c.finished), sa.func.count(), sa.func.max(RESULTS.c.source)
        ).where(mine)
        started, finished, results, source = connection.execute(summed).one()
        known = connection.execute(sa.select(CAMPAIGNS.c.started).where(here)).scalar()
        connection.execute(CAMPAIGNS.delete().where(here))
        if results:
            began = started if started is not None else known or created or fallback
            connection.execute(
                CAMPAIGNS.insert().values(
                    campaign=campaign, created=created, started=began, finished=finished, results=results, source=source
                )
            )


def _to_2(connection: Connection) -> None:
    """Version 1 knew a campaign by its name alone, and neither hardware classes nor imported rows."""
    kept = [column.name for column in RESULTS.columns if column.name not in ("created", "unit", "hardware", "source")]
    connection.execute(sa.text("DROP INDEX mad_results_by_model"))
    connection.execute(sa.text("ALTER TABLE mad_results RENAME TO mad_results_1"))
    METADATA.create_all(connection, tables=[RESULTS, CAMPAIGNS])
    connection.execute(
        sa.text(
            "INSERT INTO mad_results (%s, created, unit, hardware, source) SELECT %s, 0, metric, "
            "CASE WHEN gpu_product <> '' THEN gpu_product WHEN gpu_architecture <> 'N/A' THEN gpu_architecture ELSE '' END, 'record' "
            "FROM mad_results_1" % (", ".join(kept), ", ".join(kept))
        )
    )
    connection.execute(sa.text("DROP TABLE mad_results_1"))
    names = connection.execute(sa.select(RESULTS.c.campaign).distinct()).scalars().all()
    refresh(connection, [(name, CREATED_UNKNOWN) for name in names])


_MIGRATIONS: dict[int, Callable[[Connection], None]] = {2: _to_2}
