# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large logs, full disks, many results, live output, stopping, cancelling, cleaning: what a host does at its limits and on request."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.host import host_clean, host_collect, host_state, host_steps
from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.bench_host import PRINT, BenchHost, MakeHost, make_host, pgrep

__all__ = ["make_host"]  # a fixture
RUNTIMES = ("host", "docker")


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 12 MB."""
    components.require("root")
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0755", "mad-test", str(point)], check=True)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_full_disk(make_host: MakeHost, small_disk: Path) -> None:
    """A model that fills the disk has its record, and so have the runs after it."""
    host = make_host(work=str(small_disk / "work"))
    fills = host.run("cat /dev/zero > big\necho never\n")
    fills_log = host.run("yes\n", timeout=20)
    after = host.run(PRINT)
    host.go(min_free_bytes=1 << 20)
    found = host.wait()
    assert found[fills]["failure_class"] == "crash" and any("disk" in note for note in found[fills]["notes"]), found[fills]
    assert found[fills_log]["status"] == "FAILURE", found[fills_log]
    assert found[after]["status"] == "SUCCESS" or (found[after]["failure_class"] == "infra" and "MiB are free" in found[after]["reason"])


def test_too_little_space_to_start(make_host: MakeHost) -> None:
    """Class infra, and the message says what is missing and what helps."""
    host = make_host()
    run_id = host.run(PRINT)
    host.go(min_free_bytes=1 << 60)
    record = host.wait()[run_id]
    assert record["failure_class"] == "infra" and "mad.engine.clean" in record["reason"] and not record["launched"]


def test_large_log_in_constant_memory(make_host: MakeHost) -> None:
    """A log of 1 GB: read once, the keeper stays below 64 MB."""
    if os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize < 3 << 30:
        components.absent("disk: 3 GB are not free in /tmp")
    host = make_host()
    run_id = host.run(PRINT + "yes 'a line of an ordinary training log, step 12345 loss 0.123' | head -c 1G\n", secret_env=["MY_TOKEN"])
    host.stage(secrets={"MY_TOKEN": "does-not-occur-in-the-log"})
    host.start()
    peak = 0

    def look() -> bool:
        nonlocal peak
        try:
            pid = host.keeper(run_id)
            text = Path("/proc/%d/status" % pid).read_text()
            peak = max(peak, int(text.split("VmHWM:")[1].split()[0]))
        except (OSError, IndexError, KeyError):
            pass
        return host.result(run_id) is not None

    host.until(look, 300)
    record = host.wait()[run_id]
    assert record["status"] == "SUCCESS" and record["files"]["log_bytes"] > 1 << 30
    assert 0 < peak < 64 << 10, "%d kB" % peak


def test_results_come_in_pieces(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer never holds more than so many bytes of results; the next one brings the rest; one that is too large goes as a file."""
    monkeypatch.setattr(host_steps, "RESULTS_LIMIT", 256 << 10)
    host = make_host()
    rows = "{ echo model,performance,metric; for n in $(seq %d); do echo row$n,$n,some_long_metric_name_%s; done; } > perf.csv\n"
    for _number in range(4):
        host.run(rows % (500, "x" * 50), multiple_results="perf.csv")
    huge = host.run(rows % (3000, "y" * 50), multiple_results="perf.csv")
    host.go()
    host.wait()
    first = host.poll_quietly()
    size = sum(len(str(record)) for record in first["results"])
    assert 0 < size < 300 << 10 and first["more"] and [entry["run"] for entry in first["large"]] == [huge]
    assert first["large"][0]["bytes"] > 256 << 10
    seen = {record["run_id"] for record in first["results"]}
    rest = host_steps.polled(host.job(check=True, runs={run_id: 1 for run_id in host.planned if run_id not in seen}))
    assert {record["run_id"] for record in rest["results"]} | seen | {huge} == set(host.planned)


def test_live_output_as_it_comes(make_host: MakeHost) -> None:
    """Whole lines, from where the last answer ended, secrets masked, the rest when it has ended."""
    host = make_host()
    run_id = host.run(
        'for n in 1 2 3 4; do echo "line $n $MY_TOKEN"; printf partial; sleep 0.5; echo; done\n' + PRINT, secret_env=["MY_TOKEN"]
    )
    host.stage(secrets={"MY_TOKEN": "top-secret-value"})
    host.start()
    text, offsets, ended = "", {}, False  # type: str, Dict[str, Any], bool
    deadline = time.monotonic() + 240
    while not ended and time.monotonic() < deadline:
        for entry in host.poll(live=offsets)["live"]:
            assert entry["text"] == "" or entry["ended"] or entry["text"].endswith("\n"), entry
            text += entry["text"]
            ended = entry["ended"]
            offsets = {run_id: {"attempt": entry["attempt"], "offset": entry["offset"]}}
        time.sleep(0.2)
    assert ended and text.replace("********", "*" * len("top-secret-value")) == host.log(run_id)
    assert "line 4 *" in text and "top-secret" not in text


