# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dies and comes back: supervisors, keepers, controllers, the machine itself. Nothing runs twice, nothing is lost, nothing is called well that is not."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import host_state, processes
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.bench_host import PRINT, BenchHost, MakeHost, make_host, pgrep
from ansible_collections.mad.engine.tests.support.engine import Door

__all__ = ["make_host"]  # a fixture
RUNTIMES = ("host", "docker")


def marked(base: Path, seconds: float = 1.0) -> str:
    """A script that writes down each of its starts and ends."""
    return 'echo start >> %s/"$MAD_MODEL_NAME"\nsleep %s\necho end >> %s/"$MAD_MODEL_NAME"\n' % (base, seconds, base) + PRINT


def lines(base: Path, model: str) -> List[str]:
    """What such a script wrote."""
    path = base / model
    return path.read_text().split() if path.exists() else []


def kill(pid: int) -> None:
    """SIGKILL; who has gone already needs none."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def mounted(base: Path, runtime: str) -> List[dict]:
    """Let a container write where its script wants to."""
    return [{"source": str(base), "target": str(base), "read_only": False}] if runtime == "docker" else []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_supervisor_killed_at_random_moments(make_host: MakeHost, tmp_path: Path, runtime: str) -> None:
    """Each run starts once and ends once, whenever its supervisor dies."""
    seed = int(os.environ.get("MAD_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print("MAD_TEST_SEED=%d" % seed)
    chance = random.Random(seed)
    host = make_host(runtime)
    for _number in range(4):
        host.run(marked(tmp_path, 0.5), runtime, mounts=mounted(tmp_path, runtime))
    host.go()
    for _round in range(6):
        time.sleep(chance.uniform(0.0, 0.7))
        kill(host.supervisor())
        host.poll()
    found = host.wait()
    for run_id, record in found.items():
        assert record["status"] == "SUCCESS", (seed, record)
        assert host.folder.attempts(run_id) == [1], seed
        assert lines(tmp_path, record["model"]) == ["start", "end"], seed


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_keepers_killed_at_random_moments(make_host: MakeHost, tmp_path: Path, runtime: str) -> None:
    """A new keeper takes over: the run goes on undisturbed and is judged by its own end."""
    seed = int(os.environ.get("MAD_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print("MAD_TEST_SEED=%d" % seed)
    chance = random.Random(seed)
    host = make_host(runtime)
    for _number in range(3):
        host.run(marked(tmp_path, 1.0), runtime, mounts=mounted(tmp_path, runtime))
    host.go()
    for _round in range(5):
        time.sleep(chance.uniform(0.0, 1.0))
        for run_id in host.planned:
            numbers = host.folder.attempts(run_id)
            attempt = host.folder.attempt(run_id, numbers[-1]) if numbers else None
            if attempt and attempt.held() and not attempt.result():
                pids = [pid for pid in pgrep("supervise") if pid == int((attempt.launch().get("keeper") or {}).get("pid") or 0)]
                for pid in pids:
                    kill(pid)
    for record in host.wait().values():
        assert record["status"] == "SUCCESS", (seed, record)
        assert record["attempt"] == 1 and lines(tmp_path, record["model"]) == ["start", "end"], seed
    host.until(lambda: not host.folder.supervised())
    if runtime == "docker":
        assert host.containers() == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_all_of_ours_killed_while_it_runs(make_host: MakeHost, tmp_path: Path, runtime: str) -> None:
    """Supervisor and keeper die; the run ends while nobody looks; the next poll reads its end."""
    host = make_host(runtime)
    run_id = host.run(marked(tmp_path, 1.5), runtime, mounts=mounted(tmp_path, runtime))
    begun = time.monotonic()
    host.go()
    host.until_running(run_id)
    for pid in (host.supervisor(), host.keeper(run_id)):
        kill(pid)
    host.until(lambda: lines(tmp_path, "m1") == ["start", "end"])
    time.sleep(0.3)
    looked = time.monotonic()
    record = host.wait()[run_id]
    assert record["status"] == "SUCCESS" and any("keeper died" in note for note in record["notes"]), record
    assert 1.4 < record["timings"]["model"] < looked - begun, "the model's own end counts, not the look that found it"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_time_limit_holds_after_a_takeover(make_host: MakeHost, runtime: str) -> None:
    """The time limit counts from the model's own start, not from the takeover."""
    host = make_host(runtime)
    tag = "84%03d" % (os.getpid() % 1000)
    run_id = host.run("setsid sleep %s &\nsleep %s\n" % (tag, tag), runtime, timeout=8)
    host.go()
    host.until_running(run_id)
    time.sleep(5.0)
    for pid in (host.supervisor(), host.keeper(run_id)):
        kill(pid)
    record = host.wait()[run_id]
    assert record["failure_class"] == "timeout", record
    assert 7.9 < record["timings"]["run"] < 12.9, record["timings"]
    host.until(lambda: pgrep("sleep " + tag) == [])


