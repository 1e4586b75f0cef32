# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs out of a build manifest: its images, its cards, and what of its context is meant for the run."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..base.errors import ImageError, InvalidInput, MadError
from ..base.merge import merge
from ..base.scalars import named
from ..building.manifest import failures
from ..containers import registry as registries
from ..contexts.context_keys import COMMENT
from ..models import cards
from .plan_image import Variant, manifest_image

_OF_THE_RUN = ("docker_env_vars", "guest_os", "tools", "pre_scripts", "post_scripts", "encapsulate_script")
_OF_THE_BUILD = ("docker_build_arg", "gpu_vendor", "ctx_test", "host_os", "skip_perf_collection")
_OF_THE_DEPLOYMENT = ("slurm", "k8s", "kubernetes", "distributed", "env_vars")
# Found on the machine that built, so of no meaning on the one that runs.
_DETECTED = ("MAD_GPU_VENDOR", "MAD_RUNTIME_NGPUS", "MAD_MULTI_NODE_RUNNER")
_DETECTED_START = "MAD_SYSTEM_"


def _card(raw: Mapping[str, Any], path: str) -> Tuple[Dict[str, Any], Optional[MadError]]:
    """A card of the manifest in its normal form; for one that is wrong a blank one, with its error."""
    given = dict({"dockerfile": "", "args": ""}, **{key: value for key, value in raw.items() if key != "source"})
    entry = cards.Entry(str(raw["name"]), [], given, path, "", 0)
    try:
        entry = cards.entry(given, path, "", 0)
        return cards.complete(entry, "")[0], None
    except InvalidInput as error:
        return cards.blank(entry), error


def _in_registry(record: Mapping[str, Any], registry: str, credentials: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record as it is in another registry than the manifest's, under the name a push there gives. An image that was only named stays."""
    if not registry or record["given"]:
        return record
    credential = registries.credential_for(registry, credentials)
    return dict(record, registry_image=registries.push_name(str(record["docker_image"]), registry, credential))


def entries(
    manifest: Mapping[str, Any], registry: str = "", credentials: Optional[Mapping[str, Any]] = None
) -> List[Tuple[Dict[str, Any], Variant, Optional[MadError]]]:
    """(card, image, problem) of every image of manifest.read(); a model with several has one variant for each, named by the image.

    `registry` (mad_registry) is where images come from instead of the manifest's own.
    """
    place = registries.normalise(registry)
    count = Counter(str(card["name"]) for card in manifest["models"].values())
    found = []
    for record in manifest["images"]:
        card, problem = _card(manifest["models"][record["name"]], str(manifest["path"]))
        variant = record["name"] if count[str(card["name"])] > 1 else ""
        found.append((card, manifest_image(_in_registry(record, place, credentials or {}), variant), problem))
    return found


def check(manifest: Mapping[str, Any]) -> None:
    """A MadError for a manifest without any image: no run would be planned, and no row would say so."""
    failed = ["%s (%.300s)" % item for item in failures(manifest).items()]
    if manifest["images"]:
        return
    if failed:
        raise ImageError("the build manifest %s: no image was built, so there is nothing to run; failed: %s" % (manifest["path"], named(failed)))
    raise InvalidInput("the build manifest %s: built_images is empty, so there is nothing to run" % manifest["path"])


def notes(manifest: Mapping[str, Any], contexts: Sequence[Mapping[str, Any]]) -> List[str]:
    """What of a manifest's context is not taken over, although a host has nothing of its own in its place (comments and a build's own are no
    news), and the models of it that have no image."""
    config = (manifest.get("deployment") or {}).get("config") or {}
    read = _OF_THE_RUN + _OF_THE_BUILD + _OF_THE_DEPLOYMENT
    said = {key for layer in (config, manifest["context"]) for key, value in layer.items() if value and key != "target"}
    given = [key for key in sorted(said) if key not in read and not key.startswith(COMMENT)]
    unread = [key for key in given if any(key not in context for context in contexts)]
    found = []
    if unread:
        found.append(
            "the build manifest %s: of its context, %s %s not taken over; write what the hosts that run need into their mad_context"
            % (manifest["path"], ", ".join(unread[:10]), "are" if len(unread) > 1 else "is")
        )
    failed = [name for name in failures(manifest) if name not in manifest["models"]]
    if failed:
        found.append("the build manifest %s: builds failed, and what they are for does not run: %s" % (manifest["path"], named(failed)))
    return found


def context_layer(manifest: Mapping[str, Any]) -> Dict[str, Any]:
    """The lowest layer of every host's context: what the build wrote down for the run. Mounts, GPUs and vendor are the host's own."""
    context, deployment = manifest["context"], manifest.get("deployment") or {}
    config = deployment.get("config") or {}
    layer = {key: context[key] for key in _OF_THE_RUN if context.get(key)}
    layer.update({key: config[key] for key in _OF_THE_DEPLOYMENT if config.get(key)})
    if layer.get("k8s"):
        layer.pop("kubernetes", None)  # the same for readers that know it by this name
    if deployment.get("target", "local") != "local" and not deployment.get("hosts"):  # several targets: each host knows its own
        layer["deploy"] = deployment["target"]
    variables = layer.get("docker_env_vars") or {}
    if isinstance(variables, Mapping):
        layer["docker_env_vars"] = {
            name: value for name, value in variables.items() if name not in _DETECTED and not str(name).startswith(_DETECTED_START)
        }
    return merge(layer)


def cards_of(manifest: Mapping[str, Any]) -> Dict[Tuple[str, str], Dict[str, Any]]:
    """{(model, name of the image in a run): card}, secret values included, which a plan does not keep."""
    return {(card["name"], variant.choices[0].image["name"]): card for card, variant, _problem in entries(manifest)}
