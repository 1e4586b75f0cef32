# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling what only a host or a build can say: runtime, image, GPUs, processes, environment. Nothing else of a run is touched."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..base.errors import ImageError, InvalidInput, MadError
from ..facts import gpu
from . import plan_env, plan_gpu, plan_image
from .plan_draft import outcome_of, skipped
from .plan_image import Choice, Mismatch
from .unresolved import find, is_unresolved, unresolved

# Where marks may stand; nowhere else is one looked for (a card may hold any key).
_PLACES = ("runtime", "image", "launcher", "gpus", "env")
_BUILT = ("docker_sha", "build_duration", "registry_image", "registry_digest", "base_docker", "push_error")  # what comes with a digest
_ENGINES = ("docker", "podman")

Run = Dict[str, Any]


def marks(run: Mapping[str, Any]) -> List[str]:
    """'path (why)' of everything that is not decided yet; a run that will not run has none."""
    if run.get("outcome"):
        return []
    return ["%s (%s)" % found for place in _PLACES for found in find(run.get(place), place)]


# -- runtime ---------------------------------------------------------------------------------------------------------------------


def _engine(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return dict((facts.get("engines") or {}).get(name) or {})


def automatic(facts: Mapping[str, Any]) -> str:
    """What `auto` means on a host: docker, else podman, else host."""
    return next((name for name in _ENGINES if _engine(facts, name).get("available")), "host")


def settle_runtime(asked: Any, facts: Mapping[str, Any], needs_engine: bool) -> str:
    """docker, podman or host for what was asked (a mark means auto); MadError when the host does not have it."""
    if is_unresolved(asked):
        found = automatic(facts)
        if found == "host" and needs_engine:
            raise MadError("an image was given, and no engine answers on the host: %s" % _engine_problems(facts), "infra")
        return found
    if asked in _ENGINES and not _engine(facts, asked).get("available"):
        raise MadError(
            "mad_runtime is %s, which does not answer on the host: %s" % (asked, _engine_problems(facts, (str(asked),))), "infra"
        )
    return str(asked)


def _engine_problems(facts: Mapping[str, Any], names: Sequence[str] = _ENGINES) -> str:
    return "; ".join("%s: %s" % (name, _engine(facts, name).get("problem") or "not found") for name in names)


def silent_engine(facts: Mapping[str, Any]) -> str:
    """Why an engine whose command is there does not answer, with what to do; "" where none is installed."""
    return "; ".join(str(_engine(facts, name).get("problem")) for name in _ENGINES if _engine(facts, name).get("command"))


# -- hardware --------------------------------------------------------------------------------------------------------------------


def skipped_architecture(names: Sequence[str], facts: Mapping[str, Any]) -> str:
    """The entry of skip_gpu_arch that the host's GPU is, or "". Aliases count (mi300x is gfx942), and words of a product name (A100)."""
    found = facts.get("gpu") or {}
    if found.get("vendor") in (None, "NONE"):
        return ""
    texts = [str(found.get(key) or "") for key in ("architecture", "product")]
    words = {word for text in texts for word in _words(text)} | {gpu.architecture(text).lower() for text in texts if text}
    for name in names:
        if gpu.architecture(name).lower() in words:
            return name
    return ""


def _words(text: str) -> List[str]:
    return "".join(character if character.isalnum() else " " for character in text.lower()).split()


def _vendor(run: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    vendor = run["gpus"]["vendor"]
    return str((facts.get("gpu") or {}).get("vendor") or "NONE") if is_unresolved(vendor) else str(vendor)


def _choose(choices: Sequence[Choice], context: Mapping[str, Any], facts: Mapping[str, Any], model: str) -> Choice:
    found = plan_image.pick(choices, context, facts)
    if found is None:
        wanted = "; ".join(
            "%s needs %s" % (_source(choice), ", ".join("%s %s" % item for item in sorted(choice.when.items()))) for choice in choices
        )
        have = plan_image.match_context(context, facts)
        here = ", ".join("%s %s" % (key, have[key]) for key in ("gpu_vendor", "host_os") if key in have)
        if all(choice.request is None for choice in choices):
            raise Mismatch("the image is for other hardware: %s; the host has %s" % (wanted, here))
        raise ImageError("model %s: no Dockerfile matches the host (%s): %s" % (model, here, wanted))
    if found.problem:
        raise ImageError(found.problem)
    return found


def _source(choice: Choice) -> str:
    return str(choice.image["name"] if choice.request is None else choice.image["dockerfile"])


# -- one host --------------------------------------------------------------------------------------------------------------------


def _fill_variables(run: Run, vendor: str, facts: Mapping[str, Any]) -> None:
    """Launcher and environment, once the GPUs are known."""
    count, launch = int(run["gpus"]["count"]), dict(run["launcher"])
    if is_unresolved(launch["nproc_per_node"]):
        launch["nproc_per_node"] = max(1, count)
    values = plan_env.host_variables(vendor, facts.get("gpu") or {})
    values.update(plan_env.launch_variables(launch["name"], count, launch["nproc_per_node"], launch["port"], launch["nnodes"]))
    run["launcher"] = launch
    run["env"] = {name: values[name] if is_unresolved(value) else value for name, value in run["env"].items()}


def _fill(
    run: Run, choices: Sequence[Choice], context: Mapping[str, Any], facts: Mapping[str, Any], builds: Optional[plan_image.Builds]
) -> None:
    match = skipped_architecture(run["skip_gpu_arch"], facts)
    if match:
        raise Mismatch(
            "skip_gpu_arch names %s, and the host has %s" % (match, facts["gpu"].get("architecture") or facts["gpu"].get("product"))
        )
    given = any(choice.request is None for choice in choices)
    run["runtime"] = settle_runtime(run["runtime"], facts, given)
    if run["runtime"] == "host" and given:
        raise InvalidInput("model %s: an image was given, and mad_runtime is host, which uses none" % run["model"])
    if run["runtime"] == "host":
        run["image"] = None
    elif choices:
        choice = _choose(choices, context, facts, str(run["model"]))
        architecture = str((facts.get("gpu") or {}).get("architecture") or "")
        run["image"] = builds.image(choice, architecture) if builds else choice.image
    plan_gpu.check_cpus(run["cpus"], facts)
    vendor = _vendor(run, facts)
    run["gpus"] = plan_gpu.settle(run["gpus"], vendor, facts.get("gpu") or {})
    _fill_variables(run, vendor, facts)


def fill_host(
    run: Mapping[str, Any],
    choices: Sequence[Choice],
    context: Mapping[str, Any],
    facts: Mapping[str, Any],
    builds: Optional[plan_image.Builds] = None,
) -> Run:
    """A copy of the run with everything filled that the host decides; what it cannot do becomes the outcome."""
    filled = dict(run)
    if filled["outcome"]:
        return filled
    try:
        _fill(filled, choices, context, facts, builds)
    except Mismatch as error:
        filled["outcome"] = skipped(str(error))
    except MadError as error:
        filled["outcome"] = outcome_of(error)
    return filled


def open_image(choices: Sequence[Choice]) -> Dict[str, Any]:
    """The image of a run whose host is not known: the image itself when there is one, else a mark that holds the choices."""
    if len(choices) == 1 and not choices[0].when:
        return choices[0].image
    listed = [{"when": choice.when, "image": choice.image, "given": choice.request is None} for choice in choices]
    return unresolved("decided by the host's GPUs", choices=listed)


# -- resolve ---------------------------------------------------------------------------------------------------------------------


def _choices_of(run: Mapping[str, Any]) -> List[Choice]:
    """The choices a plan kept in a run, back in their own form."""
    image = run["image"]
    if image is None:
        return []
    listed = image["choices"] if is_unresolved(image) else [{"when": {}, "image": image, "given": image["given"]}]
    return [Choice(entry["when"], entry["image"], None if entry["given"] else {}, False, "") for entry in listed]


def _fill_digest(run: Run, images: Mapping[str, Mapping[str, Any]]) -> None:
    image = run["image"]
    if not image or not is_unresolved(image.get("digest")):
        return
    built = images.get(image["name"]) or {}
    if built.get("digest"):
        more = {key: built[key] for key in _BUILT if built.get(key) not in (None, "")}
        run["image"] = dict(image, digest=built["digest"], **more)
    elif image["given"]:
        run["image"] = dict(image, digest="")  # the host takes the image it finds or pulls, and says which
    else:
        raise ImageError("image %s of model %s was not built" % (image["name"], run["model"]))


def resolve(run: Mapping[str, Any], facts: Mapping[str, Any], images: Mapping[str, Mapping[str, Any]]) -> Run:
    """A copy of a planned run in which every mark is filled: from the facts of its host and the records of what was built.

    `images` is `built_images` of the manifest (by image name). A run that turns out not to be possible here gets an outcome. InvalidInput
    names anything that is left.
    """
    filled = dict(run)
    if filled["outcome"]:
        return filled
    declared: Dict[str, Any] = {} if is_unresolved(run["gpus"]["vendor"]) else {"gpu_vendor": run["gpus"]["vendor"]}
    declared["guest_os"] = run["env"].get("MAD_GUEST_OS", plan_env.GUEST_OS)
    if facts and any(list(find(_without_digest(run, place))) for place in _PLACES):
        filled = fill_host(filled, _choices_of(run), declared, facts)
    if not filled["outcome"]:
        try:
            _fill_digest(filled, images)
        except MadError as error:
            filled["outcome"] = outcome_of(error)
    left = marks(filled)
    if left:
        raise InvalidInput("run %s of model %s is not decided: %s" % (run["id"], run["model"], "; ".join(left)))
    return filled


def _without_digest(run: Mapping[str, Any], place: str) -> Any:
    """What of a run the host decides: all marks but the digest."""
    value = run[place]
    return {key: value[key] for key in value if key != "digest"} if place == "image" and value and not is_unresolved(value) else value
