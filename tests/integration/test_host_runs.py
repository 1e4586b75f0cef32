# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a real engine and on the bare host: how each kind of end is told, and that nothing outlives it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.mad.engine.tests.support.bench_host import PRINT, MakeHost, make_host, pgrep

__all__ = ["make_host"]  # a fixture
RUNTIMES = ("host", "docker")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_success(make_host: MakeHost, runtime: str) -> None:
    """A run that prints its performance: one record with timings, log and nothing left but that."""
    host = make_host(runtime)
    run_id = host.run('pwd; env | grep ^MAD_; echo "args: $*"\n' + PRINT, runtime, env={"MAD_MODEL_NAME": "dir/m 1"})
    host.planned[run_id]["command"]["argv"] += ["--a", "1 2"]
    host.go()
    record = host.wait()[run_id]
    assert (record["status"], record["failure_class"], record["reason"]) == ("SUCCESS", "", ""), record
    assert record["metrics"][0]["value"] == 12.5 and record["exit_code"] == 0 and record["launched"]
    assert all(record["timings"][name] is not None for name in ("queue", "stage", "run", "model", "started", "finished"))
    log = host.log(run_id)
    assert "MAD_MODEL_NAME=dir/m 1" in log and "args: --a 1 2" in log and "run_directory" in log
    assert record["files"]["log_bytes"] == len(log)
    attempt = host.folder.attempt(run_id, 1)
    host.until(lambda: not attempt.held())
    assert sorted(os.listdir(attempt.path)) == sorted(
        ["artifacts", "engine.log", "keeper.lock", "launch.json", "model.log", "result.json"]
        + (["container.id"] if runtime == "docker" else [])
    ) or "pre.log" in os.listdir(attempt.path)
    if runtime == "docker":
        assert host.containers() == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_failures_are_told_apart(make_host: MakeHost, runtime: str) -> None:
    """Crash, signal, silent end and an error pattern, in one list; the list goes on after each."""
    host = make_host(runtime)
    cases = {
        host.run(PRINT + "exit 3\n", runtime): ("crash", "exit code 3"),
        host.run(PRINT + "kill -SEGV $$\n", runtime): ("crash", "SIGSEGV"),
        host.run("echo nothing\n", runtime): ("no_metric", ""),
        host.run(PRINT + "echo 'RuntimeError: boom'\n", runtime, scan={"enabled": True, "patterns": ["RuntimeError:"], "benign": []}): (
            "error_pattern",
            "boom",
        ),
        host.run(PRINT, runtime): ("", ""),
    }
    host.go()
    found = host.wait()
    for run_id, (failure_class, words) in cases.items():
        record = found[run_id]
        assert (record["failure_class"], words in record["reason"]) == (failure_class, True), record
    assert found[list(cases)[0]]["metrics"][0]["value"] == 12.5  # what was printed is kept
    if runtime == "docker":
        host.until(lambda: not host.containers())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_hang_is_killed_with_everything_it_started(make_host: MakeHost, runtime: str) -> None:
    """At the timeout the model ends, and so do children in other sessions, double-forked ones and those that ignore SIGTERM."""
    host = make_host(runtime)
    tag = "86%03d" % (os.getpid() % 1000)
    script = (
        "trap '' TERM\nsetsid sleep %s1 &\n(setsid bash -c \"trap '' TERM; sleep %s2\" &) \n(nohup sleep %s3 >/dev/null 2>&1 &)\n"
        % (tag, tag, tag)
        + "echo started\nsleep %s4\n" % tag
    )
    run_id = host.run(script, runtime, timeout=2)
    host.go()
    begun = time.monotonic()
    record = host.wait(40)[run_id]
    assert record["failure_class"] == "timeout" and "2 s" in record["reason"], record
    assert time.monotonic() - begun < 30
    assert "started" in "\n".join(record["log_excerpt"])
    host.until(lambda: not host.folder.attempt(run_id, 1).held())
    assert pgrep("sleep " + tag) == []


def test_background_children_end_with_the_model(make_host: MakeHost) -> None:
    """A model that ends well and leaves a daemon behind does not disturb the next one."""
    host = make_host()
    tag = "85%03d" % (os.getpid() % 1000)
    run_id = host.run("setsid sleep %s >/dev/null 2>&1 &\n(env -i setsid sleep %s >/dev/null 2>&1 &)\n" % (tag, tag) + PRINT)
    host.go()
    assert host.wait()[run_id]["status"] == "SUCCESS"
    host.until(lambda: not host.folder.attempt(run_id, 1).held())
    assert pgrep("sleep " + tag) == []


