# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback in real plays of ansible-playbook: as lines, on a real terminal, interrupted, over many hosts.

The steps are stand-ins that return what their `result` argument says, so that every state can be had at will; the callback is the real one.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
STEP = '''
import time
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        time.sleep(float(self._task.args.get("sleep", 0)))
        return dict(self._task.args.get("result", {}), changed=False)
'''
STAMP = re.compile(r"^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ mad\.engine: ", re.MULTILINE)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A collection mad.engine with the real callback and stand-ins for the steps."""
    collection = tmp_path / "tree/ansible_collections/mad/engine"
    plugins = collection / "plugins"
    plugins.mkdir(parents=True)
    for name in ("galaxy.yml", "meta"):
        (collection / name).symlink_to(ROOT / name)
    for kind in ("callback", "plugin_utils", "module_utils"):
        (plugins / kind).symlink_to(ROOT / "plugins" / kind)
    for kind, text in (("action", STEP), ("modules", "")):
        (plugins / kind).mkdir()
        for step in ("campaign_plan", "container_run", "campaign_wait", "perf_store"):
            (plugins / kind / (step + ".py")).write_text(text)
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "tree"), "ANSIBLE_CALLBACKS_ENABLED": "mad.engine.progress",
        "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_NOCOLOR": "1",
        "MAD_PROGRESS_INTERVAL": "0", "COLUMNS": "100", "LINES": "30",
    }  # fmt: skip
    return {**os.environ, **settings}


def task(step: str, result: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    return {"name": step, "mad.engine." + step: {"result": result or {}, **other.pop("args", {})}, **other}


RESUME = "ansible-playbook -i hosts.yml mad.engine.run -e mad_tags=a -e mad_campaign=c1"
PLANNED = {"campaign": "c1", "campaign_dir": "/r/c1", "counts": {"total": 4}, "resume_command": RESUME}
PLAN = task("campaign_plan", PLANNED, run_once=True)
RUNNING = [{"run": "1f", "model": "resnet", "seconds": 0}]
START = task("container_run", {"counts": {"total": 2, "queued": 1}, "running": RUNNING, "ended": []})
POLL = task(
    "container_run",
    {
        "counts": {"total": 2, "done": 2, "success": 1, "failure": 1},
        "running": [],
        "ended": [
            {"run": "1f", "model": "resnet", "status": "SUCCESS", "failure_class": "", "metric": "14164 samples_per_second"},
            {"run": "2f", "model": "bert", "status": "FAILURE", "failure_class": "oom", "metric": ""},
        ],
    },
)
WAIT = task("campaign_wait", run_once=True, args={"sleep": 0.2})
JUDGED = {"counts": {"total": 4, "done": 4, "success": 2, "failure": 2}, "exit_code": 3, "table": "/r/c1/perf.csv"}
REST = {"again": 1, "classes": {"oom": 1, "infra": 1}}
STORE = task("perf_store", {**JUDGED, "mad_summary": REST, "lines": ["4 runs"]}, run_once=True)


def playbook(folder: Path, *tasks: dict[str, Any], hosts: int = 2) -> list[str]:
    (folder / "play.yml").write_text(json.dumps([{"name": "Run", "hosts": "all", "gather_facts": False, "tasks": list(tasks)}]))
    names = {"n%d" % number: {} for number in range(1, hosts + 1)}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": names}}))
    return [PLAYBOOK, "-i", str(folder / "hosts.json"), str(folder / "play.yml"), "-e", "mad_tags=a"]


def ours(output: str) -> list[str]:
    return [STAMP.sub("", line) for line in output.splitlines() if STAMP.match(line)]


def test_lines(tmp_path: Path, env: dict[str, str]) -> None:
    argv = playbook(tmp_path, PLAN, START, WAIT, POLL, STORE)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=True)
    lines = ours(done.stdout)
    assert lines[0] == "campaign c1; to resume: " + RESUME
    assert lines[-2] == "to resume: " + RESUME
    assert lines[-1] == "1 failed run is final; to measure it again: " + RESUME + " -e mad_rerun=failed"
    assert "n1: started resnet (run 1f)" in lines and "n2: started resnet (run 1f)" in lines
    assert any(re.fullmatch(r"n1: SUCCESS resnet in \d+s: 14164 samples_per_second \(run 1f\)", line) for line in lines)
    assert "n2: FAILURE bert: oom (run 2f)" in lines and "results: /r/c1/perf.csv" in lines
    assert any(line.startswith("4 of 4 runs done (2 ok, 2 failed, 0 skipped) after ") for line in lines)
    assert "WARNING" not in done.stderr and "progress" not in done.stderr


def test_a_play_of_other_people_is_unchanged(tmp_path: Path, env: dict[str, str]) -> None:
    argv = playbook(tmp_path, {"name": "Say", "ansible.builtin.debug": {"msg": "hello"}}, hosts=1)
    plain = {name: value for name, value in env.items() if name != "ANSIBLE_CALLBACKS_ENABLED"}
    with_it = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=True)
    without = subprocess.run(argv, env=plain, capture_output=True, text=True, timeout=120, check=True)
    assert with_it.stdout == without.stdout and with_it.stderr == without.stderr


def test_many_hosts_give_few_lines(tmp_path: Path, env: dict[str, str]) -> None:
    argv = [*playbook(tmp_path, PLAN, START, WAIT, POLL, WAIT, STORE, hosts=60), "--forks", "4"]
    done = subprocess.run(argv, env={**env, "MAD_PROGRESS_INTERVAL": "600"}, capture_output=True, text=True, timeout=300, check=True)
    lines = ours(done.stdout)
    assert "59 runs started on 59 hosts" in lines and "120 runs finished on 60 hosts: 60 FAILURE, 60 SUCCESS (oom 60)" in lines
    assert len(lines) <= 24, lines


def test_interrupted(tmp_path: Path, env: dict[str, str]) -> None:
    argv = playbook(tmp_path, PLAN, START, task("campaign_wait", run_once=True, args={"sleep": 60}), POLL)
    for number, code in ((signal.SIGINT, None), (signal.SIGTERM, -signal.SIGTERM)):
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "TASK [campaign_wait]" in line:
                    break
            time.sleep(0.5)
            process.send_signal(number)
            _out, error = process.communicate(timeout=60)
        assert process.returncode != 0 and (code is None or process.returncode == code)
        lines = ours(error)
        assert lines[0] == "interrupted; what runs on the hosts goes on (2 running when last heard of)", error
        assert lines[1] == "to resume: " + RESUME
        assert lines[2] == "to stop it: ansible-playbook -i hosts.yml mad.engine.cancel -e mad_tags=a -e mad_campaign=c1"
        assert len(lines) == 3


def on_terminal(argv: list[str], env: dict[str, str], seconds: float = 300.0) -> str:
    """Run on a terminal of 100 x 30 and return everything that it was sent."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    sent = bytearray()
    try:
        streams = {"stdin": follower, "stdout": follower, "stderr": follower}
        with subprocess.Popen(argv, env={**env, "TERM": "xterm"}, start_new_session=True, **streams) as process:
            deadline = time.monotonic() + seconds
            while process.poll() is None or select.select([leader], [], [], 0.2)[0]:
                assert time.monotonic() < deadline, sent.decode()
                if select.select([leader], [], [], 0.2)[0]:
                    sent += os.read(leader, 65536)
        assert process.returncode == 0, sent.decode()
    finally:
        os.close(leader)
        os.close(follower)
    return sent.decode()


