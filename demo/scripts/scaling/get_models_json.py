# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One hashing model for each number of processes: the models of a sweep are computed, not written down."""

from __future__ import annotations

from madengine.utils.discover_models import CustomModel

PROCESSES = (1, 2, 4, 0)


def list_models():
    """Return the models p1, p2, p4 and all (as many processes as the machine has CPUs)."""
    return [
        CustomModel(
            name="all" if count == 0 else "p%d" % count,
            dockerfile="../../docker/cpu",
            scripts="run.sh",
            n_gpus="0",
            owner="mad.engine contributors",
            timeout=180,
            tags=["cpu", "hash", "scaling"] + (["demo"] if count == 0 else []),
            args="--processes %d" % count,
        )
        for count in PROCESSES
    ]
