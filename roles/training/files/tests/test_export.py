# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: parity, reproducible bytes, secrets, and the server up to a golden prediction."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from training_engine.errors import CheckpointError, EngineError, UsageError
from training_engine.export import export_bundle, verify_bundle
from training_engine.export.docker import Needs, dockerfile
from training_engine.export.formats import check_parity
from training_engine.models import ImageMLP


def _model() -> ImageMLP:
    torch.manual_seed(0)
    return ImageMLP(64, 10, width=16)


EXAMPLE = {"pixel_values": torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return export_bundle(_model(), EXAMPLE, tmp_path_factory.mktemp("export") / "bundle", name="mlp", info={"step": 3})


def test_bundle_is_whole_and_reproducible(bundle, tmp_path):
    manifest = verify_bundle(bundle)
    assert manifest["signature"] == {"pixel_values": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}}
    again = export_bundle(_model(), EXAMPLE, tmp_path / "again", name="mlp", info={"step": 3})
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == {path.name: path.read_bytes() for path in again.iterdir()}
    (again / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        verify_bundle(again)


def test_a_secret_stops_the_export(tmp_path):
    with pytest.raises(EngineError, match="secrets"):
        export_bundle(_model(), EXAMPLE, tmp_path / "b", name="mlp", formats=[], info={"note": "hf_" + "aB3d" * 9})
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        export_bundle(_model(), {"pixel_values": EXAMPLE["pixel_values"][:1]}, tmp_path / "b", name="mlp")
    with pytest.raises(UsageError, match="exists already"):
        export_bundle(_model(), EXAMPLE, tmp_path, name="mlp")
    with pytest.raises(UsageError, match="exporter"):
        export_bundle(_model(), EXAMPLE, tmp_path / "b", name="mlp", formats=["pt3"])
    with pytest.raises(EngineError, match="differs"):
        check_parity("x", lambda _: torch.ones(2), torch.zeros(2), {})
    with pytest.raises(EngineError, match="shape"):
        check_parity("x", lambda _: torch.ones(3), torch.zeros(2), {})


def test_dockerfile_follows_the_needs():
    text = dockerfile(Needs(device="cuda", base="python@sha256:00", port=9000))
    assert "FROM python@sha256:00" in text
    assert "/whl/cu" in text
    assert "USER 10001" in text
    assert '"--port", "9000"]' in text


def _load_server(folder: Path):
    spec = importlib.util.spec_from_file_location(f"inference_{folder.name}", folder / "inference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_server_of_the_bundle(bundle):
    """Ready after the golden prediction, right answers, clear refusals. The bundle's copy is the file that is tested here."""
    testclient = pytest.importorskip("fastapi.testclient")
    from training_engine.export import server

    assert (bundle / "inference.py").read_bytes() == Path(server.__file__).read_bytes()
    with testclient.TestClient(server.make_app(bundle)) as client:
        assert client.get("/health").json() == {"status": "alive"}
        limit = time.monotonic() + 240
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < limit, client.get("/ready").text
            time.sleep(0.05)
        answer = client.post("/predict", json={"inputs": {"pixel_values": EXAMPLE["pixel_values"][:3].tolist()}}).json()
        expected = _model().eval()(EXAMPLE["pixel_values"][:3])
        assert torch.allclose(torch.tensor(answer["logits"]), expected, atol=1e-5)
        for inputs in ({}, None, [1], "pixel_values", {"pixel_values": [[1]]}, {"pixel_values": "x"}, {"pixel_values": []}):
            assert client.post("/predict", json={"inputs": inputs}).status_code == 422
        for odd in ("NaN", "1e39", "-Infinity"):
            text = json.dumps({"inputs": {"pixel_values": torch.zeros(1, 1, 8, 8).tolist()}}).replace("0.0", odd, 1)
            refused = client.post("/predict", content=text, headers={"content-type": "application/json"})
            assert (refused.status_code, "not finite" in refused.text) == (422, True), refused.text
        assert client.get("/version").json()["name"] == "mlp"
        assert "model_requests_total 1\n" in client.get("/metrics").text


def test_the_server_refuses_tokens_that_the_model_does_not_know(tmp_path):
    """What a model cannot take is the client's mistake, told as one; numbers with a point are not cut to whole ones."""
    pytest.importorskip("fastapi")
    from training_engine.export import server

    class Tokens(torch.nn.Embedding):
        def forward(self, input_ids):
            return super().forward(input_ids)

    made = export_bundle(Tokens(8, 8).eval(), {"input_ids": torch.zeros(2, 4, dtype=torch.int64)}, tmp_path / "lm", name="lm")
    service = server.Bundle(made)
    assert service.predict({"input_ids": [[1, 2, 3, 7]]}).shape == (1, 4, 8)
    for row, why in (([1, 2, 3, 8], "cannot take"), ([1, -1, 2, 3], "cannot take"), ([1, 2, 3, 2.5], "with a point")):
        with pytest.raises(ValueError, match=why):
            service.predict({"input_ids": [row]})


def test_not_ready_when_the_bundle_is_damaged(bundle, tmp_path):
    testclient = pytest.importorskip("fastapi.testclient")
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in bundle.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "golden.safetensors").write_bytes(b"x")
    module = _load_server(broken)
    with testclient.TestClient(module.app) as client:
        limit = time.monotonic() + 240
        while "manifest" not in client.get("/ready").json()["detail"]:
            assert time.monotonic() < limit, client.get("/ready").text
            time.sleep(0.05)
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
