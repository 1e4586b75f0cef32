# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment of a run: what the plan itself says, what card and context add, and which of it is secret.

Above each other, the last wins: the presets' env_vars, our own variables, the card's env_vars, the context's env_vars, MAD_SECRETS* of the
controller's environment, the context's docker_env_vars, the fields of the card's credential. Values under secret names travel apart and
never stand in a plan.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple

from ..base.errors import InvalidInput
from ..base.merge import merge
from ..base.secret_names import split_secrets
from ..containers.registry import build_secrets
from ..contexts import launchers
from ..contexts.context import OUTSIDE, is_reference

GUEST_OS = "UBUNTU"  # when the context says none, as in madengine
DATA_HOME = "MAD_DATAHOME"  # where a model finds its data
IMAGE_NAME = "DOCKER_IMAGE_NAME"  # how a model that starts its own containers is told its image
_PLACEHOLDER = re.compile(r"<[^<>]*>\Z")  # what is no name of an image: <supply-your-image>


class Variables(NamedTuple):
    """Two halves of an environment: what may be written down, and secret values."""

    plain: Dict[str, str]
    secret: Dict[str, str]


def environ_secrets(environ: Mapping[str, str]) -> Dict[str, str]:
    """Variables of the controller whose name contains MAD_SECRETS."""
    return {name: value for name, value in environ.items() if OUTSIDE in name}


def given_variables(
    card: Mapping[str, Any], context: Mapping[str, Any], environ: Mapping[str, str], credentials: Mapping[str, Any]
) -> Variables:
    """What people gave a model; InvalidInput when its card names a credential that is not there."""
    outside = environ_secrets(environ)
    layers = [card.get("env_vars") or {}, context.get("env_vars", {}), outside, context.get("docker_env_vars", {})]
    plain, secret = split_secrets(merge(*layers))
    # Manifests of madengine say MAD_SECRETS_HFTOKEN: ${MAD_SECRETS_HFTOKEN}.
    secret.update({name: value for name, value in outside.items() if is_reference(secret.get(name), name)})
    secret.update(build_secrets(str(card.get("cred") or ""), credentials))
    return Variables({name: value for name, value in plain.items() if name not in secret}, secret)


def with_image_of_run(card: Mapping[str, Any], context: Mapping[str, Any], runtime: str) -> Mapping[str, Any]:
    """The card of a model that starts its own containers: IMAGE_NAME in its env_vars makes way for the image that the plan knows.

    Public cards have a placeholder there. Without an engine nobody but card or context can say the image, and a placeholder is refused.
    """
    variables = dict(card.get("env_vars") or {})
    if runtime != "host":
        variables.pop(IMAGE_NAME, None)
    given = dict(variables, **dict(context.get("env_vars", {}), **context.get("docker_env_vars", {}))).get(IMAGE_NAME, "")
    if _PLACEHOLDER.match(str(given)):
        raise InvalidInput(
            "model %s: env_vars.%s is the placeholder %s; name the image there, or as MAD_CONTAINER_IMAGE in mad_context"
            % (card["name"], IMAGE_NAME, given)
        )
    return dict(card, env_vars=variables)


def own_variables(card: Mapping[str, Any], context: Mapping[str, Any], environ: Mapping[str, str]) -> Dict[str, str]:
    """Our own variables that need no host."""
    variables = {
        "MAD_MODEL_NAME": str(card["name"]),
        "JENKINS_BUILD_NUMBER": environ.get("BUILD_NUMBER") or "0",
        "MAD_GUEST_OS": str(context.get("guest_os", GUEST_OS)),
    }
    if card.get("data"):
        variables["MAD_DATANAME"] = str(card["data"])
    if card.get("multiple_results"):
        variables["MAD_OUTPUT_CSV"] = str(card["multiple_results"])
    return variables


def host_variables(vendor: str, gpu: Mapping[str, Any]) -> Dict[str, str]:
    """Our own variables that say what the host has; `gpu` is facts["gpu"]. ROCm's version is major.minor, and only on AMD."""
    version = str(gpu.get("runtime_version") or "") if vendor == "AMD" else ""
    none = vendor == "NONE"
    return {
        "MAD_GPU_VENDOR": vendor,
        "MAD_SYSTEM_NGPUS": "0" if none else str(gpu.get("count", 0)),
        "MAD_SYSTEM_GPU_ARCHITECTURE": "" if none else str(gpu.get("architecture") or ""),
        "MAD_SYSTEM_GPU_PRODUCT_NAME": "" if none else str(gpu.get("product") or ""),
        "MAD_SYSTEM_HIP_VERSION": ".".join(version.split(".")[:2]),
    }


def launch_variables(launcher: str, count: int, processes: int, port: int, nodes: int = 1) -> Dict[str, str]:
    """Our own variables that follow from the number of GPUs; with several nodes only their job knows the launcher's."""
    known = launchers.environment(launcher, 1, processes, master_port=port) if nodes == 1 else {}
    return dict(known, MAD_RUNTIME_NGPUS=str(count))


def launch_names(launcher: str, nodes: int = 1) -> List[str]:
    """Names of launch_variables."""
    return list(launch_variables(launcher, 1, 1, launchers.DEFAULT_PORT, nodes))


HOST_NAMES = tuple(host_variables("NONE", {}))


def secret_values(
    card: Mapping[str, Any], context: Mapping[str, Any], environ: Mapping[str, str], credentials: Mapping[str, Any]
) -> Dict[str, str]:
    """Values of the secret variables of one model on one host, out of the same sources as the plan's `secret_env`.

    For the step that stages a run: plan.json holds only names. `card` must be the repository's own (the plan's has no secret values).
    """
    return given_variables(card, context, environ, credentials).secret
