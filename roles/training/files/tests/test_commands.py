# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, from the arguments to files and exit codes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from training_engine import cli, commands
from training_engine.cli import main
from training_engine.export import verify_bundle

ROOT = Path(__file__).parents[1]
SMOKE = ["--preset", "smoke", "--dataset", "synthetic_text", "--max-steps", "6", "--checkpoint-every", "3"]


def _args(run: Path, *more: str) -> list[str]:
    return [*SMOKE, "--run-dir", str(run), *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A finished run with an evaluation of its last step."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *_args(run)]) == 0
    return run


def test_a_failed_benchmark_ends_with_one_line_that_has_every_reason(tmp_path, capsys):
    assert main(["benchmark", *_args(tmp_path), "--batch-size=-1", "--learning-rate=x", "--max-steps=none"]) == 64
    *above, last = capsys.readouterr().err.splitlines()
    assert last.startswith("benchmark FAILED with exit code 64: ConfigError: the configuration has 3 faults: ")
    assert all(name in last for name in ("batch_size", "learning_rate", "max_steps")) and len(above) == 4
    assert main(["train", *_args(tmp_path), "--batch-size=-1"]) == 64 and "FAILED" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--ranks=0"], ["--ranks=-3"], ["--grace=nan"], ["--hang-timeout=-1"]])
def test_launch_refuses_numbers_that_start_nothing(tmp_path, capsys, options):
    assert main(["launch", *_args(tmp_path / "run"), *options]) == 64
    assert "must be at least 1" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("options, words", [
    (["--model=mlp"], "model 'mlp' needs 'channels', and the data set 'synthetic_text' (text) tells only"),
    (["--dataset=synthetic_images", "--model=vit"], "labels have the shape (4,); language modelling needs (B, T)"),
    (["--mirror=nosuch://bucket/x"], "the mirror nosuch://bucket/x cannot be used: Protocol not known"),
    (["--dataset=synthetic_images"], "model 'char_lm' needs 'vocab_size'"),
])
def test_parts_that_do_not_fit_are_told_in_one_message(tmp_path, capsys, options, words):
    assert main(["train", *_args(tmp_path / "run"), *options]) == 64
    assert words in capsys.readouterr().err


def test_a_monitor_that_no_evaluation_has_is_told_once(tmp_path):
    assert main(["train", *_args(tmp_path / "run"), "--monitor=val_nosuch", "--eval-every=2"]) == 0
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "monitor_unknown"]
    assert len(told) == 1 and "val_loss" in told[0]["known"]


def test_train_tells_how_it_ended(tmp_path, capsys):
    assert main(["train", *_args(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^done: target reached at step 6  val_loss \d", out, re.M)
    assert out.splitlines()[-1] == f"checkpoint: {tmp_path / 'run' / 'ckpt' / 'step-00000006'}"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["phase"], status["exit_code"], status["step"]) == ("ended", 0, 6)


def test_values_come_from_the_strongest_layer(tmp_path, monkeypatch):
    """preset < file < environment < command line, and the run folder records which it was."""
    (tmp_path / "c.json").write_text(json.dumps({"run": {"max_steps": 3}, "data": {"batch_size": 3}, "optim": {"learning_rate": 0.5}}))
    monkeypatch.setenv("TRAINING_ENGINE_BATCH_SIZE", "5")
    run = tmp_path / "run"
    assert main(["train", "--config", str(tmp_path / "c.json"), "--preset", "smoke", "--dataset", "synthetic_text",
                 "--learning-rate", "0.01", "--run-dir", str(run)]) == 0
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["values"]["run"]["max_steps"] == 3
    assert recorded["values"]["data"]["batch_size"] == 5
    assert recorded["values"]["optim"]["learning_rate"] == 0.01
    assert [recorded["sources"][name] for name in ("data_size", "max_steps", "batch_size", "learning_rate")] == [
        "preset", "file", "environment", "command line"]


@pytest.mark.parametrize("name,text,told", [
    ("c.json", "{", "cannot be read"), ("c.json", "[1]", "holds a list"), ("c.yml", "a: [", "not valid YAML"),
    ("c.yml", "run: {max_step: 3}", "did you mean 'max_steps'"), ("absent.json", None, "cannot be read")])
def test_a_faulty_configuration_file(tmp_path, capsys, name, text, told):
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["train", "--config", str(tmp_path / name)]) == 64
    assert told in capsys.readouterr().err


def test_yaml_is_read(tmp_path):
    (tmp_path / "c.yaml").write_text("run:\n  max_steps: 7\n")
    assert cli.read_config_file(tmp_path / "c.yaml") == {"run": {"max_steps": 7}}


def test_evaluate_and_verify(trained, capsys):
    for best in ([], ["--best"]):
        assert main(["evaluate", *_args(trained), *best]) == 0
        out = capsys.readouterr().out
        assert "step-00000006" in out
        assert float(re.search(r"val_perplexity: (\S+)", out)[1]) > 1
    assert main(["verify", str(trained)]) == 0
    assert capsys.readouterr().out.splitlines() == ["step-00000003: whole", "step-00000006: whole", "2 of 2 whole"]


def test_digest_covers_what_a_run_left(trained, tmp_path, capsys):
    """Equal for two runs of the same configuration, another one as soon as one byte differs."""
    again = tmp_path / "again"
    assert main(["train", *_args(again)]) == 0
    capsys.readouterr()
    found = []
    for run in (trained, again):
        assert main(["digest", str(run)]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert re.fullmatch(r"step-00000006 [0-9a-f]{64}\n", found[0])
    with open(again / "metrics.jsonl", "a") as stream:
        stream.write("x")
    assert main(["digest", str(again)]) == 0
    assert capsys.readouterr().out != found[0]
    (again / "metrics.jsonl").unlink()
    assert main(["digest", str(again)]) == 65
    assert "metrics.jsonl; give the folder of a run" in capsys.readouterr().err


def test_verify_names_what_is_broken(trained, tmp_path, capsys):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "ckpt" / "step-00000003")
    weights = copy / "ckpt" / "step-00000006" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    (copy / "ckpt" / ".bad-step-00000001.x").mkdir()
    assert main(["verify", str(copy)]) == 65
    out = capsys.readouterr().out
    assert "step-00000006: BROKEN" in out
    assert "model.safetensors: sha256" in out
    assert ".bad-step-00000001.x: set aside as broken" in out
    assert main(["evaluate", *_args(copy)]) == 65


def test_export_makes_a_bundle(trained, tmp_path, capsys):
    target = tmp_path / "bundle"
    assert main(["export", str(target), *_args(trained), "--best", "--serve-on", "rocm"]) == 0
    assert "inference.py" in capsys.readouterr().out
    assert verify_bundle(target)["info"]["step"] == 6
    assert "/whl/rocm" in (target / "Dockerfile").read_text()
    assert main(["export", str(target), *_args(trained)]) == 64
    assert "exists already" in capsys.readouterr().err


def test_export_needs_validation_samples(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *_args(run, "--val-fraction", "0")]) == 0
    assert main(["export", str(tmp_path / "bundle"), *_args(run, "--val-fraction", "0")]) == 64
    assert "val_fraction" in capsys.readouterr().err


