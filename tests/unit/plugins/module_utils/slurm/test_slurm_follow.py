# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command per poll, whatever it says, and what a stop makes of jobs that have not begun. Slurm's commands are stand-ins that note calls."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base import work_folder
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_steps
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_folder import CampaignFolder
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_follow import Follower
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission, Task
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Shape
from ansible_collections.mad.engine.tests.support.records import crash, make_run, run_id

NAME, OTHER = "mad-0123456789ab", "mad-ba9876543210"
COMMAND = """#!/bin/sh
name="${0##*/}" PATH=%(path)s
echo "$name" >>%(folder)s/calls
[ -e %(folder)s/"$name".says ] || exit 0
cat %(folder)s/"$name".error >&2
cat %(folder)s/"$name".says
exit "$(cat %(folder)s/"$name".code)"
"""


class Site:
    """A campaign of two runs in one array, as job 7, and commands that say what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("squeue", "sacct", "sbatch", "scancel"):
            (self.bin / name).write_text(COMMAND % {"folder": self.bin, "path": os.defpath})
            (self.bin / name).chmod(0o755)
        self.folder = CampaignFolder(str(folder / "work" / "campaigns" / work_folder.folder_name("c1", "login")))
        self.folder.make("c1", "login")
        for number in (1, 2):
            self.folder.save_run(make_run(number, retries=1))

    def submitted(self, name: str, attempt: int, *numbers: int, job: int = 7) -> None:
        """An array of these runs; job 0: written, and not given to Slurm."""
        made = Submission(name, Shape(1, 0, 60), tuple(Task(place, run_id(number), attempt) for place, number in enumerate(numbers)), True)
        path = Path(self.folder.file("submissions", name))
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(json.dumps(made.manifest()))
        (path / "job.sh").write_text("#!/bin/sh\n")
        if job:
            (path / "job.json").write_text(json.dumps({"job": job, "submitted": 1.0}))
        for number in numbers:
            self.folder.attempt(run_id(number), attempt).claim()

    def says(self, command: str, text: str, code: int = 0, error: str = "") -> None:
        """What a command prints from now on."""
        for name, content in (("says", text), ("code", str(code)), ("error", error)):
            (self.bin / ("%s.%s" % (command, name))).write_text(content)

    def calls(self) -> List[str]:
        """Commands since the last question."""
        path = self.bin / "calls"
        found = path.read_text().split() if path.exists() else []
        path.write_text("")
        return found

    def poll(self, path: str = "") -> List[str]:
        """One look; the commands that it took."""
        Follower(self.folder, Slurm({"PATH": path or "%s:%s" % (self.bin, os.defpath)})).follow(now=True)
        return self.calls()

    def result(self, number: int, attempt: int = 1) -> Dict[str, Any]:
        """A record, {} while there is none."""
        return dict(self.folder.attempt(run_id(number), attempt).result() or {})

    def marker(self, number: int, text: str = "code=0\nsignal=\n") -> None:
        """The last word of a task."""
        Path(self.folder.attempt(run_id(number), 1).file("end")).write_text(text)


@pytest.fixture()
def site(tmp_path: Path) -> Site:
    """Give one."""
    return Site(tmp_path)


def squeue(state: str, task: int, name: str = NAME, job: int = 7) -> str:
    return "%d|%d|%d|%s|%s|n1|N/A|None\n" % (job, task, job + task, name, state)


def sacct(state: str, task: int, name: str = NAME) -> str:
    return "7_%d|%d|%s|%s|n1|0:0|Unknown|Unknown\n" % (task, 7 + task, name, state)


def test_what_squeue_knows_is_asked_once(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2)
    site.says("squeue", squeue("RUNNING", 0) + squeue("PENDING", 1))
    assert [site.poll() for dummy in range(3)] == [["squeue"]] * 3
    assert site.result(1) == site.result(2) == {}


def test_a_marker_is_looked_for_anew_at_every_poll(site: Site) -> None:
    """An NFS client remembers for up to a minute that it was not there, unless the folder is opened: that stands in the system calls."""
    site.submitted(NAME, 1, 1, 2)
    site.says("squeue", squeue("RUNNING", 0) + squeue("RUNNING", 1))
    opened: List[str] = []
    active = True
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if active and event == "open" and args else None)
    site.poll()
    active = False
    folders = [site.folder.attempt(run_id(number), 1).path for number in (1, 2)]
    assert set(folders) <= set(opened)


def test_too_many_names_for_one_argument_are_left_out(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2)
    site.says("squeue", squeue("RUNNING", 0) + squeue("RUNNING", 1) + squeue("RUNNING", 0, OTHER, 9))
    slurm = Slurm({"PATH": "%s:%s" % (site.bin, os.defpath)})
    assert [job.job for job in slurm.jobs([NAME] + ["mad-%012x" % number for number in range(10_000)])] == [7, 7, 9]


def test_a_munge_daemon_that_is_restarted_is_no_answer(site: Site) -> None:
    site.submitted(NAME, 1, 1)
    site.says("squeue", "", code=1, error="squeue: error: Munge encode failed: Failed to access socket\nslurm_load_jobs error: Protocol authentication error")
    assert site.poll() == ["squeue"] and site.result(1) == {}


def test_what_markers_explain_is_not_asked_at_all(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2)
    site.marker(1)
    site.says("squeue", squeue("RUNNING", 1))
    assert site.poll() == ["squeue"]
    site.marker(2)
    assert site.poll() == [] and site.result(1)["status"] and site.result(2)["status"]


def test_what_squeue_forgot_is_asked_of_accounting_at_the_next_poll(site: Site) -> None:
    """And only that: what accounting says of a task that squeue knows may be of an earlier start of it."""
    site.submitted(NAME, 1, 1, 2)
    site.says("squeue", squeue("PENDING", 1))
    site.says("sacct", sacct("NODE_FAIL", 0) + sacct("NODE_FAIL", 1))
    assert site.poll() == ["squeue"] and site.result(1) == {}
    assert site.poll() == ["sacct"]
    assert (site.result(1)["failure_class"], site.result(2)) == ("infra", {})
    assert site.poll() == ["squeue"]


def test_without_accounting_squeue_is_the_last_word(site: Site) -> None:
    site.submitted(NAME, 1, 1)
    site.says("sacct", "", code=1)
    assert [site.poll() for dummy in range(4)] == [["squeue"], ["sacct"], ["squeue"], ["squeue"]]
    assert site.result(1) == {}
    watch = Path(site.folder.file("watch.json"))
    document = json.loads(watch.read_text())
    document["missing"] = dict.fromkeys(document["missing"], 1.0)
    watch.write_text(json.dumps(document))
    site.poll()
    assert site.result(1)["failure_class"] == "infra" and "left no word" in site.result(1)["reason"]


def test_accounting_that_does_not_answer_gives_up_nothing(site: Site) -> None:
    site.submitted(NAME, 1, 1)
    site.says("sacct", "", code=1, error="connection refused")
    assert [site.poll() for dummy in range(4)] == [["squeue"], ["sacct"]] * 2
    document = json.loads(Path(site.folder.file("watch.json")).read_text())
    assert not document.get("missing") and site.result(1) == {}


def test_no_sacct_at_all(site: Site) -> None:
    site.submitted(NAME, 1, 1)
    os.unlink(site.bin / "sacct")
    assert [site.poll(str(site.bin)) for dummy in range(3)] == [["squeue"], [], ["squeue"]]


def test_a_fresh_submission_needs_no_question(site: Site) -> None:
    """Nobody can have submitted it before; one that was tried is looked for first."""
    site.submitted(NAME, 1, 1, 2, job=0)
    site.says("sbatch", "", code=1, error="socket timed out")
    assert site.poll() == ["sbatch", "squeue"], "the answer got lost: the job is looked for by its name"
    site.says("squeue", squeue("RUNNING", 0) + squeue("RUNNING", 1))
    assert site.poll() == ["squeue"] and site.calls() == []
    assert json.loads(Path(site.folder.file("submissions", NAME, "job.json")).read_text())["adopted"] is True


def test_a_retry_that_a_stop_takes_back_is_no_run_that_was_never_tried(site: Site) -> None:
    """The first attempt failed; the second waits in the queue, or on disk, when the play stops. What was never tried is SKIPPED."""
    lost = dict(crash(1), failure_class="infra", reason="the node failed", target={"kind": "slurm", "job": "5"})
    for number in (1, 2):
        site.folder.attempt(run_id(number), 1).claim()
        site.folder.attempt(run_id(number), 1).save_result(dict(lost, run_id=run_id(number)))
    site.folder.save_run(make_run(3))
    site.submitted(NAME, 2, 1)
    site.submitted("mad-000000000003", 1, 3, job=9)
    site.submitted(OTHER, 2, 2, job=0)
    site.folder.say("stop", "stopped: enough failed")
    site.says("squeue", squeue("CANCELLED", 0) + squeue("CANCELLED", 0, "mad-000000000003", 9))
    site.poll()
    site.poll()
    for number in (1, 2):
        record = site.result(number, 2)
        assert (record["status"], record["failure_class"]) == ("FAILURE", "cancelled")
        assert record["reason"] == "stopped: enough failed; this retry was cancelled before it began"
    assert site.result(1, 2)["target"]["job"] == "7_0"
    assert (site.result(3)["status"], site.result(3)["reason"]) == ("SKIPPED", "stopped: enough failed")


def test_a_retry_that_had_ended_when_the_stop_came_keeps_its_result(site: Site) -> None:
    site.submitted(NAME, 1, 1)
    site.folder.say("stop", "stopped: enough failed")
    site.marker(1, "code=3\nsignal=\n")
    site.says("squeue", squeue("CANCELLED", 0))
    assert site.poll() == []
    assert site.result(1)["status"] == "FAILURE" and site.result(1)["failure_class"] not in ("", "cancelled")


FULL = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy"


def test_an_array_that_a_limit_on_jobs_keeps_out_waits_again_in_smaller_ones(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2, job=0)
    site.says("sbatch", "", code=1, error=FULL)
    follower = Follower(site.folder, Slurm({"PATH": "%s:%s" % (site.bin, os.defpath)}))
    follower.follow(now=True)
    assert site.calls() == ["sbatch", "squeue"] and "arrays of 1 tasks" in follower.warnings[0]
    assert follower.submissions.entries() == [] and follower.submissions.largest(1001) == 1
    assert [site.folder.standing(site.folder.run(run_id(number))).state for number in (1, 2)] == ["pending"] * 2
    site.submitted(OTHER, 1, 1, job=0)
    site.poll()
    assert site.result(1)["failure_class"] == "launch" and "AssocMaxSubmitJobLimit" in site.result(1)["reason"], "one job is too many"


def test_what_a_killed_process_had_half_taken_back_is_gone_at_the_next_look(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2, job=0)
    os.rename(site.folder.file("submissions", NAME, "manifest.json"), site.folder.file("submissions", NAME, "taken_back.json"))
    assert site.poll() == [] and os.listdir(site.folder.file("submissions")) == []
    assert [site.folder.standing(site.folder.run(run_id(number))).state for number in (1, 2)] == ["pending"] * 2


def test_while_other_jobs_of_the_user_fill_a_limit_nothing_is_given_up(site: Site) -> None:
    site.submitted(NAME, 1, 1, 2, job=0)
    site.says("sbatch", "", code=1, error=FULL)
    site.says("squeue", "4711\n")
    assert site.poll() == ["sbatch", "squeue"] and site.result(1) == {}
    site.says("sbatch", "12\n")
    assert "sbatch" in site.poll() and Follower(site.folder, Slurm()).submissions.entries()[0].job == 12


OPENED: List[str] = []
sys.addaudithook(lambda event, arguments: OPENED.append(str(arguments[0])) if event == "open" else None)


def test_what_a_submission_costs_does_not_grow_with_their_number(tmp_path: Path) -> None:
    """Of a campaign with a thousand runs of several nodes each is a job of its own."""
    reads = []
    for count in (2, 12):
        (tmp_path / str(count)).mkdir()
        site = Site(tmp_path / str(count))
        for number in range(1, count + 1):
            site.folder.save_run(make_run(number))
            site.submitted("mad-%012d" % number, 1, number, job=0)
        site.says("sbatch", "7\n")
        OPENED.clear()
        assert site.poll() == ["sbatch"] * count
        reads.append(sum(path.endswith(".json") for path in OPENED) / count)
    assert reads[1] <= reads[0]


def test_what_waits_is_dropped_by_a_stop_though_slurm_was_away_when_it_was_said(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(site.bin), prepend=os.pathsep)
    site.submitted(NAME, 1, 1)
    site.submitted(OTHER, 1, 2, job=8)
    Path(site.folder.attempt(run_id(2), 1).file("begin")).write_text("submitted=8\n")
    site.says("squeue", squeue("PENDING", 0) + squeue("RUNNING", 0, OTHER, 8))
    site.says("scancel", "", 1, "Unable to contact slurm controller (connect failure)")
    job = {"campaign": "c1", "host": "login", "work_dir": str(tmp_path / "work"), "runs": {run_id(1): 1, run_id(2): 1}, "stop": "enough failed"}
    assert "Unable to contact" in slurm_steps.polled(job)["warnings"][0]
    assert site.calls() == ["scancel", "squeue"]
    site.says("scancel", "")
    assert slurm_steps.polled(job)["warnings"] == []
    assert site.calls() == ["scancel", "squeue"]
    site.says("squeue", squeue("CANCELLED", 0) + squeue("RUNNING", 0, OTHER, 8))
    slurm_steps.polled(job)
    assert site.result(1)["status"] == "SKIPPED" and site.result(2) == {}
    site.calls()
    slurm_steps.polled(job)
    assert "scancel" not in site.calls()


def test_what_slurm_has_taken_though_its_answer_got_lost_is_not_forgotten_by_a_stop(site: Site) -> None:
    """Its job would run for nobody: it is followed, so that it is dropped, cancelled or waited for as any other."""
    site.submitted(NAME, 1, 1, job=0)
    site.submitted(OTHER, 1, 2, job=0)
    Path(site.folder.file("submissions", NAME, "tried")).touch()
    site.folder.say("stop", "enough failed")
    site.says("squeue", "", 1, "Unable to contact slurm controller (connect failure)")
    site.poll()
    assert site.result(1) == site.result(2) == {}
    site.says("squeue", squeue("PENDING", 0, NAME, 9))
    assert "sbatch" not in site.poll()
    assert site.result(2)["status"] == "SKIPPED" and site.result(1) == {}
    assert json.loads(Path(site.folder.file("submissions", NAME, "job.json")).read_text())["job"] == 9
    site.says("squeue", squeue("CANCELLED", 0, NAME, 9))
    site.poll()
    assert site.result(1)["status"] == "SKIPPED"