def test_out_of_memory(make_host: MakeHost) -> None:
    """The engine's memory limit gives class oom."""
    host = make_host("docker")
    run_id = host.run("x=a\nwhile :; do x=$x$x; done\n", "docker", options=["--memory", "32m", "--memory-swap", "32m"])
    host.go()
    record = host.wait()[run_id]
    assert record["failure_class"] == "oom", record


def test_entrypoint_does_not_break_a_run(make_host: MakeHost, tmp_path: Path) -> None:
    """An image with an ENTRYPOINT of its own."""
    host = make_host("docker")
    name = "mad-test-entry-%d" % os.getpid()
    (tmp_path / "Dockerfile").write_text('FROM %s\nENTRYPOINT ["/bin/false"]\n' % host.image)
    subprocess.run(["docker", "build", "-q", "-t", name, str(tmp_path)], check=True, capture_output=True)
    try:
        host.image = name
        run_id = host.run(PRINT, "docker")
        host.go()
        assert host.wait()[run_id]["status"] == "SUCCESS"
    finally:
        host.until(lambda: not host.containers())
        subprocess.run(["docker", "rmi", "-f", name], check=False, capture_output=True)


def test_another_user_without_the_boot_clock(make_host: MakeHost, tmp_path: Path) -> None:
    """An option --user, and a container whose /proc/uptime is closed to that user, as some machines have it."""
    host = make_host("docker")
    closed = tmp_path / "uptime"
    closed.write_text("")
    closed.chmod(0)
    run_id = host.run("id -u; mkdir -m 0 closed; sleep 1\n" + PRINT, "docker", options=["--user", "1234:1234", "-v", "%s:/proc/uptime:ro" % closed])
    host.go()
    record = host.wait()[run_id]
    assert record["status"] == "SUCCESS" and host.log(run_id).startswith("1234\n"), (record["reason"], record["notes"], record["log_excerpt"])
    assert 0.9 < record["timings"]["model"] < 60 and abs(record["timings"]["started"] - time.time()) < 300
    attempt = host.folder.attempt(run_id, 1)
    host.until(lambda: not attempt.held())
    assert not os.path.exists(attempt.file("work"))


def test_what_cannot_start_is_class_launch(make_host: MakeHost) -> None:
    """A mount that does not exist, an option the engine refuses, options that would break the contract, a command that is not there."""
    host = make_host("docker")
    cases = {
        host.run(PRINT, "docker", mounts=[{"source": "/does/not/exist", "target": "/x", "read_only": False}]): (
            "launch",
            "/does/not/exist",
        ),
        host.run(PRINT, "docker", options=["--no-such-option=1"]): ("launch", "no-such-option"),
        host.run(PRINT, "docker", options=["--rm"]): ("invalid", "--rm"),
        host.run(PRINT, "docker", options=["--shm-size", "1g", "evil-image"]): ("invalid", "evil-image"),
        host.run(PRINT, "docker", command={"argv": ["nosuchprogram"], "directory": "scripts/m5", "scripts": "scripts/m5"}): (
            "crash",
            "127",
        ),
    }
    host.go()
    found = host.wait()
    for run_id, (failure_class, words) in cases.items():
        assert (found[run_id]["failure_class"], words in found[run_id]["reason"]) == (failure_class, True), found[run_id]
    host.until(lambda: not host.containers())