def test_everything_killed_is_class_infra(make_host: MakeHost) -> None:
    """Supervisor, keeper and the driver itself die: what is left of the model is ended and the record says infra."""
    host = make_host()
    tag = "83%03d" % (os.getpid() % 1000)
    run_id = host.run("setsid sleep %s &\nsleep %s\n" % (tag, tag))
    host.go()
    host.until_running(run_id)
    for pid in (host.supervisor(), host.keeper(run_id)):
        kill(pid)
    for pid in pgrep("driver.sh"):
        if host.folder.path in Path("/proc/%d/cmdline" % pid).read_text():
            kill(pid)
    record = host.wait()[run_id]
    assert record["failure_class"] == "infra" and record["launched"], record
    host.until(lambda: pgrep("sleep " + tag) == [])


def test_reboot(make_host: MakeHost, tmp_path: Path) -> None:
    """Another boot id: what ran is class infra, what waited runs."""
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    host = make_host()
    first = host.run("sleep 600\n", retries=0)
    second = host.run(PRINT)
    host.go(boot_id_file=str(boot))
    host.until_running(first)
    for pid in (host.supervisor(), host.keeper(first)):
        kill(pid)
    processes.kill_all(lambda: processes.with_marker(host.folder.attempt(first, 1).launch()["mark"]), 0.0)
    boot.write_text("second\n")
    found = host.wait()
    assert found[first]["failure_class"] == "infra" and "rebooted" in found[first]["reason"], found[first]
    assert found[second]["status"] == "SUCCESS"


def test_two_supervisors_at_once(make_host: MakeHost, tmp_path: Path) -> None:
    """Of several supervisors started in the same moment one works, the others leave."""
    host = make_host()
    for _number in range(3):
        host.run(marked(tmp_path, 0.3))
    host.stage()
    host.folder.save_settings(host.settings)
    pyz = os.path.join(host.work, "lib", host.core + ".pyz")
    racers = [subprocess.Popen([sys.executable, pyz, "supervise", host.folder.path], cwd="/") for _number in range(5)]
    assert [racer.wait(20) for racer in racers] == [0] * 5
    for record in host.wait(poll=False).values():
        assert record["status"] == "SUCCESS" and lines(tmp_path, record["model"]) == ["start", "end"]


