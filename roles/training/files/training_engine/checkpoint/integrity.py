# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a checkpoint is whole, by its manifest alone. Without torch: to look at a run must not take seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..durable import sha256_file
from . import layout


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a checkpoint; an empty list means that it is whole."""
    try:
        raw = (path / layout.MANIFEST).read_bytes()
        manifest = json.loads(raw)
        files: dict[str, dict[str, Any]] = dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        return [f"{path / layout.MANIFEST}: no readable manifest ({type(error).__name__}): an unfinished save, or damage"]
    out = [] if raw == layout.sealed(manifest) else [f"{path / layout.MANIFEST}: it does not fit its own hash, so it was changed"]
    if manifest.get("format") != layout.FORMAT or manifest.get("step") != layout.step_of(path.name):
        out.append(f"{path / layout.MANIFEST}: format {manifest.get('format')!r}, step {manifest.get('step')!r} do not fit "
                   f"format {layout.FORMAT} and the folder's name")
    return out + [problem for name, facts in files.items() if (problem := _file_problem(path, name, facts))]


def _file_problem(path: Path, name: str, facts: Mapping[str, Any]) -> str:
    if not layout.is_plain_name(name):
        return f"{path}: the manifest names the file {name!r}, which is not inside the folder"
    try:
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            return f"{path / name}: {size} bytes, the manifest says {facts['bytes']}"
        digest = sha256_file(path / name)
    except (OSError, TypeError, KeyError) as error:
        return f"{path / name}: cannot be read ({type(error).__name__}: {error})"
    expected = str(facts.get("sha256"))
    return "" if digest == expected else f"{path / name}: sha256 {digest[:12]}..., the manifest says {expected[:12]}..."