def test_stop_skips_what_has_not_begun(make_host: MakeHost) -> None:
    """`stop`: what runs goes on, the rest is SKIPPED with the reason; a later start runs it."""
    host = make_host()
    first, second, third = host.run("sleep 2\n" + PRINT), host.run(PRINT), host.run(PRINT)
    host.go()
    host.until_running(first)
    host.poll(stop="stopped: 5 runs failed, mad_max_failures accepts 4")
    found = host.wait()
    assert [found[run_id]["status"] for run_id in (first, second, third)] == ["SUCCESS", "SKIPPED", "SKIPPED"]
    assert found[second]["reason"] == "stopped: 5 runs failed, mad_max_failures accepts 4"
    for run_id in (second, third):
        host.planned[run_id]["attempt"] = 2
    host.go()
    assert [record["status"] for record in host.wait().values()] == ["SUCCESS"] * 3


def test_stop_ends_pending_retries(make_host: MakeHost) -> None:
    """`stop`: a retry that has not begun never does; the failure before it comes home, from one that waits and from one that runs."""
    host = make_host()
    first, second = host.run("exit 1\n", retries=1), host.run("sleep 2\nexit 1\n", retries=1)
    host.go(parallel=1)
    host.until(lambda: host.running(second))  # the first one's retry went before it, in order
    host.poll(stop="stopped: 1 runs failed, mad_max_failures accepts 0")
    found = host.wait()
    assert [(found[run_id]["attempt"], found[run_id]["failure_class"]) for run_id in (first, second)] == [(2, "crash"), (1, "crash")]
    assert found[second]["notes"][-1] == "it was not tried again: stopped: 1 runs failed, mad_max_failures accepts 0"
    host.until(lambda: not host.folder.supervised())
    answer = host.poll()
    assert (answer["queued"], answer["running"], len(answer["results"])) == (0, [], 2) and not host.folder.supervised()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_cancel_exactly_this_campaign(make_host: MakeHost, runtime: str) -> None:
    """What runs is ended, what waits never starts, all have class cancelled; another campaign's run goes on."""
    other = make_host(runtime)
    going = other.run("sleep 4\n" + PRINT, runtime)
    other.go()
    other.until_running(going)
    host = make_host(runtime)
    runs = [host.run("setsid sleep 300 & sleep 300\n", runtime), host.run(PRINT, runtime)]
    host.go()
    host.until_running(runs[0])
    assert host.cancel(check=True)["changed"] and host.running(runs[0])
    answer = host.cancel(reason="enough")
    assert answer["changed"] and not answer["running"] and not answer["queued"]
    found = host.wait(poll=False)
    assert [(record["failure_class"], record["reason"]) for record in found.values()] == [("cancelled", "enough")] * 2
    host.until(lambda: not host.folder.supervised())
    if runtime == "docker":
        assert host.containers() == []
    assert host.cancel()["changed"] is False
    assert other.wait()[going]["status"] == "SUCCESS"


def test_cancel_leaves_a_campaign_of_the_same_name_alone(make_host: MakeHost) -> None:
    """Two work folders of one machine with the same campaign, host and run: what ends in one is not ended in the other."""
    host, twin = make_host(campaign="nightly"), make_host(campaign="nightly")
    ids = [each.run("sleep 4\n" + PRINT) for each in (host, twin)]
    for each in (host, twin):
        each.go()
        each.until_running(ids[0])
    assert ids[0] == ids[1] and twin.cancel()["changed"]
    assert host.wait()[ids[0]]["status"] == "SUCCESS" and twin.wait()[ids[0]]["failure_class"] == "cancelled"


def test_a_removed_work_folder_gives_the_machine_back(make_host: MakeHost) -> None:
    """Its supervisor and its run end, and the lock of the machine is free."""
    host = make_host()
    ids = [host.run("sleep 2\n" + PRINT), host.run(PRINT)]
    host.go()
    host.until_running(ids[0])
    shutil.rmtree(host.folder.path)
    host.until(lambda: not host_state.is_locked(host.lock))
    host.until(lambda: pgrep(host.folder.path) == [])