def test_two_controllers_at_once(make_host: MakeHost, tmp_path: Path) -> None:
    """Several controllers stage, start and poll the same campaign at once: each run runs once, each controller has all results."""
    host = make_host()
    for _number in range(4):
        host.run(marked(tmp_path, 0.2))
    problems: List[BaseException] = []

    def control() -> None:
        try:
            host.go()
            host.wait()
        except BaseException as error:  # noqa: BLE001 a thread's error would be lost otherwise
            problems.append(error)

    threads = [threading.Thread(target=control) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for record in host.wait().values():
        assert record["status"] == "SUCCESS" and record["attempt"] == 1
        assert lines(tmp_path, record["model"]) == ["start", "end"]


def test_sigterm_ends_the_supervisor_and_nothing_else(make_host: MakeHost, tmp_path: Path) -> None:
    """SIGTERM to the supervisor: it goes at once, the run goes on; the next poll continues the list."""
    host = make_host()
    first, second = host.run(marked(tmp_path, 6)), host.run(marked(tmp_path, 0.1))
    host.go()
    host.until_running(first)
    os.kill(host.supervisor(), signal.SIGTERM)
    host.until(lambda: not host.folder.supervised(), 60)
    host.until(lambda: lines(tmp_path, "m1") == ["start", "end"])
    assert lines(tmp_path, "m2") == []
    found = host.wait()
    assert [found[run_id]["status"] for run_id in (first, second)] == ["SUCCESS", "SUCCESS"]


def test_sigterm_to_the_keeper_is_preemption(make_host: MakeHost) -> None:
    """A host that shuts down tells keepers to stop: class preempted, and nothing stays."""
    host = make_host()
    run_id = host.run("sleep 600\n")
    host.go()
    host.until_running(run_id)
    os.kill(host.keeper(run_id), signal.SIGTERM)
    assert host.wait()[run_id]["failure_class"] == "preempted"


def test_machine_lock_across_campaigns(make_host: MakeHost, tmp_path: Path) -> None:
    """Two campaigns in two work folders with one lock never run at the same time; waiting is queue time."""
    lock = str(tmp_path / "lock")
    one, two = make_host(lock=lock), make_host(lock=lock)
    for host in (one, two):
        host.run(marked(host.base, 0.8))
        host.run(marked(host.base, 0.1))
    one.go()
    one.until(lambda: one.folder.state().get("machine_lock"))
    two.go()
    records = list(one.wait().values()) + list(two.wait().values())
    times = sorted((record["timings"]["started"], record["timings"]["finished"]) for record in records)
    assert all(times[index][1] <= times[index + 1][0] + 0.02 for index in range(3)), times
    assert min(record["timings"]["queue"] for record in two.wait().values()) > 0.5
    assert os.stat(lock).st_mode & 0o777 == 0o666


def test_machine_lock_outlives_the_supervisor(make_host: MakeHost, tmp_path: Path) -> None:
    """The keeper holds the lock: a killed supervisor does not let another campaign in beside its run."""
    lock = str(tmp_path / "lock")
    one, two = make_host(lock=lock), make_host(lock=lock)
    first, second = one.run("until [ -e %s/enough ]; do sleep 0.1; done\n" % tmp_path + PRINT), two.run(PRINT)
    one.go()
    one.until_running(first)
    kill(one.supervisor())
    two.go()
    time.sleep(0.8)
    assert two.result(second) is None
    (tmp_path / "enough").touch()
    started = two.wait()[second]["timings"]["started"]
    assert started >= one.wait()[first]["timings"]["finished"]


def test_machine_lock_is_not_followed_through_a_link(make_host: MakeHost, tmp_path: Path) -> None:
    """A link in the place of the lock is an error at the start, and what it points to stays as it is."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    host = make_host(lock=str(tmp_path / "lock"))
    host.run(PRINT)
    host.stage()
    with pytest.raises(MadError, match="link"):
        host.start()
    assert victim.read_text() == "precious"


def test_a_folder_of_another_user_is_refused(make_host: MakeHost) -> None:
    """The error names the owner."""
    components.require("root")
    host = make_host()
    host.run(PRINT)
    host.stage()
    os.chown(host.folder.path, 65534, 65534)
    with pytest.raises(MadError, match="belongs to user nobody"):
        host.start()
    os.chown(host.folder.path, 0, 0)


def test_a_crashing_supervisor_is_told(make_host: MakeHost, tmp_path: Path) -> None:
    """When supervisors end by an error one after the other, polling says so instead of going on for ever."""
    host = make_host()
    host.run(PRINT)
    host.stage()
    host.folder.save_settings(dict(host.settings, lock=str(tmp_path)))  # a folder can be no lock
    with pytest.raises(MadError, match="ended 3 times by an error.*regular file|ended 3 times by an error.*directory"):
        for _round in range(300):
            host.poll()
            time.sleep(0.2)


def container_of_somebody_else(host: BenchHost, run_id: str) -> str:
    """Start one with the name of a run's first attempt and without our folder's label; its name."""
    name = "mad-%s-%s-1" % (host.campaign, run_id)
    label = "mad.campaign=" + host.campaign
    words = ["docker", "run", "-d", "--network", "host", "--name", name, "--label", label, host.image, "sleep", "600"]
    subprocess.run(words, check=True, capture_output=True)
    return name


def test_a_container_of_somebody_else_is_left_alone(make_host: MakeHost) -> None:
    """A container with our name that another work folder made: class launch, and it goes on."""
    host = make_host("docker")
    run_id = host.run(PRINT, "docker")
    name = container_of_somebody_else(host, run_id)
    host.go()
    record = host.wait()[run_id]
    assert record["failure_class"] == "launch" and "another work folder" in record["reason"], record
    time.sleep(0.5)
    state = subprocess.run(["docker", "inspect", "-f", "{{.State.Running}}", name], capture_output=True, text=True, check=True)
    assert state.stdout.strip() == "true"


@pytest.fixture()
def door(docker_host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Give an engine that can be gone for a time: the one that is in force before."""
    with tempfile.TemporaryDirectory(prefix="mad-door-", dir="/tmp") as folder:  # socket paths are short
        door = Door(Path(folder))
        monkeypatch.setenv("DOCKER_HOST", door.host)
        yield door.open()
        door.close()


def test_an_engine_that_is_restarted_costs_no_run(make_host: MakeHost, tmp_path: Path, door: Door) -> None:
    """A container that lives on without its engine (live-restore) is waited for, whether the engine comes back before its end or after."""
    host = make_host("docker")
    go_on = tmp_path / "go_on"
    script = "until [ -e %s ]; do sleep 0.1; done\n" % go_on + PRINT
    first, second = (host.run(script + "rm -f %s\n" % go_on, "docker", mounts=mounted(tmp_path, "docker")) for _number in range(2))
    host.go()
    _run_without_engine(host, first, go_on, door, True)
    _run_without_engine(host, second, go_on, door, False)
    assert [record["status"] for record in host.wait().values()] == ["SUCCESS", "SUCCESS"]
    host.until(lambda: not host.containers())


def _run_without_engine(host: BenchHost, run_id: str, go_on: Path, door: Door, back_before_the_end: bool) -> None:
    """Take the engine away while a run goes on, and give it back."""
    host.until_running(run_id)
    door.close()
    host.until(lambda: host.log(run_id, "engine.log"))  # its client knows
    time.sleep(2.0)
    attempt = host.folder.attempt(run_id, 1)
    assert attempt.held() and not attempt.result()
    if back_before_the_end:
        door.open()
    go_on.touch()
    host.until(lambda: not go_on.exists())
    if not back_before_the_end:
        door.open()
    host.until(lambda: host.result(run_id))


def test_a_takeover_waits_for_the_engine(make_host: MakeHost, tmp_path: Path, door: Door) -> None:
    """Supervisor and keeper die while the engine is away: the next ones ask it when it is back, and the container is none the worse."""
    host = make_host("docker")
    run_id = host.run("until [ -e %s/go_on ]; do sleep 0.1; done\n" % tmp_path + PRINT, "docker", mounts=mounted(tmp_path, "docker"))
    host.go()
    host.until_running(run_id)
    door.close()
    first = host.keeper(run_id)
    kill(host.supervisor())
    kill(first)
    host.until(lambda: not host.folder.attempt(run_id, 1).held())
    host.until(lambda: host.folder.attempt(run_id, 1).held(), 300, host.poll)  # a poll may still see the killed supervisor
    time.sleep(2.0)
    assert not host.result(run_id)
    door.open()
    (tmp_path / "go_on").touch()
    record = host.wait()[run_id]
    assert record["status"] == "SUCCESS" and any("took over" in note for note in record["notes"]), record
    host.until(lambda: not host.containers())


def test_an_engine_that_is_gone(make_host: MakeHost, door: Door) -> None:
    """What waits for it has its row soon; a container that could not be removed keeps its folder until that can be done."""
    host = make_host("docker")
    run_id = host.run(PRINT, "docker")
    host.stage()
    door.close()
    host.start()
    record = host.wait(100)[run_id]
    assert record["failure_class"] in ("launch", "infra") and "Cannot connect" in record["reason"], record
    attempt = host.folder.attempt(run_id, 1)
    host.until(lambda: not host.supervisor())
    door.open()
    name = container_of_somebody_else(host, run_id)
    Path(attempt.file(host_state.LEFT)).write_text(name)
    door.close()
    kept = host.absent()["kept"]
    assert kept and name in kept[0]["reason"] and host.folder.exists()
    door.open()
    assert host.absent()["removed"] and not host.folder.exists() and host.containers() == []


def test_attempt_claimed_and_never_started(make_host: MakeHost, tmp_path: Path) -> None:
    """A supervisor that died between mkdir and launch.json: the same attempt begins, none is counted."""
    host = make_host()
    run_id = host.run(marked(tmp_path, 0))
    host.stage()
    assert host.folder.attempt(run_id, 1).claim()
    host.start()
    record = host.wait()[run_id]
    assert (record["status"], record["attempt"]) == ("SUCCESS", 1) and lines(tmp_path, "m1") == ["start", "end"]


def test_launch_written_and_nothing_started(make_host: MakeHost, tmp_path: Path) -> None:
    """A keeper that died between launch.json and the start: the attempt begins, for a container too."""
    for runtime in RUNTIMES:
        host = make_host(runtime)
        run_id = host.run(PRINT, runtime)
        host.stage()
        attempt = host.folder.attempt(run_id, 1)
        attempt.claim()
        os.mkdir(attempt.file("work"))
        attempt.save_launch(
            {"boot_id": processes.boot_id(), "created": time.time(), "gpus": [], "cpus": "", "parallel": 1, "container": ""}
        )
        if runtime == "docker":  # a start that the dead keeper's client had asked for: made, never begun
            labels = ["--label", "mad.campaign=" + host.campaign, "--label", "mad.folder=" + _folder_label(host)]
            words = [
                "docker",
                "create",
                "--network",
                "host",
                "--name",
                "mad-%s-%s-1" % (host.campaign, run_id),
                *labels,
                host.image,
                "true",
            ]
            subprocess.run(words, check=True, capture_output=True)
        host.start()
        record = host.wait()[run_id]
        assert (record["status"], record["attempt"]) == ("SUCCESS", 1), record


def _folder_label(host: BenchHost) -> str:
    from ansible_collections.mad.engine.plugins.module_utils.containers import engine

    return engine.labels(host.planned[list(host.planned)[0]], 1, host.folder.path)["mad.folder"]


def test_default_lock_and_state_are_usable(make_host: MakeHost) -> None:
    """The lock of this machine can be opened by every user; the state file names who works."""
    descriptor = host_state.open_machine_lock(make_host().lock)
    assert os.fstat(descriptor).st_mode & 0o777 == 0o666
    os.close(descriptor)
