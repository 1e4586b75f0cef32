# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build logs: names, masking, and what happens to a command that is too late, killed or too loud."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError
from ansible_collections.mad.engine.plugins.module_utils.containers import build_log
from ansible_collections.mad.engine.plugins.module_utils.containers.build_log import BuildLog, Commands


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("model", "dockerfile", "architecture", "expected"),
    [
        ("dummy", "docker/dummy.ubuntu.amd.Dockerfile", "", "dummy_dummy.ubuntu.amd.build.live.log"),
        ("sub/m1", "docker/x.ubuntu.amd.Dockerfile", "gfx90a", "sub_m1_x.ubuntu.amd_gfx90a.build.live.log"),
        ("../../etc", "a/../x", "../y", ".._.._etc_x_.._y.build.live.log"),
    ],
)
def test_log_names(model: str, dockerfile: str, architecture: str, expected: str) -> None:
    name = build_log.log_name(model, dockerfile, architecture)
    assert name == expected
    assert "/" not in name


def test_architectures_have_logs_of_their_own() -> None:
    names = {build_log.log_name("m", "docker/x.Dockerfile", arch) for arch in ("", "gfx90a", "gfx942")}
    assert len(names) == 3


def test_lines_come_masked_into_file_callback_and_watch(tmp_path) -> None:
    path, seen, watched = tmp_path / "x.log", [], []
    key = "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----"
    with BuildLog(str(path), ["hunter2hunter2", key, "short"], seen.append) as log:
        code = log.run(
            python("print('pw hunter2hunter2'); print('  abcdefghijkl'); print('short')"), os.environ, Commands(), watch=watched.append
        )
        log.line("after")
    assert code == 0
    assert path.read_text() == "pw ********\n  ********\nshort\nafter\n"
    assert seen == ["pw ********", "  ********", "short", "after"]
    assert watched == seen[:3]


def test_errors_and_output_stand_in_order_and_the_tail_is_short(tmp_path) -> None:
    with BuildLog(str(tmp_path / "x.log")) as log:
        code = log.run(
            python("import sys\nfor i in range(50): print(i, file=sys.stderr if i % 2 else sys.stdout, flush=True)\nsys.exit(7)"),
            os.environ,
            Commands(),
        )
    assert code == 7
    assert (tmp_path / "x.log").read_text().split() == [str(i) for i in range(50)]
    assert log.tail() == [str(i) for i in range(50 - build_log.TAIL_LINES, 50)]


def test_bytes_that_are_no_text_and_lines_without_end(tmp_path) -> None:
    with BuildLog(str(tmp_path / "x.log")) as log:
        log.run(python("import sys; sys.stdout.buffer.write(b'\\xff\\xfe' + b'x' * 300000)"), os.environ, Commands())
    assert (tmp_path / "x.log").stat().st_size > 300000


def test_a_command_past_its_time_is_ended_with_all_it_started(tmp_path) -> None:
    marker = tmp_path / "pid"
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); open(%r, 'w').write(str(p.pid)); p.wait()" % str(marker)
    with BuildLog(str(tmp_path / "x.log")) as log, pytest.raises(ImageError, match="did not end in 1 s"):
        log.run(python(code), os.environ, Commands(), timeout=1)
    child = int(marker.read_text())
    deadline = time.monotonic() + 60
    while (
        os.path.exists("/proc/%d" % child) and "Z" not in open("/proc/%d/stat" % child).read().split(")")[1] and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert not os.path.exists("/proc/%d" % child) or "Z" in open("/proc/%d/stat" % child).read().split(")")[1]


def test_stop_ends_what_runs_and_starts_nothing_more(tmp_path) -> None:
    commands = Commands()
    with BuildLog(str(tmp_path / "x.log")) as log:
        threading.Timer(0.3, commands.stop).start()
        started = time.monotonic()
        assert log.run(["sleep", "60"], os.environ, commands) == -15
        assert time.monotonic() - started < 50
        with pytest.raises(ImageError, match="stopped before sleep"):
            log.run(["sleep", "60"], os.environ, commands)


def test_a_log_that_cannot_be_written_stops_the_build() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("ABSENT /dev/full")
    started = time.monotonic()
    log = BuildLog("/dev/full")
    with pytest.raises(OSError, match="No space"):
        log.run(python("import time\nwhile True: print('x' * 100, flush=True); time.sleep(0.01)"), os.environ, Commands())
    assert time.monotonic() - started < 50


def test_a_program_that_is_not_there_is_named(tmp_path) -> None:
    with BuildLog(str(tmp_path / "x.log")) as log, pytest.raises(ImageError, match="/nonexistent/docker cannot be started"):
        log.run(["/nonexistent/docker", "build"], os.environ, Commands())
