# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Slurm's job states mean for a run: it goes on, it ended by itself, or it failed for a reason that is not the model's.

The table holds every state of Slurm's documentation (job_state and its flags, up to 24.11). A state that is not in it is not an end: the
run is waited for, with a warning.
"""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional, Tuple

QUEUED, RUNNING, ENDED = "queued", "running", "ended"


class State(NamedTuple):
    """One state: where the run stands, and for an end the failure class and reason ("" where the model's own exit code decides)."""

    phase: str
    failure_class: str = ""
    reason: str = ""
    known: bool = True
    good: bool = False  # it ended, and Slurm says well


_TABLE: Dict[str, State] = {
    "PENDING": State(QUEUED),
    "CONFIGURING": State(QUEUED),
    "POWER_UP_NODE": State(QUEUED),
    "REQUEUED": State(QUEUED),
    "REQUEUE_FED": State(QUEUED),
    "REQUEUE_HOLD": State(QUEUED),
    "RESV_DEL_HOLD": State(QUEUED),
    "REVOKED": State(RUNNING, "", "another cluster of the federation has taken the job over; its own word is waited for"),
    "RUNNING": State(RUNNING),
    "COMPLETING": State(RUNNING),
    "STAGE_OUT": State(RUNNING),
    "SIGNALING": State(RUNNING),
    "SUSPENDED": State(RUNNING),
    "STOPPED": State(RUNNING),
    "RESIZING": State(RUNNING),
    "UPDATE_DB": State(RUNNING),
    "EXPEDITING": State(QUEUED),
    "COMPLETED": State(ENDED, good=True),
    "FAILED": State(ENDED, reason="its script ended with an exit status that is not 0"),
    "TIMEOUT": State(ENDED, "timeout", "Slurm ended the job at its time limit"),
    "OUT_OF_MEMORY": State(ENDED, "oom", "Slurm killed the job for memory"),
    "CANCELLED": State(ENDED, "cancelled", "the Slurm job was cancelled"),
    "PREEMPTED": State(ENDED, "preempted", "Slurm gave the nodes to a job of higher priority"),
    "NODE_FAIL": State(ENDED, "infra", "a node of the job failed"),
    "BOOT_FAIL": State(ENDED, "infra", "a node of the job did not boot"),
    "DEADLINE": State(ENDED, "timeout", "the job could not end before its deadline"),
    "LAUNCH_FAILED": State(ENDED, "launch", "Slurm could not start the job on its nodes"),
    "RECONFIG_FAIL": State(ENDED, "infra", "a node of the job could not be reconfigured"),
    "SPECIAL_EXIT": State(ENDED, reason="its script ended with an exit status for which the site holds jobs"),
}
_SHORT: Dict[str, str] = {
    pair.partition("=")[0]: pair.partition("=")[2]
    for pair in (
        "BF=BOOT_FAIL CA=CANCELLED CD=COMPLETED CF=CONFIGURING CG=COMPLETING DL=DEADLINE F=FAILED LF=LAUNCH_FAILED NF=NODE_FAIL "
        "OOM=OUT_OF_MEMORY PD=PENDING PR=PREEMPTED R=RUNNING RD=RESV_DEL_HOLD RF=REQUEUE_FED RH=REQUEUE_HOLD RQ=REQUEUED RS=RESIZING "
        "RV=REVOKED SI=SIGNALING SE=SPECIAL_EXIT SO=STAGE_OUT ST=STOPPED S=SUSPENDED TO=TIMEOUT"
    ).split()
}
# Reasons of a pending job that no waiting will change; sbatch accepted it all the same.
_NEVER = (
    *("DependencyNeverSatisfied", "BadConstraints", "InvalidQOS", "InvalidAccount", "JobHeldUser"),
    *("PartitionNodeLimit", "PartitionTimeLimit"),
)
NAMES = tuple(_TABLE)


def state(text: str) -> State:
    """What a state says, as squeue, sacct or scontrol write it: `CANCELLED by 1000`, `CANCELLED+`, short forms. Unknown is not an end."""
    word = re.split(r"[\s+]", text.strip().upper(), maxsplit=1)[0]
    word = _SHORT.get(word, word)
    if word not in _TABLE:
        return State(RUNNING, "", "Slurm says %r, which this release does not know" % text.strip()[:80], False)
    found = _TABLE[word]
    who = re.match(r"CANCELLED by ([0-9]+)", text.strip(), re.IGNORECASE)
    return found._replace(reason="%s by uid %s" % (found.reason, who.group(1))) if who else found


def stuck(reason: str) -> str:
    """Why a pending job will never start by itself, or "" for a reason that only means waiting."""
    word = reason.strip().strip("()").split("(")[0].strip()
    return word if word in _NEVER else ""


def exit_code(text: str) -> Optional[Tuple[int, int]]:
    """(status, signal) of sacct's and scontrol's `1:0`; None where there is none."""
    match = re.match(r"([0-9]+):([0-9]+)", text.strip())
    return (int(match.group(1)), int(match.group(2))) if match else None
