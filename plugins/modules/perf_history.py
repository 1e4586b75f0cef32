#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_history
short_description: Keep the history of all campaigns
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Makes the history again from the campaign folders, imports C(perf.csv) files into it, writes it to files for other programs, or uploads it
    to MongoDB as C(madengine database) does.
  - Runs wholly on the controller (C(run_once)); it needs no host. A second time changes nothing.
options:
  state:
    description:
      - V(rebuilt) reads every campaign below O(results) again; campaigns whose folder is gone keep their rows. A damaged SQLite file is set
        aside first.
      - V(imported) brings O(files) in. A row that names its campaign and run keeps that key, a row of madengine gets one from its content.
        What is there already stays as it is; what was not understood is named.
      - V(exported) writes the newest attempt of every run to O(files).
      - V(uploaded) brings rows to MongoDB. Where to is said by the environment variables E(MONGO_HOST), E(MONGO_PORT), E(MONGO_USER),
        E(MONGO_PASSWORD), E(MONGO_AUTH_SOURCE) and E(MONGO_TIMEOUT_MS), as in madengine. Needs C(pymongo).
    type: str
    required: true
    choices: [rebuilt, imported, exported, uploaded]
  results:
    description: Folder that holds the campaigns.
    type: path
    default: results
  database_url:
    description:
      - The history, as path of an SQLite file or as URL of SQLite or PostgreSQL (C(postgresql://user@host/name); needs C(psycopg)).
        By default C(history.db) in O(results).
    type: str
    default: ""
  files:
    description:
      - With O(state=imported) C(perf.csv) files, or folders in which all of them are found.
      - With O(state=exported) files to write; the ending says the format. C(.csv) (as C(perf.csv)), C(.jsonl), C(.parquet) (needs
        C(pyarrow)), C(.xml) (JUnit), C(.prom) (OpenMetrics text, the newest result of each model, metric and host).
      - With O(state=uploaded) C(perf.csv) files or folders to upload; without any, the history.
      - A list, or comma-separated text.
    type: raw
    default: []
  campaign:
    description:
      - With O(state=imported), and for O(files) that are uploaded, the campaign of rows that name none; by default the name of the file's
        folder.
      - With O(state=exported) and O(state=uploaded) only the rows of this campaign of the history.
    type: str
    default: ""
  mongo_database:
    description: Database of MongoDB (madengine's C(--db)).
    type: str
    default: ""
  mongo_collection:
    description: Collection of MongoDB (madengine's C(-c)).
    type: str
    default: ""
  unique_key:
    description:
      - Columns that make a document one document (madengine's C(-k)); a list, or comma-separated text.
      - By default the key of a row, so that nothing of another run is overwritten. V(model) does as madengine does.
    type: raw
    default: []
  batch_size:
    description: Documents that are sent at once (madengine's C(--batch-size)).
    type: int
    default: 1000
  upsert:
    description: Bring changed documents up to date; V(false) only inserts (madengine's C(--no-upsert)).
    type: bool
    default: true
  index:
    description: Make an index on the unique key (madengine's C(--no-index) turns it off).
    type: bool
    default: true
  show:
    description: Print what was done.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Says what would come, and writes and connects to nothing (madengine's C(--dry-run)).
  diff_mode:
    support: none
    description: It counts rows.
"""

EXAMPLES = r"""
- name: Bring years of perf.csv files in
  mad.engine.perf_history:
    state: imported
    results: /srv/results
    files: /srv/madengine
  run_once: true

- name: For the dashboard and the build server
  mad.engine.perf_history:
    state: exported
    results: /srv/results
    campaign: nightly
    files: [/srv/www/nightly.parquet, junit.xml]
  run_once: true

- name: As madengine database does
  mad.engine.perf_history:
    state: uploaded
    results: /srv/results
    mongo_database: benchmarks
    mongo_collection: perf
  run_once: true
"""

RETURN = r"""
lines:
  description: What was done, line by line.
  type: list
  elements: str
  returned: success
rows:
  description: Rows that were read or written (V(rebuilt), attempts).
  type: int
  returned: success, but for V(rebuilt) in check mode
new:
  description: How many of them were not there before.
  type: int
  returned: when O(state) is not V(exported); with V(rebuilt) and V(uploaded) not in check mode
files:
  description: For each imported file its C(path), C(campaign), C(rows), C(new), C(known), C(problems) and C(notes).
  type: list
  elements: dict
  returned: when O(state) is V(imported)
ignored:
  description: Files of a folder that are no C(perf.csv), and why.
  type: list
  elements: str
  returned: when O(state) is V(imported)
"""

# The action plugin does everything; this file only holds the documentation.
