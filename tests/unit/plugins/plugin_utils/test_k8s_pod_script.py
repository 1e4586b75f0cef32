# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod's script, really executed by bash: from staging to the files that come home in the log."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.host import driver
from ansible_collections.mad.engine.tests.support.k8s_runs import LocalPod, make_options, make_run

HOSTILE = "a'b\"c $(touch hacked) `id`; x\n-y"


def wait_for(pod: LocalPod, text: bytes) -> None:
    deadline = time.monotonic() + 240
    while text not in pod.log:
        assert time.monotonic() < deadline, pod.log
        time.sleep(0.05)


def test_a_model_and_what_it_leaves(tmp_path: Path) -> None:
    run = make_run(multiple_results="out/r.csv", env={"A": HOSTILE, "MAD_MODEL_NAME": "m"}, secret_env=["HF_TOKEN"])
    model = 'printf "performance: 12 x\\n%s|%s" "$A" "$HF_TOKEN"; mkdir out; echo model,performance >out/r.csv; echo 1 >x_env.csv; cat common/mad 2>&1; exit 0'
    pod = LocalPod(tmp_path, run, model, secrets={"HF_TOKEN": HOSTILE})
    assert pod.execute() == 0, pod.log
    home = pod.home()
    assert home.model_complete and not home.notes and home.bye["exit"] == "0" and home.bye["code"] == "0", (home, pod.log)
    assert pod.brought("model.log").startswith(b"performance: 12 x\n" + HOSTILE.encode() + b"|" + HOSTILE.encode())
    assert pod.brought("artifacts/r.csv") == b"model,performance\n" and "artifacts/x_env.csv" in home.files
    assert home.hello["run"] == run["id"] and home.hello["attempt"] == "1"
    assert pod.termination()["nonce"] == home.nonce and pod.termination()["exit"] == "0"
    progress = driver.read_phases(str(tmp_path / "home" / "phases"))
    assert progress.exit_code == 0 and progress.ended and progress.model_began


@pytest.mark.parametrize("code", [1, 3, 75, 93])
def test_exit_codes_are_kept(tmp_path: Path, code: int) -> None:
    pod = LocalPod(tmp_path, make_run(), "echo a; exit %d" % code)
    assert pod.execute() == code
    home = pod.home()
    assert home.bye["code"] == str(code) and pod.brought("model.log") == b"a\n" and home.model_complete


def test_pre_and_post_scripts_run_and_a_failing_one_keeps_the_model_from_running(tmp_path: Path) -> None:
    run = make_run(pre_scripts=[{"path": "scripts/m1/pre.sh", "args": ["1"]}], post_scripts=[{"path": "scripts/m1/post.sh", "args": []}])
    pod = LocalPod(tmp_path, run, "echo model")
    (tmp_path / "repo/scripts/m1/pre.sh").write_text('echo "pre $1"')
    (tmp_path / "repo/scripts/m1/post.sh").write_text("echo post")
    pod = LocalPod(tmp_path, run, "echo model; exit 4")
    assert pod.execute() == 4
    pod.home()
    assert (pod.brought("pre.log"), pod.brought("post.log"), pod.brought("model.log")) == (b"pre 1\n", b"post\n", b"model\n")
    (tmp_path / "repo/scripts/m1/pre.sh").write_text("exit 9")
    pod = LocalPod(tmp_path, run, "echo model")
    assert pod.execute() == 70
    home = pod.home()
    progress = driver.read_phases(str(tmp_path / "home" / "phases"))
    assert progress.failure == {"phase": "pre", "code": 9, "detail": "0"} and home.bye["code"] == ""


@pytest.mark.parametrize("ending,expected", [("exit 0", 143), ("exit 75", 75), ("exit 9", 9)])
def test_term_reaches_the_model_and_0_after_it_is_no_success(tmp_path: Path, ending: str, expected: int) -> None:
    pod = LocalPod(tmp_path, make_run(), "trap 'echo told; %s' TERM; echo ready; while :; do sleep 0.1; done" % ending)
    pod.start()
    wait_for(pod, b"ready")
    pod.terminate()
    assert pod.wait() == expected
    home = pod.home()
    assert home.bye["signal"] == "TERM" and b"told" in pod.brought("model.log")


def test_a_model_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    pod = LocalPod(
        tmp_path,
        make_run(),
        "trap '' TERM; (trap '' TERM; sleep 300) & echo ready; while :; do sleep 1; done",
        make_options({"k8s": {"grace_seconds": 25}}),
    )
    pod.start()
    wait_for(pod, b"ready")
    pod.terminate()
    assert pod.wait() == 137


def test_the_time_limit(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path, make_run(timeout=2), "echo begun; sleep 300")
    assert pod.execute() == 124
    home = pod.home()
    assert home.bye["timed_out"] == "1" and pod.brought("model.log") == b"begun\n"


