# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's settings (the context): read from text, brought to one form whatever the spelling, merged layer by layer."""

from __future__ import annotations

import ast
import difflib
import json
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from ..base.merge import merge
from . import context_keys
from .context_keys import Path

EXAMPLE = "{'gpu_vendor': 'AMD', 'guest_os': 'UBUNTU'}"
_NEAR = 0.8  # similarity from which an unknown key counts as a slip of the pen
_ABSENT = object()
OUTSIDE = "MAD_SECRETS"  # variables of the play's environment with this in their name reach the model
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}|\A\$[A-Za-z_][A-Za-z0-9_]*\Z")


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """A JSON object whose keys are all different: of two equal ones, one would be dropped in silence."""
    found: Dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput("the key %r stands there twice" % key)
        found[key] = value
    return found


def _unique_keys(tree: ast.AST) -> None:
    """The same of a Python literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _unique([(str(key.value), None) for key in node.keys if isinstance(key, ast.Constant)])


def _from_text(text: str, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except InvalidInput as error:
        raise InvalidInput("%s: %s" % (what, error.message)) from error
    except (ValueError, RecursionError) as error:
        reason = "not JSON: %s" % error
    try:
        tree = ast.parse(text, mode="eval")
        _unique_keys(tree)
        return ast.literal_eval(tree)
    except InvalidInput as error:
        raise InvalidInput("%s: %s" % (what, error.message)) from error
    # MemoryError and RecursionError are how the parser says "nested too deeply".
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise InvalidInput(
            "%s: Invalid additional_context format: neither JSON nor a Python literal (%s; %s). An example: %s"
            % (what, reason, type(error).__name__, EXAMPLE)
        ) from error


def load_text(value: Any, what: str) -> Dict[str, Any]:
    """A context from a dict, JSON or Python-literal text; "" and nothing give {}. `what` names it in errors ('mad_context')."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    loaded = _from_text(value.strip(), what) if isinstance(value, str) else value
    if not isinstance(loaded, Mapping):
        raise InvalidInput(
            "%s: Invalid additional_context format: expected a dict, not %s. An example: %s" % (what, scalars.kind_of(loaded), EXAMPLE)
        )
    try:
        result: Dict[str, Any] = scalars.plain(loaded, what)
    except RecursionError as error:
        raise InvalidInput("%s is nested too deeply" % what) from error
    return result


def _get(tree: Mapping[str, Any], path: Path) -> Any:
    node: Any = tree
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            return _ABSENT
        node = node[key]
    return _ABSENT if node is None or node == "" else node


def _pop(tree: Dict[str, Any], path: Path) -> None:
    node: Any = tree
    for key in path[:-1]:
        node = node.get(key)
    del node[path[-1]]


def _put(tree: Dict[str, Any], path: Path, value: Any, what: str) -> None:
    node = tree
    for key in path[:-1]:
        inner = node.setdefault(key, {})
        if not isinstance(inner, dict):
            raise scalars.wrong("%s: %s" % (what, key), "a dict", inner)
        node = inner
    node[path[-1]] = value


def _check_for(path: Path) -> context_keys.Check:
    if path[0] == "distributed" and len(path) == 2:
        return context_keys.DISTRIBUTED_KEYS[path[1]]
    return context_keys.KEYS.get(".".join(path), lambda value, _key: value)


def _split_launcher(layer: Dict[str, Any], what: str) -> None:
    """`launcher` is text or {type, nnodes, nproc_per_node, master_port}; anything else is refused here."""
    launcher = layer.get("launcher")
    if isinstance(launcher, dict):
        unknown = sorted(set(launcher) - context_keys.LAUNCHER_KEYS)
        if unknown:
            raise InvalidInput(
                "%s: launcher: unknown key %r; known are %s" % (what, unknown[0], ", ".join(sorted(context_keys.LAUNCHER_KEYS)))
            )
    elif launcher is not None and not isinstance(launcher, str):
        raise scalars.wrong("%s: launcher" % what, "text or a dict with type, nnodes, nproc_per_node, master_port", launcher)


def _unify(layer: Dict[str, Any], what: str) -> None:
    """Move every spelling of a value to its one place; two that differ are an error that names both."""
    for place, others in context_keys.SPELLINGS:
        found: List[Tuple[Path, Any]] = []
        for path in (place,) + others:
            value = _get(layer, path)
            if value is _ABSENT or (path == ("launcher",) and isinstance(value, dict)):
                continue
            found.append((path, _check_for(place)(value, "%s: %s" % (what, ".".join(path)))))
            _pop(layer, path)
        for path, value in found[1:]:
            if value != found[0][1]:
                raise InvalidInput(
                    "%s: %s (%s) and %s (%s) mean the same and differ; keep one"
                    % (what, ".".join(found[0][0]), scalars.shown(found[0][1]), ".".join(path), scalars.shown(value))
                )
        if found:
            _put(layer, place, found[0][1], what)
    layer.pop("launcher", None)


def _typed(layer: Dict[str, Any], what: str) -> Dict[str, Any]:
    result: Dict[str, Any] = {}
    for key, value in layer.items():
        check = context_keys.KEYS.get(key)
        result[key] = check(value, "%s: %s" % (what, key)) if check else value
    if "distributed" in result:
        inner = {key: value for key, value in result["distributed"].items() if value is not None}
        for key in set(inner) & set(context_keys.DISTRIBUTED_KEYS):
            inner[key] = context_keys.DISTRIBUTED_KEYS[key](inner[key], "%s: distributed.%s" % (what, key))
        result["distributed"] = inner
    return result


