# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dev/runner.py: every step runs, the summary tells the truth, and an interrupt leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
INTERRUPTED = """
import sys
sys.path.insert(0, %r)
from pathlib import Path
import runner
runner.interrupt_on_sigterm()
run = runner.Run(Path("."), Path(sys.argv[1]), False)
sleep = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); open(sys.argv[1], 'w').write(str(p.pid)); p.wait()"
def action(job):
    job.must([sys.executable, "-c", sleep, sys.argv[1] + "/pid"])
try:
    run.execute([runner.Step("long", "sleeps", action)])
except KeyboardInterrupt:
    run.summary(left=1 - len(run.results))
    sys.exit(130)
""" % str(ROOT / "dev")


def load(name: str) -> ModuleType:
    """Load a file of dev/ as a module."""
    spec = importlib.util.spec_from_file_location("dev_" + name, ROOT / "dev" / (name + ".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


runner = load("runner")


def run_steps(tmp_path: Path, strict: bool, **actions: object) -> object:
    """Run actions as steps."""
    run = runner.Run(tmp_path, tmp_path / "logs", strict)
    run.execute([runner.Step(name, "a step", action) for name, action in actions.items()])
    return run


def fails(job: object) -> None:
    """A step that finds something."""
    raise runner.Failed("two things are wrong")


def breaks(job: object) -> None:
    """A step with a defect."""
    raise KeyError("x")


def lacks(job: object) -> None:
    """A step without its component."""
    raise runner.Absent("no engine")


def test_a_failing_step_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All run, the table names each, the last line counts, the status is not zero."""
    run = run_steps(tmp_path, False, bad=fails, broken=breaks, good=lambda job: "fine")
    assert run.summary() == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 2 failed"
    assert "two things are wrong" in out
    assert "KeyError" in out


def test_an_absent_component_is_loud_and_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is skipped by name; with nothing passed the run itself is no success."""
    run = run_steps(tmp_path, False, needs=lacks)
    assert run.summary() == 1
    out = capsys.readouterr().out
    assert "!! NOT CHECKED HERE: needs: no engine" in out
    assert out.splitlines()[-1] == "0 passed, 0 failed, 1 skipped"


def test_an_absent_component_fails_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CI=true makes it a failure."""
    run = run_steps(tmp_path, True, needs=lacks, good=lambda job: None)
    assert run.summary() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed"


def test_steps_wait_for_what_they_need(tmp_path: Path) -> None:
    """`after` is kept, whatever the order of the list."""
    order: list[str] = []
    run = runner.Run(tmp_path, tmp_path / "logs", False)
    late = runner.Step("late", "", lambda job: order.append("late"), after=("early", "not in this run"))
    run.execute([late, runner.Step("early", "", lambda job: (time.sleep(0.2), order.append("early"))[0])])
    assert order == ["early", "late"]


def test_a_commands_output_is_in_the_log_and_its_end_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failing command shows its last lines."""
    run = run_steps(tmp_path, False, tool=lambda job: job.must([sys.executable, "-c", "print('why it failed'); raise SystemExit(3)"]))
    run.summary()
    assert "why it failed" in capsys.readouterr().out
    assert "why it failed" in (tmp_path / "logs" / "tool.log").read_text()


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_ends_what_runs(tmp_path: Path) -> None:
    """SIGTERM: the command and its child end, the summary still comes."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    os.kill(process.pid, signal.SIGTERM)
    out, dummy = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "0 passed, 0 failed; interrupted, not ended: 1" in out
    assert not alive(child)


def test_an_unknown_step_is_an_error() -> None:
    """A misspelt name must not pass as an empty run."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / ".dev" / "tree")}
    argv = [sys.executable, str(ROOT / "dev" / "steps.py"), "--only", "units"]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd="/", check=False)
    assert done.returncode == 1
    assert "no such step: units" in done.stderr
