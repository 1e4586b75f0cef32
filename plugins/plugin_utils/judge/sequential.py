# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repeats until it is decided: when to look, and how certain each look must be so that looking often finds nothing that is not there.

With at most `mad_repeats_max` runs the looks are fixed beforehand: at the first number of runs that can say anything, then at half as many
again, up to the most. Each of K looks is held to alpha / K (Bonferroni), which bounds the chance of a false alarm at any of them by alpha
whatever the noise, and whoever stops when. Looking between two of them is free: only the runs of the last look that was reached count.
"""

from __future__ import annotations

import math
import typing as t

FIRST = 4  # runs of one host: the least with which ranks can reach 5 %
GROWTH = 1.5


def looks(most: int, first: int = FIRST) -> list[int]:
    """Numbers of runs at which it is decided, the last one being `most`."""
    found = [min(max(first, FIRST), most)]
    while found[-1] < most:
        step = math.ceil(found[-1] * GROWTH)
        found.append(step if step < most else most)
    return found


def reached(plan: list[int], runs: int) -> int:
    """The runs that count: those of the last look that was reached, 0 before the first."""
    return max((look for look in plan if look <= runs), default=0)


def following(plan: list[int], runs: int) -> int:
    """The next look, 0 after the last."""
    return min((look for look in plan if look > runs), default=0)


def further(plan: t.Mapping[str, t.Any], entries: t.Iterable[t.Mapping[str, t.Any]], most: int) -> list[dict[str, t.Any]]:
    """What a campaign still has to run: {model, args, host, repeats} of all that is inconclusive and not at its most.

    The next look says how many; where runs that failed keep it from being reached, one more. So every answer is more than was planned.
    """
    planned: dict[tuple[str, str, str], int] = {}
    for run in plan["runs"]:
        key = (str(run["model"]), " ".join(str(run.get("args") or "").split()), str(run["place"]["host"]))
        planned[key] = max(planned.get(key, 0), int(run["repeat"]))
    found: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        look = entry["repeats_needed"]
        for host in entry["candidate"].get("hosts", ()) if look else ():
            key = (entry["card"], entry["args"], host)
            wanted = min(most, look if look > planned.get(key, most) else planned.get(key, most) + 1)
            if wanted > planned.get(key, most):
                found[key] = max(found.get(key, 0), wanted)
    return [dict(zip(("model", "args", "host"), key, strict=True), repeats=repeats) for key, repeats in found.items()]
