# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""slurm_states, slurm_output, slurm_watch: what Slurm prints, what it means, what became of a task."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import FAILURE_CLASSES
from ansible_collections.mad.engine.plugins.module_utils.host import arguments
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_output, slurm_states, slurm_watch
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission, Task
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Shape
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_output import Job
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_states import ENDED, QUEUED, RUNNING
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_watch import Sight, judge

NAME = "mad-0123456789ab"
SUBMISSION = Submission(NAME, Shape(1, 0, 60), (Task(0, "0" * 16, 1), Task(1, "1" * 16, 1)), True)
DONE = {"code": "0", "signal": ""}
STOPPED = {"code": "143", "signal": "TERM"}


def job(state: str, number: int = 7, task: int = -1, name: str = NAME, reason: str = "", code: Any = None) -> Job:
    return Job(number, task, number, name, slurm_states.state(state), "n1", code, reason)


def seen(state: Optional[str], marker: Any = None, silent: float = 0.0, **more: Any) -> Sight:
    return Sight(job(state, **more) if state else None, marker or {}, silent)


# -- states ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slurm_states.NAMES)
def test_every_state_of_the_documentation_has_a_phase_and_ends_in_a_class(name: str) -> None:
    found = slurm_states.state(name)
    assert found.known and found.phase in (QUEUED, RUNNING, ENDED)
    assert found.failure_class == "" or (found.failure_class in FAILURE_CLASSES and found.phase == ENDED and found.reason)


@pytest.mark.parametrize(
    "text,phase,failure_class",
    [
        ("PENDING", QUEUED, ""),
        ("RQ", QUEUED, ""),
        ("SUSPENDED", RUNNING, ""),
        ("CG", RUNNING, ""),
        ("COMPLETED", ENDED, ""),
        ("FAILED", ENDED, ""),
        ("TIMEOUT", ENDED, "timeout"),
        ("OUT_OF_MEMORY", ENDED, "oom"),
        ("CANCELLED by 1000", ENDED, "cancelled"),
        ("CANCELLED+", ENDED, "cancelled"),
        ("PREEMPTED", ENDED, "preempted"),
        ("NODE_FAIL", ENDED, "infra"),
        ("BOOT_FAIL", ENDED, "infra"),
        ("DEADLINE", ENDED, "timeout"),
        ("nf", ENDED, "infra"),
        ("SOMETHING_NEW", RUNNING, ""),
        ("", RUNNING, ""),
    ],
)
def test_states(text: str, phase: str, failure_class: str) -> None:
    found = slurm_states.state(text)
    assert (found.phase, found.failure_class) == (phase, failure_class)
    assert found.known == (text not in ("SOMETHING_NEW", ""))
    assert ("uid 1000" in found.reason) == (text == "CANCELLED by 1000")


@given(st.text(max_size=30))
def test_an_unknown_state_is_never_an_end(text: str) -> None:
    found = slurm_states.state(text)
    assert found.known or (found.phase == RUNNING and found.reason)


def test_only_completed_is_a_good_end() -> None:
    assert [name for name in slurm_states.NAMES if slurm_states.state(name).good] == ["COMPLETED"]


# -- what commands print -----------------------------------------------------------------------------------------------------------


def test_squeue() -> None:
    text = "2|1|3|%s|RUNNING|n2|2026-11-24T15:58:54|None\n9|N/A|9|x|PENDING||N/A|Resources|x\nslurm_load_jobs error\n" % NAME
    first, second = slurm_output.squeue(text)
    assert (first.job, first.task, first.raw, first.name, first.nodes, first.reason) == (2, 1, 3, NAME, "n2", "")
    assert first.shown() == "2_1" and first.state.phase == RUNNING
    assert (second.job, second.task, second.nodes, second.reason) == (9, -1, "", "Resources|x") and second.shown() == "9"


