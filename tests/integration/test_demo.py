# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo repository: real measurements, on every Python from 3.8 on, through the whole way on the host itself and in containers."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.play import DEMO, ROOT, Played, play

sys.path.insert(0, str(ROOT / "dev"))
sys.path.insert(0, str(DEMO / "scripts" / "cpu"))

# script -> (arguments, least, most, unit): wide enough for any machine, too narrow for nonsense
SCRIPTS = {
    "cpu/hash_sha256.py": ([], 10, 20000, "MB_per_second"),
    "cpu/memory_copy.py": (["--bytes", str(32 << 20)], 0.1, 2000, "GB_per_second"),
    "cpu/compress.py": (["--level", "6"], 0.2, 2000, "MB_per_second"),
    "storage/fsync.py": ([], 1, 10_000_000, "fsyncs_per_second"),
    "scaling/scaling.py": (["--processes", "1"], 5, 20000, "MB_per_second"),
}
MODELS = ["hash_sha256", "memory_copy", "compress", "hash_table", "scaling/all", "storage/fsync"]


def interpreters() -> list[str]:
    """Return this Python and the oldest supported one that is here."""
    import pythons

    oldest = list(pythons.find().values())[:1]
    return [sys.executable, *oldest]


def measured(output: str) -> tuple[float, str]:
    """Return the number and the unit of the one performance line."""
    lines = [line for line in output.splitlines() if line.startswith("performance: ")]
    assert len(lines) == 1, output
    dummy, number, unit = lines[0].split()
    return float(number), unit


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_measures_alone(script: str, tmp_path: Path) -> None:
    """Each runs with nothing but Python, leaves nothing behind, and prints one number of a sensible size."""
    arguments, least, most, unit = SCRIPTS[script]
    for python in interpreters():
        argv = [python, str(DEMO / "scripts" / script), *arguments]
        env = {"PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        number, found = measured(done.stdout)
        assert least < number < most
        assert found == unit
        assert list(tmp_path.iterdir()) == []


def test_the_measurement_is_the_works_duration() -> None:
    """Work that takes 5 ms is done about 200 times a second: the number comes from the clock."""
    import measure

    found = measure.measure(lambda: time.sleep(0.005), 1, samples=5, seconds=0.05)
    assert 60 < found.median < 201
    twice = measure.measure(lambda: time.sleep(0.005), 2, samples=5, seconds=0.05)
    assert 1.2 < twice.median / found.median < 3.3


def test_the_median_and_the_spread() -> None:
    """The middle sample, and the distance of the quartiles relative to it."""
    import measure

    assert measure.Measurement([4.0, 1.0, 2.0], 1).median == 2.0
    assert measure.Measurement([4.0, 1.0, 2.0, 3.0], 1).median == 2.5
    assert measure.Measurement([10.0] * 7, 1).spread == 0
    assert measure.Measurement([8.0, 9.0, 10.0, 11.0], 1).spread == pytest.approx(1 / 9.5)


def test_the_expected_digest_is_right() -> None:
    """The constant in the script is the digest of what it hashes."""
    import hash_sha256

    assert hashlib.sha256(bytes(range(256)) * 4096).hexdigest() == hash_sha256.EXPECTED


def test_the_text_is_the_same_everywhere() -> None:
    """Compression speeds compare because the text is one and the same."""
    import compress

    assert hashlib.sha256(compress.text(1 << 20)).hexdigest() == TEXT_DIGEST


TEXT_DIGEST = "542b285429630e78a023647b86f0ae82107a3d93b42d565f6df0e9342d439506"


def test_the_table_has_a_row_for_each_pair(tmp_path: Path) -> None:
    """The CSV is what multiple_results asks for, and the numbers are not all alike."""
    subprocess.run([sys.executable, str(DEMO / "scripts" / "cpu" / "hash_table.py")], cwd=tmp_path, check=True, capture_output=True)
    with open(tmp_path / "perf_hash_table.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["model"] for row in rows] == ["%s_%d" % (a, b) for a in ("sha256", "sha512", "sha3_256", "blake2b") for b in (1024, 65536)]
    assert {row["metric"] for row in rows} == {"MB_per_second"}
    assert len({row["performance"] for row in rows}) > 4
    assert all(float(row["performance"]) > 1 for row in rows)


def run_demo(folder: Path, runtime: str, *arguments: str, **context: object) -> Played:
    """Run the whole way on this machine."""
    variables = {
        "mad_repo": str(DEMO),
        "mad_tags": "demo",
        "mad_runtime": runtime,
        "mad_context": {"gpu_vendor": "NONE", "guest_os": "UBUNTU", **context},
        "mad_results": str(folder / "results"),
        "mad_work_dir": str(folder / "work"),
        # A lock of its own: on a shared machine this test does not queue behind other people's runs.
        "mad_host_lock": str(folder / "lock"),
        "mad_campaign": "demo",
    }
    return play("mad.engine.run", folder, variables=variables, arguments=arguments, timeout=900)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the campaign's table."""
    with open(folder / "results" / "demo" / "perf.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def check_rows(folder: Path) -> None:
    """Every model has its row with a number; the table model has eight."""
    rows = rows_of(folder)
    assert {row["status"] for row in rows} == {"SUCCESS"}
    names = [row["model"] for row in rows]
    assert len(names) == len(MODELS) - 1 + 8
    for model in MODELS:
        assert any(name == model or name.startswith(model + "_") for name in names), model
    assert all(float(row["performance"]) > 0 for row in rows)
    by_name = {row["model"]: float(row["performance"]) for row in rows}
    # The same work measured by two programs: far apart means that one of them does not measure.
    assert 0.2 < by_name["hash_sha256"] / by_name["hash_table_sha256_65536"] < 5
    assert json.loads((folder / "results" / "demo" / "summary.json").read_text())["exit_code"] == 0


def tree(folder: Path) -> dict[str, bytes]:
    """Return the files of the repository with their content."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts}


def test_the_whole_way_without_containers(tmp_path: Path) -> None:
    """One command, all rows; run again, nothing runs; the repository is not written to."""
    before = tree(DEMO)
    played = run_demo(tmp_path, "host")
    assert played.status == 0, played.output
    check_rows(tmp_path)
    first = rows_of(tmp_path)
    again = run_demo(tmp_path, "host")
    assert again.status == 0, again.output
    assert again.recap()["localhost"]["changed"] == 0, again.output
    assert rows_of(tmp_path) == first
    assert tree(DEMO) == before


@pytest.mark.real
def test_the_whole_way_in_containers(tmp_path: Path, python_image: str) -> None:
    """The same rows, out of images built from a base image that no registry had to give."""
    played = run_demo(tmp_path, "docker", docker_build_arg={"BASE_DOCKER": python_image})
    assert played.status == 0, played.output
    check_rows(tmp_path)


def test_the_flight_plan_changes_nothing(tmp_path: Path) -> None:
    """--check --diff names the runs and leaves no campaign behind."""
    played = run_demo(tmp_path, "host", "--check", "--diff")
    assert played.status == 0, played.output
    assert all(model in played.output for model in MODELS)
    assert not (tmp_path / "results" / "demo").exists()
    assert not (tmp_path / "work").exists()


def test_the_command_says_where_it_runs_and_where_the_results_are(tmp_path: Path) -> None:
    """dev/demo without an engine: one line says so; few lines, a command to resume that works, and the place of the table at the end."""
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock", "MAD_DEV_HOME": str(tmp_path)}
    stand_in = tmp_path / "bin" / "podman"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    env["PATH"] = os.pathsep.join([str(stand_in.parent), env["PATH"]])
    env.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".dev" / "tree"))
    variables = {"mad_tags": "hash_sha256", "mad_work_dir": str(tmp_path / "w"), "mad_host_lock": str(tmp_path / "lock")}
    argv = [sys.executable, str(ROOT / "dev" / "demo.py"), "-e", json.dumps(variables)]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("demo: ")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum("runtime `host`" in line for line in lines) == 1
    assert Path(lines[-1].split(":", 2)[-1].strip()).is_file()
    noise = ("TASK [", "PLAY [", "included: ", "changed: ", "ok: ")
    assert not [line for line in done.stdout.splitlines() if line.startswith(noise)], done.stdout
    (command,) = [line.partition("to resume: ")[2] for line in done.stdout.splitlines() if "to resume: " in line]
    words = shlex.split(command)
    assert words[:3] == [str(ROOT / "dev" / "demo"), "-e", json.dumps(variables)] and words[3] == "-e", command