HOSTILE = [
    "it's",
    '"double"',
    "$(touch /tmp/mad-hostile)",
    "`touch /tmp/mad-hostile`",
    "; touch /tmp/mad-hostile",
    "a\nb",
    "../../x",
    "-rf",
    "*",
    "ünï€😀",
    "\\",
    "=x",
    "@cmd",
    " ",
]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_hostile_values_arrive_literally(make_host: MakeHost, runtime: str) -> None:
    """Arguments, environment values short, long and secret, model and script names: all as they are, none in a shell's hands."""
    host = make_host(runtime)
    Path("/tmp/mad-hostile").unlink(missing_ok=True)
    script = (
        'for word in "$@"; do printf "<%s>" "$word"; done; printf "[%s][%s][%s]" "$SHORT" "${#LONG}" "$MY_TOKEN" | cut -c1-300\n' + PRINT
    )
    text = "".join(HOSTILE)
    run_id = host.run(
        script,
        runtime,
        model="m'; touch /tmp/mad-hostile; '\n$(touch /tmp/mad-hostile)",
        env={"SHORT": text, "LONG": text * 200},
        secret_env=["MY_TOKEN"],
    )
    folder = host.repo / "scripts" / "a b'; $(touch x)"
    shutil.copytree(host.repo / "scripts" / "m1", folder)
    (folder / "pre $(x)'.sh").write_text('printf "pre<%s>\\n" "$@"\n')
    run = host.planned[run_id]
    run["command"] = {"argv": ["bash", "run.sh", *HOSTILE], "directory": "scripts/a b'; $(touch x)", "scripts": ""}
    run["stage"] = ["scripts/a b'; $(touch x)", "scripts/common"]
    run["pre_scripts"] = [{"path": "scripts/a b'; $(touch x)/pre $(x)'.sh", "args": HOSTILE}]
    host.stage(secrets={"MY_TOKEN": "s3cr3t-'$(touch /tmp/mad-hostile)"})
    host.start()
    record = host.wait()[run_id]
    assert record["status"] == "SUCCESS", record
    log = host.log(run_id)
    assert "".join("<%s>" % word for word in HOSTILE) in log
    assert "[%s" % text in log and "s3cr3t" not in log and "****" in log
    assert "pre<%s>" % HOSTILE[-2] in host.log(run_id, "pre.log")
    assert not Path("/tmp/mad-hostile").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_secrets_stand_nowhere(make_host: MakeHost, runtime: str) -> None:
    """A secret reaches the model, and afterwards no file of the work folder holds it; while it runs, no command line does."""
    host = make_host(runtime)
    secret = "hunter2-%s" % os.urandom(6).hex()
    run_id = host.run(
        'test "${#MY_TOKEN}" = 20 && echo "I know $MY_TOKEN"\nsleep 2\n' + PRINT + "exit 1\n", runtime, secret_env=["MY_TOKEN", "NO_TOKEN"]
    )
    host.stage(secrets={"MY_TOKEN": secret})
    host.start()
    host.until_running(run_id)
    assert pgrep(secret) == []
    record = host.wait()[run_id]
    assert record["failure_class"] == "crash" and any("NO_TOKEN" in note for note in record["notes"])
    assert "I know *" in host.log(run_id)
    host.until(lambda: not host.folder.supervised())
    found = subprocess.run(["grep", "-r", "-l", secret, host.work], capture_output=True, text=True, check=False).stdout
    assert found == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_scripts_before_and_after(make_host: MakeHost, runtime: str) -> None:
    """Pre and post scripts run in order, in the run directory, with their own logs; results are brought out; a failing one is told."""
    host = make_host(runtime)
    results = "printf 'model,performance,metric\\na,1,x\\nb,2,x\\n' > ../perf_m.csv\necho 1 > my_output.csv\necho 'performance: 3 y'\nls\n"
    good = host.run(
        results,
        runtime,
        multiple_results="perf_m.csv",
        pre_scripts=[{"path": "scripts/common/pre_scripts/pre_test.sh", "args": [str(n)]} for n in range(3)],
        post_scripts=[{"path": "scripts/common/post_scripts/post_test.sh", "args": [str(n)]} for n in range(2)],
    )
    bad_pre = host.run(PRINT, runtime, pre_scripts=[{"path": "scripts/m2", "args": []}])
    bad_post = host.run(results, runtime, multiple_results="perf_m.csv", post_scripts=[{"path": "scripts/common/nothing.sh"}])
    both_bad = host.run(results + "exit 5\n", runtime, multiple_results="perf_m.csv", post_scripts=[{"path": "scripts/common/nothing.sh"}])
    host.go()
    found = host.wait()
    record = found[good]
    assert record["status"] == "SUCCESS" and [metric["row"] for metric in record["metrics"]] == ["a", "b"], record
    assert record["files"]["artifacts"] == ["my_output.csv", "perf_m.csv"]
    assert host.log(good, "pre.log").split() == " ".join("Pre-Script test called %d" % n for n in range(3)).split()
    assert host.log(good, "post.log").count("Post-Script") == 2
    assert "pre_test.sh" in host.log(good) and "Pre-Script" not in host.log(good)
    assert (found[bad_pre]["failure_class"], "scripts/m2" in found[bad_pre]["reason"]) == ("crash", True), found[bad_pre]
    assert (found[bad_post]["failure_class"], "nothing.sh" in found[bad_post]["reason"]) == ("crash", True), found[bad_post]
    assert [metric["value"] for metric in found[bad_post]["metrics"]] == [1, 2]  # what was measured is kept
    assert found[both_bad]["reason"] == "exit code 5" and any("post script" in note for note in found[both_bad]["notes"]), found[both_bad]
    assert [metric["value"] for metric in found[both_bad]["metrics"]] == [1, 2] and found[both_bad]["files"]["artifacts"]