def test_sacct() -> None:
    text = "1|1|%s|NODE_FAIL|n1|0:0|s|e|0\n1|1|%s|COMPLETED|n2|0:0|s|e|1\n1.batch|1.batch|batch|FAILED|n1|3:0|s|e|0\n" % (NAME, NAME)
    text += "2_3|5|%s|CANCELLED by 0|None assigned|0:15|s|e|0\n2_[4-9]|2|%s|PENDING|None assigned|0:0|s|e|0\n\n" % (NAME, NAME)
    requeued, cancelled = slurm_output.sacct(text)
    assert requeued.state.failure_class == "" and requeued.nodes == "n2", "of a job that was requeued the last line counts"
    assert (cancelled.job, cancelled.task, cancelled.raw, cancelled.code, cancelled.nodes) == (2, 3, 5, (0, 15), "")


def test_scontrol() -> None:
    text = (
        "JobId=6 ArrayJobId=2 ArrayTaskId=3 JobName=%s UserId=a(0) JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n4\n" % NAME
    )
    text += "JobId=7 JobName=x JobState=PENDING Reason=Dependency NodeList=(null)\nNo jobs in the system\n"
    first, second = slurm_output.scontrol(text)
    assert (first.job, first.task, first.raw, first.name, first.code, first.nodes) == (2, 3, 6, NAME, (3, 0), "n4")
    assert (second.job, second.task, second.code, second.nodes, second.reason) == (7, -1, None, "", "Dependency")


@pytest.mark.parametrize(
    "text,number",
    [
        ("12", 12),
        ("12;cluster\n", 12),
        ("4294967294;east\n", 4294967294),
        ("sbatch: billed to x\n77;c\nsbatch: enjoy your 5 jobs\n", 77),
        ("sbatch: hello 5\nSubmitted batch job 34\n", 34),
        ("sbatch: error: no", 0),
        ("", 0),
    ],
)
def test_sbatch(text: str, number: int) -> None:
    assert slurm_output.submitted(text) == number


def test_config() -> None:
    found = slurm_output.config("Configuration data as of now\nMaxArraySize            = 1001\nRequeueExit             = 75,90-93\n")
    assert slurm_output.max_array_size(found, 5) == 1001 and slurm_output.max_array_size({}, 5) == 5
    assert [slurm_output.requeues(found, code) for code in (75, 90, 92, 94, 0)] == [True, True, True, False, False]
    assert not slurm_output.requeues({"RequeueExit": "(null)"}, 75)


def test_the_youngest_job_that_has_not_ended_counts_before_one_that_has() -> None:
    assert slurm_watch.newest([]) is None
    assert slurm_watch.newest([job("COMPLETED", 5), job("FAILED", 9)]) == 9
    assert slurm_watch.newest([job("COMPLETED", 60000), job("RUNNING", 3)]) == 3, "numbers wrap"


# -- decisions ---------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_from_one_second_to_a_minute(polls: int, chance: float) -> None:
    value = slurm_watch.pause(polls, lambda: chance)
    assert 1.0 <= value <= 60.0
    assert slurm_watch.pause(0, lambda: chance) == 1.0 and slurm_watch.pause(10_000, lambda: chance) >= 45.0


def test_a_job_is_adopted_by_name_or_marker_never_by_number() -> None:
    other, own, double = job("RUNNING", 5, name="mad-ffffffffffff"), job("PENDING", 7), job("RUNNING", 9)
    assert slurm_watch.adopt(SUBMISSION, [other]) is None
    assert slurm_watch.adopt(SUBMISSION, [double, own, other]) == 7
    assert slurm_watch.adopt(SUBMISSION, [other], [12]) == 12, "sacct knows a job that ended at once under another name"
    assert slurm_watch.doubles(SUBMISSION, [other, own, double, job("COMPLETED", 11)], 7) == [9]


def test_one_task_of_several_is_found() -> None:
    jobs = [job("RUNNING", 7, 0), job("PENDING", 7, 1), job("RUNNING", 8)]
    found = slurm_watch.Found(jobs)
    assert found.task(7, 1) is jobs[1] and found.task(8, 0) is jobs[2]
    assert found.task(7, 2) is None and found.task(9, 0) is None


