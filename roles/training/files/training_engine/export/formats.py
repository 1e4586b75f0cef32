# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats of a bundle. Each is written, loaded again and compared with the model, at another batch size than the example's."""

from __future__ import annotations

import contextlib
import io
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..durable import write_file
from ..errors import EngineError, UsageError
from ..output import adapter_for
from ..registry import Registry
from ..tree import flatten, serialize

Inputs = Mapping[str, torch.Tensor]
Runner = Callable[[Inputs], torch.Tensor]
TOLERANCE = 1e-5
# name -> function(model, example, folder) that writes a file and returns how to run it
exporters: Registry[Callable[[nn.Module, Inputs, Path], Runner]] = Registry("exporter")


class LogitsOnly(nn.Module):
    """A model that returns logits alone and takes its inputs by position, which is what every format can do."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, list(names)

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """Logits of the inputs, in the order of `names`."""
        raw = self.model(**dict(zip(self.names, values, strict=True)))
        logits = adapter_for(raw)(raw).logits
        if logits is None:
            raise UsageError("the model returns no logits, so it cannot be exported")
        return logits


def run_model(model: nn.Module, inputs: Inputs) -> torch.Tensor:
    """The model's own logits."""
    with torch.no_grad():
        logits: torch.Tensor = LogitsOnly(model, list(inputs))(*inputs.values())
    return logits


@exporters.register("safetensors")
def to_safetensors(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    """The weights alone; they are read back into the model for the comparison."""
    write_file(folder / "model.safetensors", serialize(flatten(model.state_dict())))

    def run(inputs: Inputs) -> torch.Tensor:
        from ..tree import load

        model.load_state_dict(load(folder / "model.safetensors"))
        return run_model(model, inputs)

    return run


@exporters.register("pt2")
def to_pt2(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    """torch.export with a dynamic batch dimension: runs without the model's source code."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    wrapped = LogitsOnly(model, list(example)).eval()
    with _quiet():
        program = torch.export.export(wrapped, tuple(example.values()), dynamic_shapes=((({0: batch},) * len(example)),), strict=False)
        torch.export.save(program, folder / "model.pt2")
    make_reproducible(folder / "model.pt2")

    def run(inputs: Inputs) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = torch.export.load(folder / "model.pt2").module()(*inputs.values())
        return logits

    return run


@exporters.register("onnx")
def to_onnx(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    """ONNX with a dynamic batch dimension, run by onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("the format 'onnx' needs onnx, onnxscript and onnxruntime: pip install 'training-engine[export]'") from error
    wrapped = LogitsOnly(model, list(example)).eval()
    with _quiet():
        torch.onnx.export(wrapped, tuple(example.values()), str(folder / "model.onnx"), input_names=list(example), output_names=["logits"],
                          dynamic_shapes=((({0: torch.export.Dim("batch")},) * len(example)),), dynamo=True, external_data=False)

    def run(inputs: Inputs) -> torch.Tensor:
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0])

    return run


@exporters.register("torchscript")
def to_torchscript(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    """TorchScript by tracing, a legacy format: torch itself calls it deprecated. For servers that know nothing newer."""
    path = folder / "model.torchscript"
    with _quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        wrapped = LogitsOnly(model, list(example)).eval()
        traced = torch.jit.trace(wrapped, tuple(example.values()))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)
    make_reproducible(path, align=64)

    def run(inputs: Inputs) -> torch.Tensor:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits: torch.Tensor = torch.jit.load(path)(*inputs.values())  # type: ignore[no-untyped-call]
        return logits

    return run


@exporters.register("mar")
def to_mar(model: nn.Module, example: Inputs, folder: Path) -> Runner:
    """A TorchServe archive around the TorchScript format, a legacy format too: TorchServe is archived and gets no security fixes."""
    run = to_torchscript(model, example, folder)
    facts = {"runtime": "python", "archiverVersion": "0.12.0",
             "model": {"modelName": "model", "modelVersion": "1.0", "serializedFile": "model.torchscript", "handler": "handler.py"}}
    names = [[name, str(tensor.dtype).removeprefix("torch.")] for name, tensor in example.items()]
    blank = "INPUTS: list[list[str]] = []"
    handler = Path(__file__).with_name("mar_handler.py").read_text(encoding="utf-8").replace(blank, blank.replace("[]", repr(names)))
    with zipfile.ZipFile(folder / "model.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(facts, indent=1, sort_keys=True))
        archive.writestr("handler.py", handler)
        archive.write(folder / "model.torchscript", "model.torchscript")
    make_reproducible(folder / "model.mar")
    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters of torch print progress to stdout, which belongs to our caller."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def make_reproducible(path: Path, *, align: int = 1) -> None:
    """Rewrite a zip archive with its entries in order, uncompressed, at a fixed time: equal content gives equal bytes.

    align: the data of each entry begins at a multiple of it, as torch's own reader of TorchScript wants it.
    """
    with zipfile.ZipFile(path) as archive:
        entries = sorted((info.filename, archive.read(info)) for info in archive.infolist())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            head = (archive.fp.tell() if archive.fp else 0) + 30 + len(name.encode())
            if padding := -head % align:
                padding += align if padding < 4 else 0
                entry.extra = b"FB" + (padding - 4).to_bytes(2, "little") + b"Z" * (padding - 4)
            archive.writestr(entry, data)


def check_parity(name: str, run: Runner, expected: torch.Tensor, inputs: Inputs) -> float:
    """The largest difference to the model's logits. Raises EngineError above TOLERANCE, relative to the largest logit."""
    found = run(inputs)
    if found.shape != expected.shape:
        raise EngineError(f"the format {name} returned the shape {tuple(found.shape)} for {tuple(expected.shape)}")
    error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
    if math.isnan(error) or error > TOLERANCE:
        raise EngineError(f"the format {name} differs from the model by {error:.2g}; at most {TOLERANCE:g} is accepted")
    return error
