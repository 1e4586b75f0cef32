# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Slurm's commands print, as data: squeue, sacct, scontrol and sbatch, in formats that we ask for ourselves."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import slurm_states

# The separator cannot stand in a name of ours, a state, a node list or a number; the free text of a reason comes last.
SQUEUE_FORMAT = "%F|%K|%A|%j|%T|%N|%S|%r"
SACCT_FIELDS = "JobID,JobIDRaw,JobName,State,NodeList,ExitCode,Start,End"
_SUBMITTED = re.compile(r"(?:Submitted batch job )?([0-9]+)(?:;.*)?\Z")
_ARRAY_TASK = re.compile(r"([0-9]+)_([0-9]+)\Z")
_ARRAY_REST = re.compile(r"([0-9]+)_\[")
_NOTHING = ("", "(null)", "N/A", "None assigned", "None", "Unknown")


class Job(NamedTuple):
    """One job or array task, as one of the commands knows it."""

    job: int  # of the array, or of the job itself
    task: int  # index in the array, -1 for none
    raw: int  # the number that the task itself sees as SLURM_JOB_ID; 0 while it has none
    name: str
    state: slurm_states.State
    nodes: str
    code: Optional[Tuple[int, int]]  # (exit status, signal), None where the command does not say
    reason: str

    def shown(self) -> str:
        """The id as people write it."""
        return "%d_%d" % (self.job, self.task) if self.task >= 0 else str(self.job)


def _value(text: str) -> str:
    text = text.strip()
    return "" if text in _NOTHING else text


def _number(text: str, default: int = 0) -> int:
    return int(text) if text.strip().isdigit() else default


def squeue(text: str) -> List[Job]:
    """Jobs out of `squeue -h -r -t all -o SQUEUE_FORMAT`; lines that are none (warnings) are passed over."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 7)
        if len(fields) == 8 and fields[0].strip().isdigit():
            array, index, raw, name, state, nodes, dummy_start, reason = fields
            found.append(
                Job(int(array), _number(index, -1), _number(raw), name, slurm_states.state(state), _value(nodes), None, _value(reason))
            )
    return found


def sacct(text: str) -> List[Job]:
    """Jobs out of `sacct -n -P -X -D -o SACCT_FIELDS`. Of a job that was requeued the newest line counts."""
    found: Dict[Tuple[int, int], Job] = {}
    for line in text.splitlines():
        fields = line.split("|")
        number = _sacct_number(fields[0]) if len(fields) >= 8 else None
        if number is not None:
            code = slurm_states.exit_code(fields[5])
            job = Job(number[0], number[1], _number(fields[1]), fields[2], slurm_states.state(fields[3]), _value(fields[4]), code, "")
            found[number] = job
    return list(found.values())


def _sacct_number(text: str) -> Optional[Tuple[int, int]]:
    """(job, index) of `12`, `12_3`; None for steps and for `12_[4-9]`, tasks that have not begun."""
    match = _ARRAY_TASK.match(text)
    if match:
        return int(match.group(1)), int(match.group(2))
    return (int(text), -1) if text.isdigit() else None


def scontrol(text: str) -> List[Job]:
    """Jobs out of `scontrol show job -o`: one line each, `Key=Value` words; a name cannot be split, as ours hold no blanks."""
    found = []
    for line in text.splitlines():
        words = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
        if words.get("JobId", "").isdigit():
            array = _number(words.get("ArrayJobId", ""), int(words["JobId"]))
            found.append(
                Job(
                    array,
                    _number(words.get("ArrayTaskId", ""), -1),
                    int(words["JobId"]),
                    words.get("JobName", ""),
                    slurm_states.state(words.get("JobState", "")),
                    _value(words.get("NodeList", "")),
                    slurm_states.exit_code(words.get("ExitCode", "")),
                    _value(words.get("Reason", "")),
                )
            )
    return found


def config(text: str) -> Dict[str, str]:
    """Settings out of `scontrol show config`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, dummy, value in pairs}


def max_array_size(settings: Mapping[str, str], default: int) -> int:
    """How many tasks an array may have."""
    return _number(settings.get("MaxArraySize", "").split()[0] if settings.get("MaxArraySize") else "", default)


def requeues(settings: Mapping[str, str], code: int) -> bool:
    """Whether the site requeues jobs that end with this status (RequeueExit)."""
    for part in re.split(r"[,\s]+", settings.get("RequeueExit", "")):
        first, dash, last = part.partition("-")
        if first.isdigit() and (last if dash else first).isdigit() and int(first) <= code <= int(last if dash else first):
            return True
    return False


def submitted(text: str) -> int:
    """The id that sbatch printed (with or without --parsable), 0 for none. Plugins of a site may print lines before it."""
    for line in reversed(text.strip().splitlines()):
        match = _SUBMITTED.match(line.strip())
        if match:
            return int(match.group(1))
    return 0


def by_name(jobs: Sequence[Job]) -> Dict[str, List[Job]]:
    """{name: its jobs}."""
    found: Dict[str, List[Job]] = {}
    for job in jobs:
        found.setdefault(job.name, []).append(job)
    return found


def as_document(job: Job) -> Dict[str, Any]:
    """A job as plain JSON, for records and answers."""
    return {"id": job.shown(), "nodes": job.nodes, "phase": job.state.phase, "reason": job.reason or job.state.reason}
