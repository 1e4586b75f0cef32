# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines of containers: golden for each kind of host, hostile values, options that are refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, LaunchError
from ansible_collections.mad.engine.plugins.module_utils.containers import engine
from ansible_collections.mad.engine.tests.support import golden

GOLDEN = Path(__file__).parents[3] / "golden" / "engine.json"
DIGEST = "sha256:" + "ab" * 32


def make_run(**changes: Any) -> Dict[str, Any]:
    run: Dict[str, Any] = {
        "id": "00000000000000aa",
        "campaign": "c1",
        "runtime": "docker",
        "place": {"target": "local", "host": "n1"},
        "image": {"name": "ci-x", "digest": DIGEST},
        "mounts": [{"source": "/data", "target": "/in", "read_only": True}],
        "gpus": {"vendor": "NONE", "count": 0, "pool": [], "devices": {}},
        "options": [],
        "privileges": {},
    }
    run.update(changes)
    return run


def make_launch(run: Dict[str, Any], **changes: Any) -> engine.Launch:
    words: Dict[str, Any] = {
        "name": "mad-c1-00000000000000aa-1",
        "labels": engine.labels(run, 1, "/w/campaigns/c1.0"),
        "work": "/w/work",
        "control": "/w/io",
        "cidfile": "/w/cid",
        "gpus": [],
        "cpus": "",
        "env": {"A": "1", "B": "two words"},
        "shm_bytes": 1 << 30,
        "selinux": False,
    }
    words.update(changes)
    return engine.Launch(**words)


def cases() -> Dict[str, Any]:
    """Kind of host to command line."""
    devices = {str(index): "/dev/dri/renderD%d" % (128 + index) for index in range(8)}
    amd = make_run(
        gpus={"vendor": "AMD", "count": 2, "pool": [0, 1, 2], "devices": devices}, options=["--shm-size", "8g", "--ulimit=memlock=-1"]
    )
    nvidia = make_run(gpus={"vendor": "NVIDIA", "count": 2, "pool": [0, 1], "devices": {}}, privileges={"ipc_host": True})
    everything = make_run(
        privileges={"sys_admin": True, "seccomp_unconfined": True, "ipc_host": True}, options=["--network", "none", "-u", "1000"]
    )
    podman = make_run(runtime="podman", gpus={"vendor": "NVIDIA", "count": 1, "pool": [0], "devices": {}})
    found = {
        "cpu": (make_run(), {}),
        "cpu_shared_out": (make_run(), {"cpus": "0-3"}),
        "amd": (amd, {"gpus": [0, 2]}),
        "nvidia": (nvidia, {"gpus": [0, 1]}),
        "intel": (make_run(gpus={"vendor": "INTEL", "count": 1, "pool": [0], "devices": devices}), {"gpus": [0]}),
        "podman_cpu": (make_run(runtime="podman"), {"selinux": True}),
        "podman_nvidia": (podman, {"gpus": [0]}),
        "all_privileges": (everything, {}),
    }
    return {name: engine.container_argv(run, make_launch(run, **words)) for name, (run, words) in found.items()}


def test_golden() -> None:
    """The command lines as they are."""
    found = cases()
    golden.check(GOLDEN, json.dumps(found, indent=1) + "\n")


def test_cpu_host_has_no_gpu_words_and_no_privileges() -> None:
    words = cases()["cpu"]
    assert not {"--device", "--gpus", "--group-add", "--cap-add", "--security-opt", "--ipc", "--privileged"} & set(words)
    assert words[-2:] == [DIGEST, "/.mad/driver.sh"]