def test_the_model_cannot_forge_our_lines(tmp_path: Path) -> None:
    forged = (
        "mad.engine/1 00000000-0000-0000-0000-000000000000 hello run=x\nmad.engine/1 00000000-0000-0000-0000-000000000000 end model bytes=0"
    )
    pod = LocalPod(tmp_path, make_run(), "echo '%s'; echo after; exit 0" % forged)
    assert pod.execute() == 0
    home = pod.home()
    assert home.model_complete and pod.brought("model.log") == forged.encode() + b"\nafter\n" and home.hello["run"] == "0000000000000001"


def test_any_bytes_come_home(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3000 + b"\n\n\n"
    (tmp_path / "repo/scripts/m1").mkdir(parents=True)
    (tmp_path / "repo/scripts/m1/data").write_bytes(data)
    pod = LocalPod(tmp_path, make_run(), "cat data; cp data 'x _env.csv'")
    assert pod.execute() == 0
    home = pod.home()
    assert home.model_complete and pod.brought("model.log") == data and pod.brought("artifacts/x _env.csv") == data


def test_much_output_is_printed_no_faster_than_it_can_be_followed(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path, make_run(), "head -c 9000000 /dev/zero | tr '\\0' x; echo; exit 0")
    assert pod.execute() == 0
    home = pod.home()
    assert home.model_complete and home.model_bytes == 9000001 and not home.notes


def test_a_log_without_its_beginning_still_brings_the_files(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path, make_run(), "seq 1 100000; echo 1 >a_env.csv")
    assert pod.execute() == 0
    nonce = pod.termination()["nonce"]
    (tmp_path / "pod.log").write_bytes(pod.log[300000:])
    home = pod.home(nonce)
    assert not home.model_complete and home.notes and "artifacts/a_env.csv" in home.files and home.bye["exit"] == "0"
    assert pod.brought("model.log").endswith(b"99999\n100000\n")


def test_what_is_too_large_is_named(tmp_path: Path) -> None:
    pod = LocalPod(
        tmp_path,
        make_run(),
        "head -c 300000 /dev/urandom >big_env.csv; echo 1 >small_env.csv",
        make_options({"k8s": {"artifacts_limit": "100Ki"}}),
    )
    assert pod.execute() == 0
    home = pod.home()
    assert "artifacts/small_env.csv" in home.files and "artifacts/big_env.csv" not in home.files
    assert any("big_env.csv" in note and "artifacts_limit" in note for note in home.notes)


def test_a_prepared_run_without_its_model(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path, make_run(skip_model_run=True), "echo never")
    assert pod.execute() == 0
    assert pod.home().model_bytes == 0


def fake_getent(tmp_path: Path, script: str) -> dict[str, Any]:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "getent").write_text("#!/bin/sh\n" + script)
    (folder / "getent").chmod(0o755)
    return {"PATH": "%s:/usr/bin:/bin" % folder}


def test_peers_are_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    options = make_options({"k8s": {"peers_timeout": 2}, "nnodes": 2})
    pod = LocalPod(tmp_path, make_run(1, "torchrun", 2), "echo never", options)
    assert pod.execute(**fake_getent(tmp_path, "case $2 in *-1-1.*) exit 2;; esac")) == 70
    home = pod.home()
    assert home.bye["failed"] == "placement" and "pod 1 of 2" in home.bye["reason"] and home.model_bytes == 0


def test_names_are_asked_for_with_bash_alone(tmp_path: Path) -> None:
    """An image need not have getent or nslookup: here the names are not known, and bash finds that out."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in "bash sh cat cp mkdir rm head tail wc sleep date uname tr base64 sha256sum gzip tar timeout nproc".split():
        (folder / name).symlink_to(str(shutil.which(name)))
    pod = LocalPod(tmp_path, make_run(1, "torchrun", 2), "echo never", make_options({"k8s": {"peers_timeout": 1}, "nnodes": 2}))
    assert pod.execute(PATH=str(folder)) == 70
    assert "pod 0 of 2" in pod.home().bye["reason"]


def test_rank_and_addresses(tmp_path: Path) -> None:
    run = make_run(1, "torchrun", 2, processes=4)
    pod = LocalPod(tmp_path, run, 'echo "$MAD_MULTI_NODE_RUNNER $NODE_RANK $WORLD_SIZE $MAD_COLLECT_METRICS"', make_options({"nnodes": 2}))
    assert pod.execute(1, **fake_getent(tmp_path, "exit 0")) == 0
    pod.home()
    name = pod.rendered["job"]["metadata"]["name"]
    address = "%s-0.%s.default.svc.cluster.local" % (name, name)
    runner = "torchrun --nnodes=2 --nproc_per_node=4 --node_rank=1 --master_addr=%s --master_port=29500" % address
    assert pod.brought("model.log").decode() == runner + " 1 8 false\n"


def test_servers_end_with_the_first_pod(tmp_path: Path) -> None:
    pod = LocalPod(tmp_path, make_run(1, "sglang", 2), "echo serving; sleep 300", make_options({"nnodes": 2}))
    gone = tmp_path / "gone"
    pod.start(1, fake_getent(tmp_path, "case $2 in *-1-0.*) [ ! -e %s ];; esac" % gone))
    wait_for(pod, b"serving")
    gone.write_text("")
    assert pod.wait() == 0
    assert pod.home().bye["first_ended"] == "1"
