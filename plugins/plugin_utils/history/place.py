# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the history is. Apart from history/database.py, so that who only asks for the place does not wait a quarter of a second for SQLAlchemy."""

from __future__ import annotations

import os

from ansible_collections.mad.engine.plugins.module_utils.results.campaign import HISTORY


def database_url(results_dir: str, given: str = "") -> str:
    """The URL of the index: the given one (a URL or the path of an SQLite file), else history.db beside the campaigns."""
    if not given:
        return "sqlite:///" + os.path.join(os.path.abspath(results_dir), HISTORY)
    return given if "://" in given else "sqlite:///" + os.path.abspath(os.path.expanduser(given))