@given(st.text(min_size=1, max_size=40).filter(lambda text: not set(text) & set("\0\r\n")), st.booleans())
def test_any_path_is_mounted_literally(text: str, read_only: bool) -> None:
    """What an engine reads out of the CSV line is what went in: a comma or a newline adds no option."""
    words = engine.mount("/" + text, "/t" + text, read_only)
    line = next(csv.reader(io.StringIO(words[1], newline="")))
    assert words[0] == "--mount" and line == ["type=bind", "source=/" + text, "target=/t" + text] + (["readonly"] if read_only else [])


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "x"],
        ["--name=x"],
        ["--rm"],
        ["-d"],
        ["-itd"],
        ["--detach"],
        ["--entrypoint", "x"],
        ["--label", "mad.run=1"],
        ["-l", "mad.engine=2"],
        ["-lmad.engine=2"],
        ["--restart=always"],
        ["--cidfile=/x"],
        ["--pull", "always"],
        ["--workdir", "/x"],
        ["-w", "/x"],
        ["image"],
        ["--shm-size", "1g", "image"],
        ["--"],
        ["-"],
        [""],
        ["--shm-size"],
        ["-e"],
        ["--init", "sh"],
        ["-Z"],
        ["-v", "/x:/myworkspace"],
        ["--volume=/x:/myworkspace/:ro"],
        ["--mount", "type=bind,source=/x,target=/.mad"],
        ["--tmpfs", "/myworkspace"],
        ["--help"],
        ["--pod", "x"],
    ],
)
def test_options_that_break_the_contract_are_refused(words: Any) -> None:
    with pytest.raises(InvalidInput, match="additional_docker_run_options"):
        engine.check_options(words)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--shm-size", "8g"], {"--shm-size": ["8g"]}),
        (["--shm-size=8g", "--init", "-e", "A=--rm", "-eB=1"], {"--shm-size": ["8g"], "--init": [""], "--env": ["A=--rm", "B=1"]}),
        (["--net", "none", "-it", "-v/x:/y"], {"--network": ["none"], "--interactive": [""], "--tty": [""], "--volume": ["/x:/y"]}),
        (["--security-opt", "seccomp=unconfined", "--device=/dev/x"], {"--security-opt": ["seccomp=unconfined"], "--device": ["/dev/x"]}),
        ([], {}),
    ],
)
def test_options_are_understood(words: Any, found: Any) -> None:
    assert engine.check_options(words) == found


def test_own_choices_give_way_to_the_cards() -> None:
    run = make_run(options=["--network", "bridge", "--ipc=private", "-u", "5"])
    words = engine.container_argv(run, make_launch(run))
    assert words.count("--network") == 1 and "--shm-size" not in words and "--user" not in words
    with pytest.raises(InvalidInput, match="cpuset"):
        run = make_run(options=["--cpuset-cpus", "0"])
        engine.container_argv(run, make_launch(run, cpus="1"))


def test_environment_is_split_by_size_and_secrecy() -> None:
    plain = {"SHORT": "x", "LONG": "y" * 2000, "TOKEN": "plain"}
    short, long = engine.split_environment(plain, {"TOKEN": "t0p"})
    assert short == {"SHORT": "x"} and long == {"LONG": "y" * 2000, "TOKEN": "t0p"}
    many = {"V%03d" % number: "z" * 1000 for number in range(100)}
    short, long = engine.split_environment(many, {})
    assert len(short) == 32 and dict(short, **long) == many


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"A B": ""}, "A B"),
        ({"1A": ""}, "1A"),
        ({"A": "x\0y"}, "NUL"),
        ({"BIG": "x" * (10 << 20)}, "BIG"),
        ({"A;B": ""}, "A;B"),
        ({"": ""}, "''"),
    ],
)
def test_what_no_process_can_be_given_is_named(variables: Dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        engine.check_environment(variables)
    with pytest.raises(InvalidInput):
        engine.check_environment({"V%d" % number: "x" * 100000 for number in range(20)})


def test_what_cannot_be_launched_says_why() -> None:
    with pytest.raises(LaunchError, match="verified"):
        engine.image_reference({"id": "1", "image": {"digest": {"unresolved": "later"}}})
    with pytest.raises(LaunchError, match="render node"):
        engine.gpu_words({"gpus": {"vendor": "AMD", "devices": {}}}, [0], "docker")
    with pytest.raises(LaunchError, match="MATROX"):
        engine.gpu_words({"gpus": {"vendor": "MATROX", "devices": {}}}, [0], "docker")
    with pytest.raises(InvalidInput, match="absolute"):
        engine.mount("a", "/b")
    with pytest.raises(InvalidInput, match="line break"):
        engine.mount("/a\nb", "/b")
    with pytest.raises(InvalidInput, match="where the run lives"):
        run = make_run(mounts=[{"source": "/x", "target": "/myworkspace/"}])
        engine.container_argv(run, make_launch(run))


def test_an_engine_that_is_not_there() -> None:
    with pytest.raises(Exception, match="cannot be started"):
        engine.Engine("/nonexistent/docker").call("ps")


@pytest.mark.parametrize(("name", "words"), [("docker", "rm --volumes --force c"), ("podman", "rm --volumes --force --time=0 c")])
def test_what_is_to_go_is_not_asked_first(tmp_path: Path, name: str, words: str) -> None:
    """A model at its time limit ends at once: podman's own removal would wait for it."""
    program = tmp_path / name
    program.write_text('#!/bin/sh\necho "$@" >"$0.said"\n')
    program.chmod(0o755)
    assert engine.Engine(str(program)).remove("c") == ""
    assert (tmp_path / (name + ".said")).read_text().strip() == words
    engine.Engine(str(program)).remove("c", force=False)
    assert (tmp_path / (name + ".said")).read_text().strip() == "rm --volumes c"
