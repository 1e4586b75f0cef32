# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver script: golden, understood by every shell, and executed with hostile values."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.host import driver
from ansible_collections.mad.engine.tests.support import golden

GOLDEN = Path(__file__).parents[3] / "golden"


def make_run(**changes: Any) -> Dict[str, Any]:
    run: Dict[str, Any] = {
        "id": "00000000000000aa",
        "model": "dir/m",
        "command": {"argv": ["bash", "run.sh", "--a", "it's"], "directory": "scripts/m"},
    }
    run.update(changes)
    return run


CONTAINER = driver.Place("/myworkspace", "/.mad", share=True, keep_alive=False)
FULL = make_run(
    url="https://example.com/x/repo.git",
    cred="git",
    runtime="docker",
    gpus={"vendor": "AMD", "count": 2},
    multiple_results="perf m.csv",
    pre_scripts=[{"path": "scripts/common/pre.sh", "args": ["0", "a b"]}],
    post_scripts=[{"path": "scripts/common/post.sh"}, {"path": "scripts/x/y.sh", "args": []}],
)
CASES = {
    "driver_plain": driver.render(make_run(), 1, CONTAINER),
    "driver_full": driver.render(FULL, 2, CONTAINER),
    "driver_host": driver.render(make_run(), 1, driver.Place("/w d/work", "/w d/io", share=False, keep_alive=False)),
    "driver_kept": driver.render(make_run(skip_model_run=True), 1, driver.Place("/myworkspace", "/.mad", share=False, keep_alive=True)),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_golden(name: str) -> None:
    """The script as it is."""
    path = GOLDEN / (name + ".sh")
    golden.check(path, CASES[name])


@pytest.mark.parametrize("name", sorted(CASES))
def test_shells_and_shellcheck_understand_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "driver.sh"
    path.write_text(CASES[name])
    for shell in ("bash", "dash", "sh"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-s", "sh", str(path)], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def execute(run: Dict[str, Any], tmp_path: Path, clock: str = "/proc/uptime") -> Path:
    """Run a driver on this machine; returns its io folder."""
    work, control = tmp_path / "work", tmp_path / "io"
    for folder in (work, control):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    source = work / run["command"]["directory"]
    source.mkdir(parents=True)
    (source / "run.sh").write_text('printf "%s\\0" "$@"\n')
    (control / "env.sh").write_text("")
    (control / "driver.sh").write_text(driver.render(run, 1, driver.Place(str(work), str(control), False, False)).replace("/proc/uptime", clock))
    subprocess.run(["sh", str(control / "driver.sh")], check=True, cwd=str(work), stdin=subprocess.DEVNULL)
    return control


def test_a_clock_that_may_not_be_read(tmp_path: Path) -> None:
    """A hardened /proc is no reason to say that what ran did not start; the keeper copes with any clock."""
    before = int(time.time())
    read = driver.read_phases(str(execute(make_run(), tmp_path, clock="/proc/none") / "phases"))
    assert read.exit_code == 0 and before <= read.began <= read.model_ended <= read.ended <= time.time()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30), max_size=5))
def test_arguments_arrive_literally(tmp_path: Path, words: Any) -> None:
    """Whatever the words of a command are, the model gets exactly these."""
    control = execute(make_run(command={"argv": ["bash", "run.sh", *words], "directory": "scripts/m"}), tmp_path)
    content = (control / "model.log").read_bytes()
    assert content == "".join(word + "\0" for word in words).encode() or (not words and content == b"\0")
    assert driver.read_phases(str(control / "phases")).exit_code == 0


@pytest.mark.parametrize("name", ["it's", "a b", "$(touch hacked)", "`id`", "-rf", "x;y", "a\nb", "ünï", "*", '"'])
def test_hostile_names_of_folders_and_results(tmp_path: Path, name: str) -> None:
    run = make_run(
        command={"argv": ["bash", "-c", "echo 1 > ./%s" % "'%s'" % name.replace("'", "'\"'\"'")], "directory": "scripts/" + name},
        multiple_results=name,
        model=name,
    )
    control = execute(run, tmp_path)
    assert (control / "artifacts" / name).read_text() == "1\n"
    assert list(tmp_path.rglob("hacked")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"command": {"argv": [], "directory": "../x"}},
        {"command": {"argv": [], "directory": "/etc"}},
        {"multiple_results": "../../x"},
        {"pre_scripts": [{"path": "../x.sh"}]},
        {"pre_scripts": [{}]},
        {"url": "https://x/.."},
        {"url": "https://x/a", "cred": "a b"},
        {"command": {"argv": ["a\0b"], "directory": "x"}},
    ],
)
def test_what_leaves_the_repository_is_refused(changes: Dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        driver.render(make_run(**changes), 1, CONTAINER)


def test_run_directory_is_named_by_the_url() -> None:
    assert driver.run_directory(make_run()) == "run_directory"
    assert driver.run_directory(make_run(url="https://h/a/repo.git/")) == "repo"
    assert driver.run_directory(make_run(url="git@h:a/other")) == "other"


def test_password_never_stands_in_the_script() -> None:
    """Credentials come from variables; and only for the server that the url names."""
    text = CASES["driver_full"]
    assert "${git_PASSWORD-}" in text and "credential.https://example.com.helper" in text


def test_phases_are_read_as_far_as_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    assert driver.read_phases(str(path)).began == 0
    path.write_text("10.50 begin prepare\nnonsense\n11.00 begin pre 1\n12.00 begin model\n13.25 exit model 3\n14.00 commit abc\n14.5 end")
    found = driver.read_phases(str(path))
    assert (found.began, found.phase, found.phase_began, found.exit_code, found.model_began, found.model_ended) == (
        10.5,
        "model",
        12.0,
        3,
        12.0,
        13.25,
    )
    assert found.commit == "abc" and found.ended == 0
    path.write_text("1 begin pre 2\n2 fail pre 7 2\n")
    found = driver.read_phases(str(path))
    assert found.failure == {"phase": "pre", "code": 7, "detail": "2"} and found.ended == 2


@given(st.binary(max_size=200))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_phases(tmp_path: Path, data: bytes) -> None:
    """A model can write there too: nothing raises."""
    (tmp_path / "phases").write_bytes(data)
    driver.read_phases(str(tmp_path / "phases"))


@pytest.mark.parametrize("when", ["nan", "inf", "-inf", "-5", "1e400", "\u00b2", "9" * 5000])
def test_a_moment_that_is_none_is_passed_over(tmp_path: Path, when: str) -> None:
    (tmp_path / "phases").write_text("1.00 begin prepare\n%s begin model\n2.00 end\n" % when, "utf-8")
    found = driver.read_phases(str(tmp_path / "phases"))
    assert (found.phase, found.model_began, found.ended) == ("prepare", 0.0, 2.0)


@pytest.mark.parametrize("code", ["\u00b2", "9" * 5000, "-1", "1.0", ""])
def test_an_exit_status_that_is_none_is_passed_over(tmp_path: Path, code: str) -> None:
    """A keeper that fails over such a line leaves no record, and neither does the next one."""
    (tmp_path / "phases").write_text("1.00 begin model\n2.00 exit model %s\n3.00 fail pre %s\n4.00 end\n" % (code, code), "utf-8")
    found = driver.read_phases(str(tmp_path / "phases"))
    assert found.exit_code is None and found.failure is None and found.ended == 4.0


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("1 begin model\n2 exit model 0\n3 end\n")
    (tmp_path / "phases").symlink_to(tmp_path / "other")
    assert driver.read_phases(str(tmp_path / "phases")).began == 0
