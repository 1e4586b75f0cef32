# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory file of bad hosts: the group mad_quarantined, each host with why and since when.

The file is an inventory of its own, given beside the usual one (`-i inventory.yml -i quarantine.yml`): the group sets mad_skip, so that no
play runs anything there, and a host keeps its other variables. Hosts stay in it until somebody releases them: a host that is not asked
any more cannot become healthy by itself.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

GROUP = "mad_quarantined"
REASON, SINCE, DRAINED = "mad_quarantine_reason", "mad_quarantine_since", "mad_quarantine_drained"
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*\Z")
_TEMPLATE = re.compile(r"\{(?=[{%#])")
HEAD = """---
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by mad.engine.diagnose; mad.engine.release_host takes hosts out. Use it beside your inventory: -i inventory.yml -i %s
"""

Hosts = dict[str, dict[str, t.Any]]


def read(path: str) -> Hosts:
    """{host: its variables}; {} where there is no file yet. InvalidInput for a file that is something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = yaml.safe_load(stream)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput("the quarantine file %s cannot be read: %s" % (path, error.strerror)) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            "the quarantine file %s is not YAML: %s; it was not touched" % (path, " ".join(str(error).split())[:300])
        ) from error
    if document is None:
        return {}
    group = document.get(GROUP) if isinstance(document, dict) and set(document) == {GROUP} else None
    hosts = (group.get("hosts") or {}) if isinstance(group, dict) else None
    if not isinstance(hosts, dict) or any(not isinstance(entry, (dict, type(None))) for entry in hosts.values()):
        raise InvalidInput(
            "the quarantine file %s holds more than the group %s: name a file of its own; it was not touched" % (path, GROUP)
        )
    return {str(name): dict(entry or {}) for name, entry in hosts.items()}


def text(hosts: t.Mapping[str, t.Mapping[str, t.Any]], path: str) -> str:
    """The file; sorted, so that it can be kept under version control."""
    group = {"hosts": {name: dict(hosts[name]) for name in sorted(hosts)}, "vars": {"mad_skip": True}}
    return HEAD % os.path.basename(path) + yaml.safe_dump({GROUP: group}, allow_unicode=True, width=140)


def added(known: Hosts, bad: t.Mapping[str, str], now: float | None = None) -> Hosts:
    """`known` with these {host: reason}; who is in it already keeps its first reason and date.

    Both come out of results, that is, from anywhere: a reason that Ansible would run as a template is made plain text, a name that would
    be several hosts is refused.
    """
    odd = [host for host in bad if not _HOST.match(host)]
    if odd:
        raise InvalidInput(
            "%s: not the name of one host of an inventory; the quarantine file was not touched" % ", ".join(map(repr, odd[:5]))
        )
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return {**{host: {REASON: _TEMPLATE.sub("(", reason), SINCE: stamp} for host, reason in bad.items()}, **known}


def locked(path: str) -> t.Any:
    """One writer at a time."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise InvalidInput("the quarantine file %s: its directory does not exist; make it first" % path)
    return files.locked(os.path.join(folder, ".%s.lock" % os.path.basename(path)))
