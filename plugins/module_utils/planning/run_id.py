# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The id of a run: a hash over what the run is, never over when, by whom or with which luck it is done.

In it: the card, the args, content hashes of all files that reach the run, build arguments, the context that reaches it, the place, the
repeat. Not in it: the time limit, live output, what is kept, parallelism, paths of results, anything that was detected on the host, and of
secrets the values (their names are in it).
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict, Iterable, Mapping

from ..base.canonical import canonical_json, hash_value
from ..base.errors import InvalidInput
from ..base.secret_names import is_secret_name

SCHEMA = 1
LENGTH = 16  # hex digits: among 10 million runs of one campaign two meet with a chance of 1 in 400,000
PARTS = ("card", "args", "hashes", "build_args", "context", "place", "repeat", "variant", "runtime")
HASHES = ("scripts", "pre_post", "docker", "tools", "data")
# Keys of a context that change how long and how loudly a run is watched, not what it is. Build arguments are a part of their own.
_NOT_OF_THE_RUN = frozenset(("timeout", "live_output", "debug", "monitor", "cleanup_on_failure", "docker_build_arg"))
# The same of a cluster's section, in every spelling: who is told, what is kept, how long and how many at a time.
_NOT_OF_THE_SECTION = {
    "slurm": frozenset(
        ("output_dir", "time", "max_jobs", "slurm_max_jobs", "node_check", "enable_node_check", "comment", "mail", "mail_user", "mail_type")
    ),
    "k8s": frozenset(("output_dir", "kubeconfig", "in_cluster", "pending_timeout", "max_jobs", "ttl_seconds", "ttl_seconds_after_finished")),
}
_CARD_WITHOUT = frozenset(("timeout", "source"))
_SECRET = {"secret": True}  # stands for a value that is not part of the id


def _without_values(value: Any) -> Any:
    """The same structure with every text under a secret name replaced by a mark."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {
            key: _SECRET if is_secret_name(key) and not isinstance(item, Mapping) else _without_values(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_values(item) for item in value]
    return value


def card_part(card: Mapping[str, Any]) -> Dict[str, Any]:
    """What of a card counts."""
    return {key: _without_values({key: value})[key] for key, value in card.items() if key not in _CARD_WITHOUT}


def context_part(context: Mapping[str, Any], secrets: Iterable[str] = ()) -> Dict[str, Any]:
    """What of a normalised context counts, with the names of secrets that come from elsewhere (environment, credential file)."""
    counts = {key: _of_section(key, value) for key, value in context.items() if key not in _NOT_OF_THE_RUN}
    given = {key: _without_values({key: value})[key] for key, value in counts.items()}
    return {"given": given, "secrets": sorted(secrets)}


def _of_section(name: str, value: Any) -> Any:
    """What of a cluster's section counts; any other value as it is."""
    without = _NOT_OF_THE_SECTION.get(name)
    return {key: item for key, item in value.items() if key not in without} if without and isinstance(value, Mapping) else value


def build_part(build_args: Mapping[str, str]) -> Dict[str, Any]:
    """Build arguments; of secret ones the names."""
    return dict(_without_values(build_args))


def content(parts: Mapping[str, Any]) -> Dict[str, str]:
    """What an id was made of, one short hash each ("" for what is not there), but place and repeat, which a run names itself.

    Two runs with different ids differ in one of these, so that somebody can say in which.
    """
    found = {name: hash_value(parts[name])[:LENGTH] for name in ("card", "args", "build_args", "context")}
    found.update({name: str(parts["hashes"][name])[:LENGTH] for name in HASHES})
    return dict(found, variant=str(parts["variant"]), runtime=str(parts["runtime"]))


def run_id(parts: Mapping[str, Any]) -> str:
    """16 hex digits for a dict of exactly PARTS (hashes: exactly HASHES)."""
    if set(parts) != set(PARTS) or set(parts["hashes"]) != set(HASHES):
        raise InvalidInput(
            "a run id is made of %s with hashes of %s, not of %s" % (", ".join(PARTS), ", ".join(HASHES), ", ".join(sorted(parts)))
        )
    text = canonical_json(dict(parts, schema=SCHEMA))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:LENGTH]
