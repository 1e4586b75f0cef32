# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dev/bootstrap.py and dev/prepare.sh: environments are made once, repaired, kept while used; what is missing is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Making a real environment takes seconds; where only the order of things matters, "quick" puts a link in its place, and waits.
ENSURE = """
import os, pathlib, sys, time
sys.path.insert(0, %r)
import bootstrap
def quick(argv, problem):
    if "venv" in argv:
        (pathlib.Path(argv[-1]) / "bin").mkdir(parents=True)
        (pathlib.Path(argv[-1]) / "bin" / "python").symlink_to(sys.executable)
        time.sleep(1)
if os.environ["HOW"] == "quick":
    bootstrap.run = quick
bootstrap.check_home()
environment = bootstrap.Environment(sys.argv[1], sys.executable, sys.argv[3:]).ensure()
print(environment.path, flush=True)
if sys.argv[2] == "stay":
    input()
""" % str(ROOT / "dev")


@pytest.fixture()
def home(tmp_path: Path) -> Path:
    """Give a home whose path has a blank and a quote in it."""
    path = tmp_path / "a home's place"
    path.mkdir()
    return path


def start(home: Path, *arguments: str, how: str = "quick") -> subprocess.Popen[str]:
    """Start a process that wants an environment."""
    env = {**os.environ, "MAD_DEV_HOME": str(home), "HOW": how}
    argv = [sys.executable, "-c", ENSURE, *arguments]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what it printed and what it said; it must have succeeded."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip(), err


def test_two_at_once_make_one_environment(home: Path) -> None:
    """Both get the same environment, and only one of them makes it."""
    both = [ended(process) for process in [start(home, "run", "go", "pip", how="really"), start(home, "run", "go", "pip", how="really")]]
    assert len({out for out, dummy in both}) == 1
    assert sum("making" in err for dummy, err in both) == 1
    python = Path(both[0][0]) / "bin" / "python"
    assert subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def test_an_interrupted_installation_is_done_again(home: Path) -> None:
    """Killed in the middle, it has no stamp; the next command makes it again."""
    process = start(home, "run", "go")
    deadline = time.monotonic() + 240
    while not list(home.glob(".venv/run-*/bin")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(home.glob(".venv/run-*/.complete"))
    out, err = ended(start(home, "run", "go"))
    assert "making" in err
    assert (Path(out) / ".complete").exists()


def test_a_deleted_interpreter_is_repaired(home: Path) -> None:
    """An environment whose Python is gone (an upgrade of the system) is made again."""
    out, dummy = ended(start(home, "run", "go"))
    (Path(out) / "bin" / "python").unlink()
    again, err = ended(start(home, "run", "go"))
    assert again == out
    assert "making" in err


def test_an_outdated_environment_goes_only_when_nobody_uses_it(home: Path) -> None:
    """Other requirements make another environment; the old one is removed once its user has ended, not before."""
    user = start(home, "run", "stay")
    assert user.stdout is not None
    old = Path(user.stdout.readline().strip())
    ended(start(home, "run", "go", "pip"))
    assert (old / ".complete").exists()
    user.communicate("\n", timeout=240)
    ended(start(home, "run", "go", "pip", "pip"))
    assert not old.exists()


def test_a_failed_installation_says_what_it_was_for(home: Path) -> None:
    """No traceback: pip's last lines, the sentence and the command."""
    process = start(home, "run", "go", "/no/such/requirement", how="really")
    dummy, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "pip could not install the requirements" in err
    assert "Traceback" not in err


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """A file where the home should be: one sentence, and what to set."""
    place = tmp_path / "file"
    place.write_text("")
    process = start(place, "run", "go")
    dummy, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "cannot write below %s" % place in err
    assert "MAD_DEV_HOME=" in err
    assert "Traceback" not in err


def shell(script: str, tmp_path: Path, user: int) -> subprocess.CompletedProcess[str]:
    """Run lines of shell after dev/prepare.sh as somebody whose id is `user`, with an apt-get that only writes down its arguments."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("id", "echo %d" % user), ("apt-get", 'echo apt-get "$@" >>"$APT_LOG"')):
        (tools / name).write_text("#!/bin/sh\n%s\n" % text)
        (tools / name).chmod(0o755)
    env = {"PATH": "%s:/usr/bin:/bin" % tools, "APT_LOG": str(tmp_path / "apt.log")}
    text = 'set -eu; . "%s/dev/prepare.sh"; %s' % (ROOT, script)
    return subprocess.run(["/bin/sh", "-c", text], capture_output=True, text=True, env=env, check=False)


def test_a_user_gets_the_one_line_to_run(tmp_path: Path) -> None:
    """Nothing is installed without root; the line is complete."""
    done = shell('need "Python\'s venv" python3-venv git', tmp_path, 1000)
    assert done.returncode == 1
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends python3-venv git\n" in done.stderr
    assert not (tmp_path / "apt.log").exists()


def test_all_that_is_missing_is_one_line(tmp_path: Path) -> None:
    """Not first Python, then the tools, one try each."""
    done = shell("python=/no/such/python; PATH=${PATH%%:*}; prepare_python tools", tmp_path, 1000)
    assert done.returncode == 1
    assert done.stderr == (
        "dev: missing: /no/such/python, git, ssh-keygen. Run this once:  sudo apt-get update && "
        "sudo apt-get install -y --no-install-recommends python3 python3-venv ca-certificates git openssh-client\n"
    )


def test_root_installs_what_is_missing(tmp_path: Path) -> None:
    """Root gets exactly the packages."""
    done = shell('python=/no/such/python; need Python python3; echo on', tmp_path, 0)
    assert done.stdout == "on\n"
    assert (tmp_path / "apt.log").read_text().splitlines()[-1].endswith("install -y -qq --no-install-recommends python3")
