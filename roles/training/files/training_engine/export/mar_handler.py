# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handler of a TorchServe archive. It is copied into the archive and stands alone: torch, not the engine.

A request is JSON: {"inputs": {name: nested lists, batch first}}; the answer {"logits": ..., "prediction": ...}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

# [name, dtype] of every input; the export writes them here.
INPUTS: list[list[str]] = []
_state: dict[str, Any] = {}


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, Any]] | None:
    """What TorchServe calls: once without data, then with the requests of a batch."""
    if "model" not in _state:
        folder = Path(context.system_properties["model_dir"])
        _state["model"] = torch.jit.load(folder / "model.torchscript").eval()  # type: ignore[no-untyped-call]
    return None if data is None else [_answer(request.get("body", request.get("data"))) for request in data]


def _answer(body: Any) -> dict[str, Any]:
    inputs = (json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body)["inputs"]
    with torch.no_grad():
        logits = _state["model"](*(torch.tensor(inputs[name], dtype=getattr(torch, dtype)) for name, dtype in INPUTS))
    return {"logits": logits.tolist(), "prediction": logits.argmax(-1).tolist()}