def test_url_is_cloned(make_host: MakeHost, tmp_path: Path) -> None:
    """`url` gives the run directory its name and its commit; a repository that is not there is class infra."""
    origin = tmp_path / "origin.git"
    work = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", str(work)], check=True, capture_output=True)
    (work / "data.txt").write_text("cloned\n")
    subprocess.run(["git", "-C", str(work), "add", "."], check=True, capture_output=True)
    subprocess.run(["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one"], check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(origin)], check=True, capture_output=True)
    commit = subprocess.run(["git", "-C", str(work), "rev-parse", "HEAD"], text=True, check=True, capture_output=True).stdout.strip()
    host = make_host()
    good = host.run("cat data.txt; basename $PWD\n" + PRINT, url=str(origin))
    bad = host.run(PRINT, url=str(tmp_path / "nothing.git"))
    host.go()
    found = host.wait()
    assert (found[good]["status"], found[good]["git_commit"]) == ("SUCCESS", commit), found[good]
    assert host.log(good).split()[:2] == ["cloned", "origin"]
    assert found[bad]["failure_class"] == "infra" and "git clone" in found[bad]["reason"], found[bad]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_keep_and_skip(make_host: MakeHost, runtime: str) -> None:
    """skip_model_run prepares and says SKIPPED; model_dir keeps the work folder; alive keeps the container."""
    host = make_host(runtime)
    skipped = host.run("echo never\n", runtime, skip_model_run=True)
    kept = host.run("echo x > made\n" + PRINT, runtime, keep={"model_dir": True})
    alive = host.run("echo y > made\n" + PRINT, runtime, keep={"alive": True})
    host.go()
    found = host.wait()
    assert (found[skipped]["status"], host.log(skipped)) == ("SKIPPED", ""), found[skipped]
    assert found[kept]["status"] == found[alive]["status"] == "SUCCESS"
    host.until(lambda: not host.folder.supervised())
    assert Path(host.folder.attempt(kept, 1).file("work", "run_directory", "made")).read_text() == "x\n"
    assert not os.path.exists(host.folder.attempt(skipped, 1).file("work"))
    if runtime == "docker":
        name = found[alive]["target"]["container"]
        assert host.containers() == [name]
        inside = subprocess.run(
            ["docker", "exec", name, "cat", "/myworkspace/run_directory/made"], capture_output=True, text=True, check=True
        )
        assert inside.stdout == "y\n"


def test_retries_add_attempts(make_host: MakeHost) -> None:
    """A retry is another attempt; the last one is the record; exit code 75 of a resumable card is not counted."""
    host = make_host()
    host.run(
        'n=$(cat "$COUNT" 2>/dev/null || echo 0); echo $((n+1)) > "$COUNT"; test $n -ge 2 || exit 5\n' + PRINT,
        env={"COUNT": str(host.base / "count")},
        retries=3,
    )
    again = host.run(
        'n=$(cat "$COUNT" 2>/dev/null || echo 0); echo $((n+1)) > "$COUNT"; test $n -ge 2 || exit 75\n' + PRINT,
        env={"COUNT": str(host.base / "count2")},
        card={"name": "x", "resumable": True},
    )
    gives_up = host.run("exit 5\n", retries=1)
    host.go()
    found = host.wait()
    assert [record["status"] for record in found.values()] == ["SUCCESS", "SUCCESS", "FAILURE"], found
    assert [record["attempt"] for record in found.values()] == [3, 3, 2]
    assert host.folder.attempts(again) == [1, 2, 3] and host.folder.attempts(gives_up) == [1, 2]


def test_side_by_side_on_disjoint_parts(make_host: MakeHost) -> None:
    """host_parallel: runs overlap, GPUs and CPUs are shared out, each record names its neighbours."""
    host = make_host()
    gpus = {"vendor": "AMD", "count": 2, "pool": [0, 1, 2, 3], "devices": {}}
    script = 'echo "gpus $HIP_VISIBLE_DEVICES"; grep Cpus_allowed_list /proc/self/status; sleep 2\n' + PRINT
    for _number in range(3):
        host.run(script, gpus=gpus)
    too_many = host.run(script, gpus=dict(gpus, count=9))
    host.go(parallel=2)
    found = host.wait()
    first, second, third = (found[run_id] for run_id in list(host.planned)[:3])
    assert found[too_many]["failure_class"] == "placement" and "9 GPUs" in found[too_many]["reason"]
    assert sorted(first["gpus"]["indexes"] + second["gpus"]["indexes"]) == [0, 1, 2, 3]
    assert second["run_id"] in first["target"]["neighbours"] and first["run_id"] in second["target"]["neighbours"]
    assert third["timings"]["started"] > min(first["timings"]["finished"], second["timings"]["finished"]) - 0.05
    if len(os.sched_getaffinity(0)) > 1:
        assert first["cpus"] and first["cpus"] != second["cpus"]
        assert "Cpus_allowed_list:\t%s" % first["cpus"] in host.log(first["run_id"])
    assert "gpus %s" % ",".join(str(index) for index in first["gpus"]["indexes"]) in host.log(first["run_id"])
