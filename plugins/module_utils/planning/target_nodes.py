# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of nodes that nobody can look at before a run is on them, as far as a context declares them."""

from __future__ import annotations

from typing import Any, Dict, Mapping

_ARCHITECTURE = "MAD_SYSTEM_GPU_ARCHITECTURE"


def facts(context: Mapping[str, Any], vendor: str, count: int) -> Dict[str, Any]:
    """Facts in gpu_info's form: so many GPUs of this vendor, of the architecture that the context names, and engines that are there."""
    architecture = (
        (context.get("docker_build_arg") or {}).get(_ARCHITECTURE) or (context.get("docker_env_vars") or {}).get(_ARCHITECTURE) or ""
    )
    return {
        "gpu": {
            "vendor": vendor,
            "count": count,
            "architecture": str(architecture),
            "product": "",
            "runtime_version": "",
            "devices": [{"index": index, "render_node": ""} for index in range(count)],
            "problems": [],
        },
        "engines": {name: {"available": True, "problem": ""} for name in ("docker", "podman")},
        "cpu": {},
        "os": {},
    }