def test_cancel_while_waiting_for_the_machine(make_host: MakeHost, tmp_path: Path) -> None:
    """A campaign that waits for the machine lock says who has it, is cancelled without waiting for it, and may be started again."""
    lock = str(tmp_path / "lock")
    other, host = make_host(lock=lock), make_host(lock=lock)
    going = other.run("sleep 100\n" + PRINT)
    other.go()
    other.until_running(going)
    run_id = host.run(PRINT)
    host.go()
    host.until(lambda: host.poll()["waits_for"])
    found = host.poll()["waits_for"]
    assert found["lock"] == lock and found["seconds"] >= 2 and (found["pid"], found["campaign"]) == (other.supervisor(), other.campaign)
    host.cancel()
    assert host.wait(10, poll=False)[run_id]["failure_class"] == "cancelled"
    other.cancel()
    host.planned[run_id]["attempt"] = 2
    host.go()
    assert host.wait()[run_id]["status"] == "SUCCESS"


def test_absent_removes_what_is_done_and_nothing_that_runs(make_host: MakeHost) -> None:
    """A running campaign stays with a reason; a finished one goes whole; others of the same user stay."""
    host = make_host()
    done = make_host(work=host.work, lock=str(host.base / "other.lock"))
    gate = host.base / "gate"
    run_id = host.run("while [ ! -e %s ]; do sleep 0.1; done\n%s" % (gate, PRINT))
    finished = done.run(PRINT)
    host.go()
    done.go()
    done.wait()
    host.until_running(run_id)
    answer = host.absent(keep_days=None)
    assert not answer["changed"] and "supervisor" in answer["kept"][0]["reason"] and host.running(run_id)
    done.until(lambda: not done.folder.supervised())
    assert done.absent(keep_days=None, check=True)["removed"] == [done.folder.path] and done.folder.exists()
    assert done.absent(keep_days=None)["removed"] == [done.folder.path] and not done.folder.exists()
    assert done.absent(keep_days=None)["changed"] is False
    gate.touch()
    assert host.wait()[run_id]["status"] == "SUCCESS" and finished