def test_benchmark_reports_throughput(tmp_path, capsys):
    """The line that performance tables are made from, and a table with one row for each metric."""
    table = tmp_path / "perf.csv"
    assert main(["benchmark", *_args(tmp_path / "run"), "--csv", str(table), "--warmup", "2"]) == 0
    speed = float(re.search(r"^performance: (\S+) tokens_per_second$", capsys.readouterr().out, re.M)[1])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    by_metric = {row["metric"]: row for row in rows}
    assert float(by_metric["tokens_per_second"]["performance"]) == pytest.approx(speed, rel=1e-3)
    assert by_metric["tokens_per_second"]["model"] == "char_lm"
    assert {"samples_per_second", "seconds_per_step", "peak_memory_mb", "val_loss"} <= set(by_metric)
    assert {row["steps"] for row in rows} == {"4"}


@pytest.mark.parametrize("more,told", [(["--warmup", "0"], "at least 1"), (["--warmup", "50"], "no step came after")])
def test_benchmark_refuses_half_a_measurement(tmp_path, capsys, more, told):
    assert main(["benchmark", *_args(tmp_path / "run"), *more]) == 64
    captured = capsys.readouterr()
    assert told in captured.err
    assert "performance:" not in captured.out


def test_a_stopped_benchmark_reports_nothing(tmp_path, capsys):
    from training_engine.stopping import StopFlag

    flag = StopFlag()
    flag.request("SIGTERM")
    assert main(["benchmark", *_args(tmp_path / "run")], flag) == 75
    assert "performance:" not in capsys.readouterr().out


@pytest.mark.parametrize("error,code,told", [
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 71, "out of memory"),
    (RuntimeError("[gloo] Connection closed by peer"), 69, "another rank went away"),
    (ValueError("odd"), 70, "ValueError: odd"), (KeyboardInterrupt(), 130, "KeyboardInterrupt")])
def test_unexpected_errors_have_their_codes(tmp_path, monkeypatch, capsys, error, code, told):
    """The code of the process and the verdict in status.json agree."""
    run = tmp_path / "run"
    run.mkdir()

    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(commands, "make_trainer", fail)
    assert main(["train", *_args(run)]) == code
    assert told in capsys.readouterr().err
    recorded = json.loads((run / "status.json").read_text())["exit_code"]
    assert recorded == (code if code != 130 else 70)


def test_progress_is_one_line(small, capsys):
    from training_engine.factory import make_trainer

    make_trainer(small(max_steps=3), hooks=[commands.Progress()]).train()
    err = capsys.readouterr().err
    assert re.match(r"\rstep 1/3  loss \d", err)
    assert "\n" not in err


def test_launch_forwards_what_was_given():
    arguments = cli._parser().parse_args(["launch", "--ranks", "2", "--preset", "smoke", "--max-steps", "4"])
    assert cli._forwarded(arguments) == ["--preset", "smoke", "--max-steps=4"]


@pytest.mark.slow
def test_launch_runs_a_rank(tmp_path):
    """Through the real entry point: handlers, launcher, one rank, its exit code."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "training_engine", "launch", "--ranks", "1", *_args(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "done: target reached at step 6" in done.stdout


def test_the_mad_card_names_what_exists():
    """models.json: scripts and Dockerfiles are there, and the arguments are accepted."""
    for card in json.loads((ROOT / "models.json").read_text()):
        assert (ROOT / card["scripts"]).is_file()
        assert list((ROOT / card["dockerfile"]).parent.glob(Path(card["dockerfile"]).name + ".*.Dockerfile"))
        arguments = cli._parser().parse_args(["benchmark", *card["args"].split()])
        cli.load_config(arguments, {})


@pytest.mark.slow
def test_the_script_of_the_card(tmp_path):
    """scripts/training/run.sh as the collection starts it: the performance line, and the table in MAD_OUTPUT_CSV's place."""
    import os

    env = {**os.environ, "MAD_OUTPUT_CSV": "perf.csv", "TRAINING_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", str(ROOT / "scripts/training/run.sh"), *SMOKE, "--warmup", "2"], cwd=tmp_path, env=env,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^performance: \S+ tokens_per_second$", done.stdout, re.M)
    assert "tokens_per_second" in (tmp_path / "perf.csv").read_text()