def test_what_goes_on() -> None:
    for state in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "NEWSTATE"):
        verdict = judge(seen(state))
        assert verdict.phase != ENDED and verdict.outcome == {} and bool(verdict.warning) == (state == "NEWSTATE")
    assert judge(seen(None, silent=5)).phase == RUNNING, "accounting may be late"
    revoked = judge(seen("REVOKED"))
    assert revoked.phase != ENDED and "another cluster of the federation" in revoked.warning, "it runs there: a second start would be a double"
    assert "for ever" in judge(seen("PENDING", reason="DependencyNeverSatisfied")).warning
    assert "PartitionNodeLimit" in judge(seen("PENDING", reason="(PartitionNodeLimit)")).warning
    assert judge(seen("PENDING", reason="Priority")).warning == ""


def test_the_marker_ends_a_task_at_once() -> None:
    for state in ("RUNNING", "COMPLETING", "COMPLETED", "FAILED", None):
        verdict = judge(seen(state, DONE))
        assert verdict.phase == ENDED and verdict.outcome == {}


@pytest.mark.parametrize(
    "state,key,failure_class",
    [
        ("TIMEOUT", "timed_out", "timeout"),
        ("CANCELLED by 5", "cancelled", "cancelled"),
        ("PREEMPTED", "preempted", "preempted"),
        ("OUT_OF_MEMORY", "oom", ""),
        ("NODE_FAIL", "", "infra"),
        ("BOOT_FAIL", "", "infra"),
        ("DEADLINE", "timed_out", "timeout"),
        ("LAUNCH_FAILED", "", "launch"),
    ],
)
@pytest.mark.parametrize("marker", [{}, STOPPED])
def test_the_state_says_why_a_task_was_ended(state: str, key: str, failure_class: str, marker: Any) -> None:
    verdict = judge(seen(state, marker))
    assert verdict.phase == ENDED and (not key or verdict.outcome[key] is True)
    assert (verdict.outcome.get("error") or {}).get("class", "") == failure_class


def test_an_end_that_nobody_explains_is_believed_late() -> None:
    """The marker may be late on a shared file system."""
    for state in ("COMPLETED", "FAILED", "SPECIAL_EXIT"):
        assert judge(seen(state)._replace(unexplained=1.0)).phase == RUNNING
        assert judge(seen(state)._replace(unexplained=slurm_watch.LATE)).outcome["error"]["class"] == "launch"
        assert judge(seen(state, DONE)._replace(unexplained=0.0)).phase == ENDED
    assert judge(seen("TIMEOUT")._replace(unexplained=1.0)).phase == ENDED


def test_a_task_that_was_told_to_end_waits_for_the_state() -> None:
    assert judge(seen("RUNNING", STOPPED)).phase == RUNNING
    assert judge(seen("RUNNING", STOPPED), waited_for_state=True).phase == ENDED
    assert judge(seen(None, STOPPED, silent=1)).phase == RUNNING
    assert judge(seen(None, STOPPED, silent=slurm_watch.FORGOTTEN)).outcome["preempted"] is True


def test_an_end_without_a_word_is_never_a_success() -> None:
    for state in ("COMPLETED", "FAILED"):
        verdict = judge(seen(state, code=(3, 0)))
        assert verdict.phase == ENDED and verdict.outcome["error"]["class"] == "launch" and "status 3" in verdict.outcome["error"]["reason"]
    verdict = judge(seen(None, silent=slurm_watch.FORGOTTEN))
    assert verdict.phase == ENDED and verdict.outcome["error"]["class"] == "infra"


def test_a_cancel_waits_longer_than_a_forgotten_job_is_believed_to_be_somewhere() -> None:
    assert arguments.CANCEL_SECONDS >= slurm_watch.FORGOTTEN + slurm_watch.LONGEST


@pytest.mark.parametrize("failure_class", ["", *FAILURE_CLASSES])
def test_only_what_the_cluster_did_is_tried_again(failure_class: str) -> None:
    record = {"status": "FAILURE" if failure_class else "SUCCESS", "failure_class": failure_class}
    assert slurm_watch.retries(record) == (failure_class in ("infra", "preempted", "launch", "lost_contact"))
