# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receiving a host's archive of logs and artifacts: space first, then unpacked aside, then moved into the runs' folders."""

from __future__ import annotations

import os
import re
import shutil
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.containers import archives

from .host_runs import HostRuns

_MARGIN = 64 << 20
_NAME = re.compile(r"([0-9a-f]{16})/((?:attempt-[0-9]{1,6}/)?(?:node-[0-9]{1,6}/)?(?:run\.log|pre\.log|post\.log|engine\.log|artifacts/[^/]+))\Z")
_RESULT = re.compile(r"([0-9a-f]{16})/result\.json\Z")


def check_space(folder: str, wanted: int, host: str) -> None:
    """MadError unless so many bytes and a margin are free where the campaign lies."""
    free = shutil.disk_usage(folder).free
    if free < wanted + _MARGIN:
        raise MadError(
            "logs and artifacts of host %s need %d MiB in %s, where %d MiB are free; make room and collect again"
            % (host, (wanted + _MARGIN) >> 20, folder, free >> 20)
        )


def receive(mine: HostRuns, archive: str, scratch: str, run_ids: t.Iterable[str], only_results: bool) -> dict[str, t.Any]:
    """Unpack and keep; returns {run id: record} for `only_results`, else {run id: True}."""
    allowed = set(run_ids) & {run["id"] for run in mine.runs}
    folder = os.path.join(scratch, "files")
    os.mkdir(folder)
    room = max(0, shutil.disk_usage(folder).free - _MARGIN)  # whatever the host said that it needs
    with open(archive, "rb") as stream:
        names = archives.unpack(stream, folder, links=False, limit=room)
    for name in names:
        match = (_RESULT if only_results else _NAME).match(name)
        if not match or match.group(1) not in allowed:
            raise MadError("the archive of host %s holds %r, which is no log and no artifact of its runs" % (mine.host, name[:200]))
    if only_results:
        return {run_id: _read(os.path.join(folder, run_id, "result.json"), mine.host) for run_id in sorted(allowed)}
    for name in names:
        _keep(mine, folder, name)
    mine.came_home(sorted(allowed))
    return dict.fromkeys(sorted(allowed), True)


def _keep(mine: HostRuns, folder: str, name: str) -> None:
    run_id, dummy, rest = name.partition("/")
    target = os.path.join(mine.campaign.run_dir(run_id), rest)
    try:
        os.replace(os.path.join(folder, name), target)
    except FileNotFoundError:  # the first of its folder
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(os.path.join(folder, name), target)


def _read(path: str, host: str) -> dict[str, t.Any]:
    document = files.read_json(path, "the record that host %s sent" % host)
    if not isinstance(document, dict):
        raise MadError("the record that host %s sent is no JSON object" % host)
    return document
