# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: weights, runnable program, golden prediction, server, Dockerfile and a manifest, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..checkpoint.manager import unwrap
from ..durable import fsync_folder, sha256_file, write_file
from ..errors import CheckpointError, EngineError, UsageError
from ..secrets_scan import scan
from ..tree import flatten, serialize
from .docker import Needs, dockerfile
from .formats import Inputs, check_parity, exporters, run_model

MANIFEST = "bundle.json"
GOLDEN = "golden.safetensors"
SERVER = "inference.py"


def export_bundle(model: nn.Module, example: Inputs, target: Path, *, name: str, formats: Sequence[str] = ("safetensors", "pt2"),
                  info: Mapping[str, Any] | None = None, needs: Needs | None = None) -> Path:
    """Write a bundle to the new folder `target`.

    example: at least two samples of every input, batch first; the first half becomes the example of the exporters, all of it the
    check and the golden prediction. info: plain facts for the manifest (metrics, step; no credentials: the result is scanned).
    Raises UsageError, or EngineError where a format does not agree with the model or a secret was found; then nothing is left.
    """
    size = len(next(iter(example.values())))
    if size < 2:
        raise UsageError(f"the example has {size} sample, at least 2 are needed: exports are checked at another batch size")
    if target.exists():
        raise UsageError(f"{target} exists already; give a new folder")
    model = unwrap(model).cpu().eval()
    temporary = target.with_name(f".tmp-{target.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        _fill(temporary, model, example, name, formats, info or {}, needs or Needs())
        os.rename(temporary, target)
        fsync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _fill(folder: Path, model: nn.Module, example: Inputs, name: str, formats: Sequence[str], info: Mapping[str, Any],
          needs: Needs) -> None:
    expected = run_model(model, example)
    half = {key: tensor[:max(2, len(tensor) // 2)] for key, tensor in example.items()}
    parity = {}
    for kind in dict.fromkeys(["safetensors", *formats]):
        parity[kind] = check_parity(kind, exporters.get(kind)(model, half, folder), expected, example)
    write_file(folder / GOLDEN, serialize(flatten({"inputs": dict(example), "logits": expected})))
    shutil.copyfile(Path(__file__).with_name("server.py"), folder / SERVER)
    write_file(folder / "Dockerfile", [dockerfile(needs).encode()])
    write_file(folder / "requirements.txt", [needs.requirements().encode()])
    signature = {key: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": ["batch", *tensor.shape[1:]]}
                 for key, tensor in example.items()}
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
    manifest = {"name": name, "engine": __version__, "torch": str(torch.__version__), "signature": signature, "formats": sorted(parity),
                "version": files["model.safetensors"], "parity": {kind: f"{error:.1e}" for kind, error in parity.items()},
                "info": dict(info), "files": files}
    write_file(folder / MANIFEST, [(json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()])
    findings = scan([folder], forbid_weights=True)
    if findings:
        raise EngineError("the bundle was not made, for it would hold secrets: " + "; ".join(map(str, findings)))


def verify_bundle(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle whose files all fit it. Raises CheckpointError with what does not."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name, digest in manifest["files"].items() if "/" in name or sha256_file(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} is not a bundle: {type(error).__name__}: {error}") from error
    if wrong:
        raise CheckpointError(f"{folder}: {', '.join(wrong)} do not fit the manifest; export the bundle again")
    return manifest
