# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift, attention, experiments, requirements, secrets, schedules, metrics, evaluation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_engine.attention import AttentionCase, architecture_of, check_attention, choose_backends
from training_engine.config import OptimSection
from training_engine.drift import detect_drift, js_distance, psi
from training_engine.errors import UsageError
from training_engine.experiments import ExperimentDB
from training_engine.metrics import AlertRules, MetricsEngine, prediction_confidence
from training_engine.models import CharLM, TinyViT
from training_engine.requirements_check import check_agreement, check_folder, check_imports, check_lock, imports_of
from training_engine.schedule import schedule
from training_engine.secrets_scan import PIECE, main, scan

ROOT = Path(__file__).parents[1]


# -- drift


@pytest.mark.parametrize("method", ["js", "psi", "ks", "wasserstein"])
def test_false_alarms_are_as_rare_as_asked_for(method):
    """Without drift at most alpha (plus three sigma of the count) of the comparisons alarm, at n = 50; with drift nearly all do at 200."""
    draw = np.random.default_rng(1)
    trials, alpha = 300, 0.05
    alarms = sum(detect_drift(draw.normal(size=50), draw.normal(size=50), method=method, alpha=alpha, permutations=99, seed=n).drifted
                 for n in range(trials))
    assert alarms <= trials * alpha + 3 * math.sqrt(trials * alpha * (1 - alpha))
    found = sum(detect_drift(draw.normal(size=200), draw.normal(0.6, size=200), method=method, permutations=99, seed=n).drifted
                for n in range(20))
    assert found >= 18


def test_drift_measures_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    distance = pytest.importorskip("scipy.spatial.distance")
    draw = np.random.default_rng(2)
    first, second = np.round(draw.normal(size=80), 1), np.round(draw.normal(0.3, size=60), 1)
    assert math.isclose(detect_drift(first, second, method="ks").score, stats.ks_2samp(first, second).statistic)
    assert math.isclose(detect_drift(first, second, method="wasserstein").score, stats.wasserstein_distance(first, second))
    p, q = draw.dirichlet(np.ones(6)), draw.dirichlet(np.ones(6))
    assert math.isclose(float(js_distance(p, q)), float(distance.jensenshannon(p, q, base=2)), rel_tol=1e-9)
    assert float(psi(p, p)) == 0.0


@pytest.mark.parametrize("reference,options", [([1.0], {}), ([1.0, float("nan")], {}), ([1.0, 2.0], {"method": "chi"}),
                                               ([1.0, 2.0], {"alpha": 0.001}), ([1.0, 2.0], {"alpha": 1.0})])
def test_drift_refuses(reference, options):
    with pytest.raises(UsageError):
        detect_drift(np.asarray(reference), np.asarray([1.0, 2.0, 3.0]), **options)


# -- attention


