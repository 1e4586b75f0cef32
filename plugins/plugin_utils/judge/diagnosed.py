# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play asks of fleet_diagnose: its words checked, the hosts judged, the bad ones written into the quarantine file, and out again."""

from __future__ import annotations

import collections
import os
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import files, scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

from . import asked, fleet, fleet_table, quarantine, sources, superbench
from .libraries import need


class Answer(t.NamedTuple):
    """What comes back."""

    hosts: list[dict[str, t.Any]]
    counts: dict[str, int]
    lines: list[str]
    warnings: list[str]
    source: str
    reasons: dict[str, str]  # of the bad hosts
    folders: tuple[str, ...]  # of the campaigns that were read


def diagnose(given: t.Mapping[str, t.Any]) -> Answer:
    """Read the campaigns, judge every host of them."""
    need()
    names = scalars.to_list(given.get("candidate"), "mad_candidate")
    source = sources.candidate(sources.Place(given.get("results") or "results", given.get("database_url") or ""), names)
    limits = fleet.Limits(least=asked.part(given.get("same_within"), fleet.Limits().least), better=asked.directions(given.get("better")))
    rules = superbench.load(given["rules"]) if given.get("rules") else []
    entries, warnings = fleet.diagnose(source, limits)
    if rules:
        entries, more = superbench.applied(rules, source, entries)
        warnings += more
    counts = collections.Counter(entry["verdict"] for entry in entries)
    reasons = {entry["host"]: fleet_table.reason(entry) for entry in entries if entry["bad"]}
    told = {name: counts[name] for name in (*fleet.BAD, *([superbench.KIND] if rules else []), fleet.HEALTHY, fleet.UNJUDGED)}
    return Answer(entries, told, fleet_table.render(entries, source.name), warnings, source.name, reasons, source.folders)


def quarantined(path: str, bad: t.Mapping[str, str], write: bool) -> dict[str, t.Any]:
    """Bring bad hosts into the file; {"changed", "diff"}."""
    return _changed(path, lambda known: quarantine.added(known, bad), write)


def released(path: str, names: t.Sequence[str], write: bool) -> dict[str, t.Any]:
    """Take hosts out of the file; a name that is not in it is an error, as a slip would release nobody."""

    def without(known: quarantine.Hosts) -> quarantine.Hosts:
        unknown = [name for name in names if name not in known and name != "all"]
        if unknown:
            there = ", ".join(sorted(known)[:8]) or "nobody"
            raise InvalidInput("%s: not in quarantine; %s holds %s" % (", ".join(unknown[:8]), path, there))
        return {} if "all" in names else {name: entry for name, entry in known.items() if name not in names}

    return _changed(path, without, write)


def _changed(path: str, change: t.Callable[[quarantine.Hosts], quarantine.Hosts], write: bool) -> dict[str, t.Any]:
    try:
        if not write:
            return _written(path, change, write)
        with quarantine.locked(path):
            return _written(path, change, write)
    except OSError as error:
        raise InvalidInput("the quarantine file %s cannot be written: %s" % (path, error.strerror)) from error


def _written(path: str, change: t.Callable[[quarantine.Hosts], quarantine.Hosts], write: bool) -> dict[str, t.Any]:
    known = quarantine.read(path)
    wanted = change(known)
    before = quarantine.text(known, path) if os.path.exists(path) else ""
    changed = wanted != known
    after = quarantine.text(wanted, path) if changed else before
    if changed and write:
        files.write_atomic(path, after.encode("utf-8"))
    gone, come = sorted(set(known) - set(wanted)), sorted(set(wanted) - set(known))
    diff = {"before": before, "after": after, "before_header": path, "after_header": path}
    return {"changed": changed, "added": come, "released": gone, "quarantined": sorted(wanted), "diff": diff}