def _refuse(layer: Mapping[str, Any], what: str) -> None:
    for key, reason in context_keys.REFUSED.items():
        if layer.get(key):
            raise InvalidInput("%s: %s is not supported by this release: %s" % (what, key, reason))


def _near_misses(names: Sequence[str], known: Sequence[str], prefix: str, what: str) -> List[str]:
    warnings = []
    lowered = {name.lower(): name for name in known}
    for name in sorted(set(names) - set(known)):
        near = [lowered[word] for word in difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=_NEAR)]
        meant = context_keys.MEANT.get(prefix + name) or (prefix + near[0] if near else "")
        if meant:
            warnings.append("%s: %s%s is not a known key and has no effect; did you mean %s?" % (what, prefix, name, meant))
    return warnings


def _deploy_of(layer: Dict[str, Any], what: str) -> None:
    """A layer that brings the options of a scheduler chooses it; one that says otherwise contradicts itself."""
    sections = [key for key in ("slurm", "k8s") if key in layer]
    if len(sections) == 2:
        raise InvalidInput(
            "Conflicting deployment configuration: Both 'k8s' and 'slurm' fields present in %s; a host has one target, keep one of them"
            % what
        )
    if sections and layer.setdefault("deploy", sections[0]) != sections[0]:
        raise InvalidInput(
            "Conflicting deployment configuration: %s says deploy: %s and has options for %s; change one of them"
            % (what, layer["deploy"], sections[0])
        )


def _without_comments(layer: Dict[str, Any]) -> Dict[str, Any]:
    """JSON has no comments, so people write them as keys that begin with _."""
    kept = {key: value for key, value in layer.items() if not key.startswith(context_keys.COMMENT)}
    for section in context_keys.WITH_COMMENTS:
        if isinstance(kept.get(section), dict):
            kept[section] = {key: value for key, value in kept[section].items() if not str(key).startswith(context_keys.COMMENT)}
    return kept


def is_reference(value: Any, name: str) -> bool:
    """Whether a value is nothing but the variable itself, as a shell writes it: NAME: ${NAME}."""
    return value in ("${%s}" % name, "$" + name)


def _unexpanded(layer: Mapping[str, Any], what: str) -> List[str]:
    """Warnings about variables that look as if a shell would fill them in, as madengine's Slurm job does. Values may be secret: only the name is shown."""
    found = [(key, name, _REFERENCE.search(value)) for key in context_keys.VARIABLES for name, value in sorted(layer.get(key, {}).items())]
    return ["%s: %s.%s says %s: %s" % (what, key, name, match.group(), _what_of(layer[key][name], name)) for key, name, match in found if match]


def _what_of(value: str, name: str) -> str:
    if OUTSIDE in name and is_reference(value, name):
        return "the environment of the play says the value; without it the model gets these characters"
    return "nothing is expanded, the model gets these characters; write the value itself"


def _without_effect(layer: Mapping[str, Any], what: str) -> List[str]:
    """Warnings about unknown keys that not even a CONTEXT header of a Dockerfile could ask for."""
    return [
        "%s: %s is not a known key and has no effect" % (what, key)
        for key, value in sorted(layer.items())
        if key not in context_keys.TOP_NAMES and isinstance(value, (dict, list)) and not _near_misses([key], context_keys.TOP_NAMES, "", what)
    ]


def _one_form(layer: Mapping[str, Any], what: str, warnings: List[str]) -> Dict[str, Any]:
    """One layer: plain types, one spelling, checked types; keys without a value, or with an empty answer, count as absent."""
    form = _without_comments({key: value for key, value in scalars.plain(layer, what).items() if value is not None and value != ""})
    _split_launcher(form, what)
    warnings.extend(_near_misses(list(form), context_keys.TOP_NAMES, "", what))
    warnings.extend(_without_effect(form, what))
    for section in ("slurm", "k8s", "kubernetes", "distributed"):
        if section in form and not isinstance(form[section], dict):
            raise scalars.wrong("%s: %s" % (what, section), "a dict", form[section])
    for (section, key), reason in context_keys.NEEDLESS.items():
        if isinstance(form.get(section), dict) and form[section].pop(key, None):
            warnings.append("%s: %s.%s has no effect: %s" % (what, section, key, reason))
    _unify(form, what)
    form = _typed(form, what)
    warnings.extend(_unexpanded(form, what))
    warnings.extend(_near_misses(list(form.get("distributed", {})), list(context_keys.DISTRIBUTED_KEYS), "distributed.", what))
    _refuse(form, what)
    _deploy_of(form, what)
    return {key: value for key, value in form.items() if value != ""}  # of blanks only


def normalise(layers: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> Dict[str, Any]:
    """{"context", "warnings"} from layers, lowest first; `names` say in errors which layer is meant.

    The form of the result is in docs/contracts.md. Between layers the later one wins, key by key; within one layer two spellings that
    differ are an error. Unknown keys are kept; one that looks like a slip is warned about.
    """
    warnings: List[str] = []
    forms = []
    for index, layer in enumerate(layers):
        what = names[index] if index < len(names) else "context layer %d" % (index + 1)
        forms.append(_one_form(layer, what, warnings))
    context = merge(*forms)
    _deploy_of(context, " over ".join(reversed(list(names))) if names else "the merged context")
    context.setdefault("deploy", "local")
    if context.get("distributed") == {}:
        del context["distributed"]
    for key, targets in context_keys.ONLY_FOR.items():
        if context.get(key, context_keys.DEFAULTS[key]) != context_keys.DEFAULTS[key] and context["deploy"] not in targets:
            warnings.append("%s has an effect on target %s only, not on %s" % (key, " and ".join(targets), context["deploy"]))
    return {"context": context, "warnings": warnings}