def test_clean_by_age(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """keep_days counts from the last use; images are not asked for where no engine is."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(time, "time", lambda before=time.time: before() + 86400 * 3)
    host = make_host()
    monkeypatch.undo()
    host.run(PRINT)
    host.stage()
    monkeypatch.setattr("ansible_collections.mad.engine.plugins.module_utils.host.host_images.old_images", lambda limit, keep, check: [])
    monkeypatch.setattr(
        "ansible_collections.mad.engine.plugins.module_utils.host.host_clean.build_clean.old_files", lambda base, limit, check: []
    )
    assert host.absent(keep_days=1)["removed"] == []
    old = time.time() - 86400 * 2
    for name in ("", "host.json", "settings.json", "state.json"):
        path = host.folder.file(name) if name else host.folder.path
        if os.path.exists(path):
            os.utime(path, (old, old))
    assert host.absent(keep_days=1)["removed"] == [host.folder.path]


def test_a_folder_that_resists_does_not_keep_the_others(tmp_path: Path) -> None:
    """What the operating system does not let go is named with its whole path; everything else that is old goes."""
    components.require("root")
    job = {"host": "n1", "work_dir": str(tmp_path / "work"), "identity": "i", "runs": {}}
    stuck, other = (host_state.folder_of(dict(job, campaign=name)) for name in ("c1", "c2"))
    for folder in (stuck, other):
        folder.make("c", "n1")
    held = Path(stuck.path) / "held"
    held.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "mad-test", str(held)], check=True)
    try:
        for path in (path for folder in (stuck, other) for path in (folder.path, folder.file("host.json"))):
            os.utime(path, (1.0, 1.0))
        with pytest.raises(MadError) as caught:
            host_clean.absent(dict(job, campaign="", keep_days=10000))
        assert all(word in caught.value.message for word in (stuck.path, "held", "by hand")) and not other.exists()
    finally:
        subprocess.run(["umount", "-l", str(held)], check=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_links_lead_nowhere(make_host: MakeHost, tmp_path: Path, runtime: str) -> None:
    """A model that puts links where its log and its artifacts are expected does not bring other files home."""
    secret = tmp_path / "secret"
    secret.write_text("treasure\n")
    io = "$(dirname $(dirname $PWD))/io" if runtime == "host" else "/.mad"
    host = make_host(runtime)
    run_id = host.run(
        "io=%s; rm $io/model.log; ln -s %s $io/model.log; ln -s %s $io/artifacts/x_output.csv\n" % (io, secret, secret), runtime
    )
    host.go()
    record = host.wait()[run_id]
    assert record["status"] == "FAILURE" and any("model.log" in note for note in record["notes"]), record
    assert record["files"]["artifacts"] == []
    answer = host_collect.collected(host.job())
    with tarfile.open(answer["archive"]) as archive:
        content = b"".join(archive.extractfile(member).read() for member in archive.getmembers() if member.isfile())  # type: ignore[union-attr]
    assert b"treasure" not in content


def test_collected_is_one_archive(make_host: MakeHost) -> None:
    """Logs and artifacts of all runs; older attempts below; the size is said before."""
    host = make_host()
    first = host.run("echo one\necho 1 > a_output.csv\n" + PRINT)
    second = host.run("echo two; exit 1\n", retries=1)
    host.go()
    host.wait()
    answer = host_collect.collected(host.job())
    with tarfile.open(answer["archive"]) as archive:
        sizes = {member.name: member.size for member in archive.getmembers()}
    assert {"%s/run.log" % first, "%s/artifacts/a_output.csv" % first, "%s/run.log" % second, "%s/attempt-1/run.log" % second} <= set(sizes)
    assert answer["content_bytes"] == sum(sizes.values()) and answer["bytes"] == os.path.getsize(answer["archive"])
    assert os.stat(os.path.dirname(answer["archive"])).st_mode & 0o777 == 0o711


def test_check_mode_touches_nothing(make_host: MakeHost) -> None:
    """Every state in check mode, before and after."""
    host = make_host()
    run_id = host.run(PRINT)
    assert host.stage(check=True)["changed"] and not os.path.exists(host.work)
    assert host_steps.started(host.job(check=True))["changed"]
    assert not os.path.exists(host.work)
    host.stage()
    assert host_steps.started(host.job(check=True))["changed"] and not host.folder.supervised()
    assert host.poll(check=True)["unknown"] == [run_id] and not host.folder.supervised()  # staged and never started
    host.start()
    host.wait()
    host.until(lambda: not host.folder.supervised())
    before = _files(host)
    assert not host.stage(check=True)["changed"] and not host_steps.started(host.job(check=True))["changed"]
    assert host_collect.collected(host.job(check=True))["changed"]
    assert not host.cancel(check=True)["changed"] and host.absent(check=True, keep_days=None)["changed"]
    assert _files(host) == before and host.result(run_id)


def _files(host: BenchHost) -> List[str]:
    return sorted(str(path) for path in Path(host.work).rglob("*"))


def test_staging_refuses_what_is_damaged(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core whose bytes changed on the way is not installed, and nothing can be started with it."""
    host = make_host()
    host.run(PRINT)
    host.stage()
    pyz = Path(host.work, "lib", host.core + ".pyz")
    pyz.write_bytes(pyz.read_bytes()[:-1] + b"x")
    with pytest.raises(MadError, match="not what it should be"):
        host.start()
    host.stage()  # brings it again
    host.start()
    host.wait()


def test_another_work_folder_of_the_same_names_is_left_alone(make_host: MakeHost) -> None:
    """Two users of one engine: campaign, host and runs have the same names; neither a new supervisor of one nor `clean` touches the other."""
    campaign = "t" + os.urandom(5).hex()
    mine, theirs = make_host("docker", campaign=campaign), make_host("docker", campaign=campaign)
    mine.run(PRINT, "docker")
    mine.go()
    mine.wait()
    mine.until(lambda: not mine.folder.supervised() and not mine.containers())
    going = theirs.run("while [ ! -e /tmp/gate ]; do sleep 0.1; done\n" + PRINT, "docker")
    assert set(mine.planned) == set(theirs.planned)
    theirs.go()
    theirs.until_running(going)
    mine.run(PRINT, "docker")
    mine.go()  # its supervisor looks for what dead keepers left behind
    mine.wait()
    mine.until(lambda: not mine.folder.supervised())
    assert mine.absent()["removed"] == [mine.folder.path]
    assert theirs.running(going)
    subprocess.run(["docker", "exec", *theirs.containers(), "touch", "/tmp/gate"], check=True)
    assert theirs.wait()[going]["status"] == "SUCCESS"
