# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A card's options for `docker run`, as far as a pod has a word for them; the others are refused by name."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..base.errors import InvalidInput
from ..base.quoting import is_env_name
from ..containers import engine

# What a pod does anyway, or what means nothing in one.
_NEEDLESS = ("--init", "--interactive", "--tty", "--quiet", "--sig-proxy", "--gpus", "--runtime", "--log-driver", "--log-opt", "--hostname")
_SHM = re.compile(r"([0-9]+)([bkmg]?)\Z", re.IGNORECASE)
_UNITS = {"": "", "b": "", "k": "Ki", "m": "Mi", "g": "Gi"}


class Words(NamedTuple):
    """The options of a card as fields of a pod."""

    shm_size: str = ""
    host_ipc: bool = False
    host_network: bool = False
    privileged: bool = False
    capabilities: Tuple[str, ...] = ()
    seccomp_unconfined: bool = False
    user: str = ""
    groups: Tuple[int, ...] = ()
    env: Mapping[str, str] = {}


def translate(options: Sequence[str], model: str, ignore: bool = False) -> Words:
    """The pod's words; InvalidInput names an option that a pod has no word for (`ignore` leaves such ones out)."""
    found: Dict[str, Any] = {}
    refused: List[str] = []
    for name, values in engine.check_options(list(options)).items():
        if name in _NEEDLESS:
            continue
        for value in values:
            if not _take(name, value, found):
                refused.append("%s %s" % (name, value) if value else name)
    if refused and not ignore:
        raise InvalidInput(
            "model %s: additional_docker_run_options: a pod has no word for %s; say it in the section k8s of the context (volumes, "
            "resources, security_context, patch), or set k8s.ignore_docker_options: true to run without" % (model, ", ".join(refused))
        )
    return Words()._replace(**found)


def _take(name: str, value: str, found: Dict[str, Any]) -> bool:
    """Put one option where it belongs; False when there is no such place."""
    plain = value.strip().lower()
    if name == "--shm-size" and _SHM.match(plain):
        number, unit = _SHM.match(plain).groups()  # type: ignore[union-attr]
        found["shm_size"] = number + _UNITS[unit]
    elif name == "--ipc" and plain in ("host", "private", "shareable"):
        found["host_ipc"] = plain == "host"
    elif name == "--network" and plain in ("host", "bridge", "default"):
        found["host_network"] = plain == "host"
    elif name == "--privileged" and plain in ("", "true"):
        found["privileged"] = True
    elif name == "--cap-add" and re.match(r"[a-z_]+\Z", plain):
        word = plain.upper()
        found["capabilities"] = (*found.get("capabilities", ()), word[4:] if word.startswith("CAP_") else word)
    elif name == "--security-opt" and re.match(r"(seccomp|apparmor)[=:]unconfined\Z", plain):
        found["seccomp_unconfined"] = True
    elif name == "--user" and re.match(r"[0-9]+(:[0-9]+)?\Z", plain):
        found["user"] = plain
    elif name == "--group-add":  # names are the image's own; device plugins give the devices
        found["groups"] = (*found.get("groups", ()), *([int(plain)] if plain.isdigit() else []))
        return plain.isdigit() or plain in ("video", "render")
    elif name == "--env" and is_env_name(value.partition("=")[0]) and "=" in value:
        found["env"] = dict(found.get("env", {}), **{value.partition("=")[0]: value.partition("=")[2]})
    else:
        return False
    return True
