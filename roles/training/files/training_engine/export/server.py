# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of a bundle. It is copied into the bundle as inference.py and stands alone: torch, safetensors and fastapi, not the engine.

/health: the process lives. /ready: only after the golden prediction was reproduced. /predict, /metrics (Prometheus text), /version.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, HTTPException, Response
from safetensors import safe_open

TOLERANCE = 1e-4  # relative; another machine may add up in another order
MAX_ROWS = int(os.environ.get("MAX_ROWS", "256"))


class Bundle:
    """A bundle opened for serving. Raises ValueError when a file does not fit the manifest or the golden prediction is not met."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        for name, digest in self.manifest["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} does not fit the manifest")
        self.program = torch.export.load(folder / "model.pt2").module()
        self.check_golden()

    def predict(self, inputs: Any) -> torch.Tensor:
        """Logits for nested lists. Raises ValueError naming what does not fit the signature or the model."""
        if not isinstance(inputs, dict):
            raise ValueError("inputs is no object with one array for each of " + ", ".join(self.manifest["signature"]))
        tensors = [self._tensor(name, facts, inputs) for name, facts in self.manifest["signature"].items()]
        if len({len(tensor) for tensor in tensors}) != 1:
            raise ValueError("the inputs have different numbers of rows")
        try:
            logits = self._run(tensors)
        except (IndexError, RuntimeError) as error:  # a token that the model does not know, for example
            raise ValueError(f"the model cannot take these inputs: {str(error).partition(chr(10))[0]}") from error
        if not logits.isfinite().all():
            raise ValueError("the prediction is not finite; look for NaN or huge numbers in the inputs")
        return logits

    def _run(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = self.program(*tensors)
        return logits

    @staticmethod
    def _tensor(name: str, facts: dict[str, Any], inputs: dict[str, Any]) -> torch.Tensor:
        if name not in inputs:
            raise ValueError(f"the input {name!r} is missing")
        try:
            dtype = getattr(torch, facts["dtype"])
            tensor = torch.tensor(inputs[name], dtype=dtype)
            if not dtype.is_floating_point and torch.tensor(inputs[name]).is_floating_point():
                raise ValueError("it has numbers with a point")
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"the input {name!r} is not an array of {facts['dtype']}: {error}") from error
        if list(tensor.shape[1:]) != facts["shape"][1:] or not 1 <= len(tensor) <= MAX_ROWS:
            raise ValueError(f"the input {name!r} has the shape {list(tensor.shape)}, expected {facts['shape']} with 1 to {MAX_ROWS} rows")
        return tensor

    def check_golden(self) -> None:
        """Reproduce the prediction that was made at the export."""
        with safe_open(self.folder / "golden.safetensors", framework="pt") as archive:
            expected = archive.get_tensor("logits")
            found = self._run([archive.get_tensor(f"inputs.{name}") for name in self.manifest["signature"]])
        error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        if math.isnan(error) or error > TOLERANCE:
            raise ValueError(f"the golden prediction differs by {error:.2g}")


class Service:
    """What the endpoints share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.problem = folder, "loading"
        self.requests = self.failures = self.rows = 0
        self.seconds = 0.0
        self.lock = threading.Lock()
        self._bundle: Bundle | None = None

    def load(self) -> None:
        """Open the bundle; what goes wrong is what /ready tells."""
        try:
            self._bundle = Bundle(self.folder)
            self.problem = ""
        except Exception as error:  # whatever is wrong with the bundle must be told by /ready and not end the process
            self.problem = f"{type(error).__name__}: {error}"

    def ready(self) -> Bundle:
        """The bundle, or 503 with the reason."""
        if self._bundle is None:
            raise HTTPException(503, self.problem)
        return self._bundle

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """One request, counted."""
        bundle, begin = self.ready(), time.perf_counter()
        try:
            logits = bundle.predict(inputs)
        except ValueError as error:
            with self.lock:
                self.failures += 1
            raise HTTPException(422, str(error)) from error
        with self.lock:
            self.requests += 1
            self.rows += len(logits)
            self.seconds += time.perf_counter() - begin
        return {"logits": logits.tolist(), "prediction": logits.argmax(-1).tolist(), "version": bundle.manifest["version"]}

    def metrics(self) -> str:
        """Prometheus text."""
        values = {"requests_total": self.requests, "request_failures_total": self.failures, "rows_total": self.rows,
                  "request_seconds_total": round(self.seconds, 6), "ready": int(self._bundle is not None)}
        return "".join(f"model_{name} {value}\n" for name, value in values.items())


def make_app(folder: Path) -> FastAPI:
    """The application for one bundle; it loads while the server already answers /health."""
    service = Service(folder)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        threading.Thread(target=service.load, name="load", daemon=True).start()
        yield

    app = FastAPI(title="model", lifespan=lifespan)
    app.state.service = service

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    def ready() -> dict[str, str]:
        return {"status": "ready", "version": service.ready().manifest["version"]}

    @app.get("/version")
    def version() -> dict[str, Any]:
        manifest = service.ready().manifest
        return {key: manifest[key] for key in ("name", "version", "engine", "torch", "formats", "signature")}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(service.metrics(), media_type="text/plain; version=0.0.4")

    @app.post("/predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        return service.predict(body.get("inputs", {}))

    return app


if (Path(__file__).with_name("bundle.json")).exists():
    app = make_app(Path(__file__).parent)