def test_on_a_terminal_the_ordinary_output_stays_whole(tmp_path: Path, env: dict[str, str]) -> None:
    argv = playbook(tmp_path, PLAN, START, WAIT, {"name": "Say", "ansible.builtin.debug": {"msg": "hello"}}, POLL, STORE)
    env = {**env, "ANSIBLE_FORKS": "1"}  # the hosts answer in their order
    sent = on_terminal(argv, env)
    assert "\x1b[J" in sent and "\x1b[2A" in sent, "nothing was drawn"
    seen = screen(sent)
    plain = screen(on_terminal(argv, {**env, "MAD_PROGRESS_LIVE": "never"}))
    assert not any("longest:" in line for line in seen), "the area must be gone at the end"

    def ordinary(lines: list[str]) -> list[str]:
        return [line for line in lines if not STAMP.match(line)]

    assert ordinary(seen) == ordinary(plain)
    assert [line for line in ours("\n".join(seen)) if "SUCCESS" in line] == [line for line in ours("\n".join(plain)) if "SUCCESS" in line]


def screen(sent: str) -> list[str]:
    """What stands on a terminal of endless height in the end."""
    lines, row, column = [""], 0, 0
    for sequence, letter in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([^\x1b])", sent, re.DOTALL):
        if sequence.endswith("J"):
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        elif sequence.endswith("A"):
            row -= int(sequence[2:-1] or 1)
        elif sequence:
            continue
        elif letter == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter == "\r":
            column = 0
        else:
            lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_the_real_steps_interrupted_and_resumed_by_the_printed_command(tmp_path: Path) -> None:
    """No stand-ins: a run on this machine, Ctrl-C while it runs, then the very command that was printed."""
    script = tmp_path / "repo/scripts/slow/run.sh"
    script.parent.mkdir(parents=True)
    script.write_text("sleep 25\necho performance: 5 x_per_second\n")
    model = {"name": "slow", "dockerfile": "docker/none", "scripts": "scripts/slow/run.sh", "n_gpus": "0", "tags": ["slow"], "args": ""}
    (tmp_path / "repo/models.json").write_text(json.dumps([model]))
    places = {"mad_repo": "repo", "mad_results": "results", "mad_work_dir": "work", "mad_host_lock": "lock"}
    words = ["mad.engine.run", "-e", "mad_tags=slow", "-e", "mad_runtime=host"]
    words += [word for name, path in places.items() for word in ("-e", "%s=%s" % (name, tmp_path / path))]
    path = "%s:%s" % (Path(sys.executable).parent, os.environ["PATH"])
    progress = {"ANSIBLE_CALLBACKS_ENABLED": "mad.engine.progress", "MAD_PROGRESS_INTERVAL": "0", "PYTHONUNBUFFERED": "1"}
    real = {**os.environ, **progress, "PATH": path}
    options = {"env": real, "cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([PLAYBOOK, *words], **options) as process:  # type: ignore[call-overload]
        assert any("localhost: started slow" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _out, error = process.communicate(timeout=120)
    assert process.returncode != 0
    resume, cancel = (line.split(": ", 1)[1] for line in ours(error)[1:])
    assert "mad.engine.cancel" in cancel
    done = subprocess.run(shlex.split(resume), timeout=300, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = ours(done.stdout)
    assert sum("SUCCESS slow" in line and "5 x_per_second" in line for line in lines) == 1
    assert any(line.startswith("1 of 1 runs done (1 ok, 0 failed, 0 skipped) after") for line in lines)
    assert len(list((tmp_path / "results").glob("2*/runs/*/result.json"))) == 1
