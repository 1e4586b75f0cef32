# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of plan.json, one run per line, and of its part for one host."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Sequence


def line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def host_of(run: Mapping[str, Any]) -> str:
    return str((run.get("place") or {}).get("host", ""))


def plan_text(plan: Mapping[str, Any], lines: Sequence[str]) -> str:
    """JSON with one run per line (`lines`): a person finds a run with grep, and 50,000 are written in seconds."""
    parts = []
    for key in sorted(plan):
        value = (
            "[\n%s\n]" % ",\n".join(lines)
            if key == "runs" and lines
            else json.dumps(plan[key], indent=2, ensure_ascii=False, allow_nan=False)
        )
        parts.append("%s: %s" % (json.dumps(key), value))
    return "{\n%s\n}\n" % ",\n".join(parts)


def part(plan: Mapping[str, Any], host: str) -> Dict[str, Any]:
    """A plan with what concerns the runs of one host."""
    hosts = plan.get("hosts") or {}
    runs = [run for run in plan["runs"] if host_of(run) == host]
    return dict(plan, runs=runs, hosts={host: hosts[host]} if host in hosts else {}, builds=[], warnings=[])
