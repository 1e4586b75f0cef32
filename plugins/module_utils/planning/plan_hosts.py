# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as the plan sees them: layers of context become one, presets below, and a target that this release serves."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..contexts import context as contexts
from ..contexts.presets import apply_presets
from . import targets

# Keys of one host's entry in campaign_plan's `hosts`.
KEYS = ("context", "play_context", "context_file", "play_context_file", "target", "runtime", "facts", "reachable", "unreachable", "reason")

LoadFile = Callable[[str], Dict[str, Any]]
_SECTIONS = {"slurm": "slurm", "k8s": "k8s", "kubernetes": "k8s"}  # of a context: the target each is for


def layers(given: Mapping[str, Any], host: str, load_file: LoadFile, manifest: Optional[Tuple[str, Mapping[str, Any]]]) -> Tuple[List[Any], List[str]]:
    """(layers, their names), lowest first: manifest, mad_context_file of the play and of the host, mad_context of the play and of the host, mad_target.

    What a manifest says of another target than the host has chosen for itself does not count.
    """
    found: List[Any] = []
    names: List[str] = []

    def add(layer: Mapping[str, Any], name: str) -> None:
        if layer:
            found.append(layer)
            names.append(name)

    paths = [str(given[key]) for key in ("play_context_file", "context_file") if not scalars.is_unset(given.get(key))]
    for path in dict.fromkeys(paths):
        add(load_file(path), "mad_context_file %s" % path)
    add(contexts.load_text(given.get("play_context"), "mad_context of the play"), "mad_context of the play")
    own = "mad_context of host %s" % host
    add(contexts.load_text(given.get("context"), own), own)
    if not scalars.is_unset(given.get("target")):
        add({"deploy": given["target"]}, "mad_target of host %s" % host)
    if manifest:
        found.insert(0, _of_target(manifest[1], found, names))
        names.insert(0, "the build manifest %s" % manifest[0])
    return found, names


def _of_target(layer: Mapping[str, Any], above: List[Any], names: List[str]) -> Mapping[str, Any]:
    """A manifest's layer without the sections of other targets than the one that the layers above it choose."""
    if all(scalars.is_unset(upper.get("deploy")) and not any(upper.get(key) is not None for key in _SECTIONS) for upper in above):
        return layer
    chosen = contexts.normalise(above, names)["context"]["deploy"]
    return {key: value for key, value in layer.items() if key != "deploy" and _SECTIONS.get(key, chosen) == chosen}


def make_host(
    name: str, given: Mapping[str, Any], load_file: LoadFile, manifest: Optional[Tuple[str, Mapping[str, Any]]] = None
) -> Tuple[Dict[str, Any], List[str]]:
    """(host for make_plan, warnings). A host without facts counts as unreachable: nothing can be started where nothing is known."""
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise InvalidInput("hosts: %s: unknown key %r; known are %s" % (name, unknown[0], ", ".join(KEYS)))
    found = contexts.normalise(*layers(given, name, load_file, manifest))
    facts = given.get("facts") or None
    if facts is not None and not isinstance(facts, Mapping):
        raise scalars.wrong("hosts: %s: facts" % name, "a dict", facts)
    gone = scalars.to_bool(given.get("unreachable") or False, "unreachable") or not scalars.to_bool(
        given.get("reachable", True), "reachable"
    )
    reason = " ".join(str(given.get("reason") or "").split())
    detected = scalars.plain(facts, "facts of host %s" % name) if facts else None
    context = apply_presets(found["context"])
    target = targets.of(context)
    try:
        context = target.adjust(context)
        decisive = target.facts(context, detected)
    except InvalidInput as error:
        raise InvalidInput("host %s: %s" % (name, error.message)) from error
    host = {
        "context": context,
        "facts": decisive,
        "machine": detected,
        "runtime": str(given.get("runtime") or "").strip().lower(),
        "reachable": not gone and facts is not None,
        "reason": reason or ("" if gone or facts else "mad.engine.gpu_info gave no facts of it"),
    }
    return host, found["warnings"]


def make_hosts(
    given: Mapping[str, Mapping[str, Any]], load_file: LoadFile, manifest: Optional[Tuple[str, Mapping[str, Any]]] = None
) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
    """All hosts, in order, and each warning once; a file is read once. `manifest` is the path and the context_layer of the one that is run from."""
    hosts: Dict[str, Dict[str, Any]] = {}
    warnings: Dict[str, None] = {}
    load = functools.lru_cache(maxsize=None)(load_file)
    for name in given:
        hosts[name], notes = make_host(name, given[name], load, manifest)
        warnings.update(dict.fromkeys(notes))
    return hosts, list(warnings)