@pytest.mark.parametrize("kind", ["encoder", "decoder", "padding", "sliding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_backends_agree_or_tell_why(kind, dtype):
    events = []
    usable = choose_backends(AttentionCase(kind=kind, dtype=dtype), lambda name, **what: events.append(what))
    assert "math" in usable
    assert all(event["reason"] for event in events)
    for report in check_attention(AttentionCase(kind=kind, dtype=dtype)):
        assert report.usable or report.reason


def test_attention_that_differs_is_refused(monkeypatch):
    monkeypatch.setattr("training_engine.attention.F.scaled_dot_product_attention", lambda q, k, v, **_: q * 1.0 + k * 0.0 + v * 0.5)
    assert all("differs" in report.reason for report in check_attention(AttentionCase(), ["math"]))


def test_architectures():
    assert architecture_of(CharLM(5, 4)) == "decoder"
    assert architecture_of(TinyViT(1, 8, 10)) == "vit"
    assert architecture_of(torch.nn.TransformerEncoderLayer(8, 2)) == "encoder"
    assert architecture_of(torch.nn.Linear(2, 2)) == "none"
    longformer = torch.nn.Linear(2, 2)
    longformer.config = type("C", (), {"model_type": "longformer"})()  # type: ignore[assignment]
    assert architecture_of(longformer) == "sliding"


# -- experiments


def test_experiment_database(tmp_path):
    db = ExperimentDB(tmp_path / "e.db")
    with pytest.raises(UsageError, match="no run"):
        db.log("a", 1, {"loss": 1.0})
    for run, losses in (("a", [3.0, 2.0]), ("b", [1.0, float("nan")])):
        db.add_run(run, {"seed": 1})
        db.add_run(run, {"seed": 2})
        db.log_many(run, enumerate({"loss": value} for value in losses))
    db.log("a", 1, {"loss": 2.5})
    assert db.history("a", "loss") == [(0, 3.0), (1, 2.5)]
    assert db.best("loss") == [("b", 1.0), ("a", 2.5)]
    assert db.best("loss", "max", 1) == [("a", 3.0)]
    (tmp_path / "m.jsonl").write_text('{"step": 7, "loss": 0.5, "note": "x"}\n{"epoch_end": 1}\n')
    assert db.import_log("a", tmp_path / "m.jsonl") == 1
    assert db.history("a", "loss")[-1] == (7, 0.5)


# -- requirements: the plan's six scenarios


@pytest.mark.parametrize("first,second,good", [
    ("torch==2.0.0", "torch>=1.9.0", True), ("torch==1.8.0", "torch>=2.0.0", False), ("a>=2,<3", "a>=3", False),
    ("a>=2,<3", "a!=2.5", True), ("a~=1.4", "a==1.9.*", True), ("a", "a==3", True), ("a<1", "a>1", False), ("a>1", "a<2", True),
    ("a[x]==1.0 ; python_version>'3'", "a<2", True)])
def test_versions_of_two_files(first, second, good):
    problems = check_agreement({"one.txt": first, "two.txt": second})
    assert (not problems) is good
    assert good or "Fix:" in problems[0]


def test_imports_must_be_declared():
    assert check_imports({"a.py": "import numpy"}, ["torch"]) == [
        "a.py: import numpy is not declared. Fix: add 'numpy' to the dependencies or an extra"]
    assert check_imports({"a.py": "import sys, own\nfrom . import x\nfrom sklearn.x import y"}, ["scikit-learn"], own=["own"]) == []
    assert check_imports({"a.py": "import odd"}, [], exempt=["odd"]) == []
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\ndef f():\n    import yaml"
    assert imports_of(source) == {"typing", "yaml"}


def test_subsets_denied_versions_and_nonsense():
    assert "missing from b" in check_agreement({"a": "x\ny", "b": "y"}, subsets=[("a", "b")])[0]
    assert "malware" in check_agreement({"a": "lightning==2.6.2"})[0]
    assert check_agreement({"a": "lightning!=2.6.2\n# note\n-r other.txt\ntorch==2.0 \\\n  --hash=sha256:00"}) == []
    assert "not a requirement" in check_agreement({"a": "what is this"})[0]


def test_the_lock_covers_what_is_wanted():
    good = "numpy==2.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    assert check_lock(good, ["numpy>=1.26", "torch>=2.6"], "lock") == []
    assert "has numpy==2.0" in check_lock(good, ["numpy>=3"], "lock")[0]
    assert "no pin" in check_lock(good, ["scipy"], "lock")[0]
    assert "not an exact version with a sha256" in check_lock("numpy==2.0", [], "lock")[0]
    assert "not an exact version" in check_lock("numpy>=2.0 --hash=sha256:" + "0" * 64, [], "lock")[0]
    assert "malware" in check_lock("lightning==2.6.2 --hash=sha256:" + "0" * 64, [], "lock")[0]


def test_this_project_is_in_order():
    assert check_folder(ROOT) == []


# -- secrets

PLANTED = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----", "AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "GitHub token": "ghp_" + "a1B2" * 9, "Hugging Face token": "hf_" + "aB3d" * 9, "Slack token": "xoxb-" + "1234567890-ab",
    "Google key": "AIza" + "aB3d-" * 7,
    "JSON web token": ".".join(["eyJ" + "a1b2c3d4e5", "eyJ" + "f6g7h8i9j0", "k1l2m3n4o5"]),
    "model provider key": "sk-" + "proj-" + "aB3d" * 10,
    "credentials in a URL": "postgres://user:" + "hunter22@host/db", "value of password": "password = \"" + "c0rrect-H0rse\"",
}


@pytest.mark.parametrize("rule", sorted(PLANTED))
@pytest.mark.parametrize("where", ["text", "binary", "border"])
def test_every_planted_secret_is_found(tmp_path, rule, where):
    padding = {"text": b"line\n", "binary": b"\0\1\2" * 50, "border": b"." * (PIECE - 12)}[where]
    path = tmp_path / "file.safetensors"
    path.write_bytes(padding + b" " + PLANTED[rule].encode() + b" \n")
    findings = scan([tmp_path])
    assert rule in {finding.rule for finding in findings}
    assert PLANTED[rule] not in str(findings)
    if where == "text":
        assert findings[0].line == 2


@pytest.mark.parametrize("text", [
    "token = os.environ['TOKEN']", "password: ${PASSWORD}", "tokens_per_second: 123456.789", "max_tokens = 100000000",
    "secret: <your secret here>", "https://example.org/path", "password = None", "self.token = config.token_value"])
def test_innocent_text_is_left_alone(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert scan([tmp_path]) == []


def test_the_hook(tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes(b"x")
    assert main([str(tmp_path)]) == 1
    assert "pickled weights" in capsys.readouterr().out
    assert main([str(tmp_path / "missing")]) == 2
    assert main([str(ROOT / "training_engine")]) == 0


# -- schedule and metrics


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["constant", "linear", "cosine"]), st.integers(0, 20), st.integers(1, 60), st.floats(0, 1))
def test_schedules_stay_in_bounds(kind, warm, horizon, floor):
    rate = schedule(OptimSection(schedule=kind, warmup_steps=warm, min_learning_rate_ratio=floor, learning_rate=2.0), horizon)
    values = [rate(step) for step in range(horizon + 5)]
    assert all(0.0 <= value <= 2.0 + 1e-12 for value in values)
    assert values[:warm] == sorted(values[:warm])
    if kind != "constant" and horizon > warm:
        assert math.isclose(values[-1], 2.0 * floor, abs_tol=1e-9)
        assert math.isclose(max(values), 2.0)


def test_alerts():
    events = []
    engine = MetricsEngine(lambda name, **what: events.append(name), AlertRules(warm_up=3))
    for step in range(5):
        engine.train_step(1.0, 10.0, step)
    engine.train_step(10.0, 10.0, 5)
    engine.evaluated({"val_accuracy": 0.9}, 5)
    engine.evaluated({"val_accuracy": 0.8}, 6)
    engine.evaluated({}, 7)
    assert events == ["loss_spike", "accuracy_drop"]
    other = MetricsEngine(lambda *_, **__: None)
    other.load_state_dict(engine.state_dict())
    assert other.end_epoch() == engine.end_epoch() == (5 * 10.0 + 100.0) / 60.0
    assert math.isnan(engine.end_epoch())


def test_confidence_of_a_calibrated_and_a_sure_model():
    torch.manual_seed(0)
    targets = torch.arange(10).repeat(100)
    sure = torch.nn.functional.one_hot(targets, 10).float() * 50
    found = prediction_confidence(sure, targets)
    assert found["accuracy"] == 1.0
    assert found["calibration_error"] < 1e-6
    assert found["entropy"] < 1e-6
    wrong = prediction_confidence(sure, (targets + 1) % 10)
    assert wrong["accuracy"] == 0.0
    assert wrong["calibration_error"] > 0.99
    flat = prediction_confidence(torch.zeros(1000, 10), targets)
    assert math.isclose(flat["entropy"], math.log(10), rel_tol=1e-9)
    assert math.isclose(flat["confidence"], 0.1, rel_tol=1e-9)
