# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slurm's commands on this machine: submit, ask, cancel. One command for all jobs; a scheduler that does not answer is not a lost job."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..base.errors import LaunchError, MadError
from ..base.secret_names import is_secret_name
from . import slurm_output, slurm_states, slurm_watch
from .slurm_output import Job

ANSWER_SECONDS = 60.0
# What a command says when slurmctld or slurmdbd cannot be reached now; anything else is an answer.
_SILENT = (
    "connection reset by peer",
    "unable to contact slurm controller",
    "connection refused",
    "connection timed out",
    "socket timed out",
    "transport endpoint is not connected",  # it died between our connecting and our asking
    "broken pipe",
    "no route to host",
    "network is unreachable",
    "zero bytes were transmitted",
    "communication connection failure",
    "slurm backup controller in standby mode",
    "unable to open slurmdbd connection",
    "slurm temporarily unable to accept job",
    "resource temporarily unavailable",
    "munge encode failed",  # munged of this machine is being restarted
    "protocol authentication error",
    "could not establish a configuration source",  # of a cluster that hands out its slurm.conf
)
_LONGEST_WORD = 100_000  # the kernel takes no argument of more than 128 KiB
_NOT_PASSED = ("ANSIBLE_", "SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SSH_", "SUDO_")
_KEPT = ("SLURM_CONF",)


class Silent(MadError):
    """The scheduler does not answer now; ask again."""


class Answer(NamedTuple):
    """What a command said."""

    code: int
    output: str
    errors: str

    def words(self) -> str:
        """Its last words, for an error."""
        return " ".join((self.errors.strip() or self.output.strip()).splitlines()[-3:])[:1000] or "exit status %d" % self.code


def job_environment(environ: Mapping[str, str]) -> Dict[str, str]:
    """What a job inherits of this login: neither Ansible's and Slurm's own variables, nor the connection's, nor anything secret."""
    return {name: value for name, value in environ.items() if name in _KEPT or not (name.startswith(_NOT_PASSED) or is_secret_name(name))}


def _named(names: Sequence[str]) -> List[str]:
    """The option for jobs of these names; none where they are too many for one, and all jobs of the user are answered."""
    word = "--name=" + ",".join(names)
    return [word] if len(word) < _LONGEST_WORD else []


class Slurm:
    """The commands, as the user of this process."""

    def __init__(self, environ: Optional[Mapping[str, str]] = None) -> None:
        self.environ = dict(job_environment(os.environ if environ is None else environ), LC_ALL="C")
        self.calls = 0  # commands so far
        self.accounting = True  # until a command says that the site keeps none

    def call(self, *argv: str, stdin: str = "", seconds: float = ANSWER_SECONDS, inherited: Sequence[int] = ()) -> Answer:
        """Run one command. Silent when the scheduler does not answer, MadError when there is no such command.

        `inherited` are descriptors that the command keeps open as long as it lives, also when this process is killed.
        """
        self.calls += 1
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function  # the core has no AnsibleModule
                argv,
                input=stdin.encode("utf-8", "surrogateescape"),
                env=self.environ,
                capture_output=True,
                timeout=seconds,
                pass_fds=tuple(inherited),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Silent("%s did not answer in %d s" % (argv[0], seconds)) from error
        except OSError as error:
            raise MadError("%s cannot be started: %s; is this a login node of the cluster?" % (argv[0], error.strerror)) from error
        answer = Answer(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
        if answer.code and any(text in answer.errors.lower() for text in _SILENT):
            raise Silent("%s: %s" % (argv[0], answer.words()))
        return answer

    # -- asking --------------------------------------------------------------------------------------------------------------------

    def jobs(self, names: Sequence[str]) -> List[Job]:
        """What the controller knows of jobs with these names: those that wait, run, or ended some minutes ago."""
        answer = self.call("squeue", "-h", "-r", "-t", "all", "-o", slurm_output.SQUEUE_FORMAT, *_named(names), "--me")
        if answer.code:
            raise MadError("squeue: %s" % answer.words())
        return slurm_output.squeue(answer.output)

    def is_busy(self) -> bool:
        """Whether the user has any job that waits or runs."""
        answer = self.call("squeue", "-h", "-o", "%A", "--me")
        return answer.code == 0 and bool(answer.output.strip())

    def past_jobs(self, names: Sequence[str], since: str = "now-30days") -> List[Job]:
        """What accounting knows of jobs with these names; [] where the site keeps none."""
        if not self.accounting:
            return []
        words = ["-n", "-P", "-X", "-D", "-u", str(os.geteuid()), "-S", since, *_named(names), "-o", slurm_output.SACCT_FIELDS]
        try:
            answer = self.call("sacct", *words)
        except Silent:
            raise
        except MadError:  # there is no such command here
            answer = Answer(127, "", "")
        self.accounting = answer.code == 0
        return slurm_output.sacct(answer.output) if self.accounting else []

    def known(self, names: Sequence[str]) -> List[Job]:
        """Jobs with these names, the controller's word before accounting's."""
        found = self.jobs(names)
        if {job.name for job in found} >= set(names):
            return found
        seen = {(job.job, job.task) for job in found}
        return found + [job for job in self.past_jobs(names) if (job.job, job.task) not in seen]

    def config(self) -> Dict[str, str]:
        """scontrol show config."""
        answer = self.call("scontrol", "show", "config")
        if answer.code:
            raise MadError("scontrol: %s" % answer.words())
        return slurm_output.config(answer.output)

    # -- orders --------------------------------------------------------------------------------------------------------------------

    def submit(self, name: str, script: str, options: Sequence[str] = (), inherited: Sequence[int] = ()) -> int:
        """sbatch; the id. When its answer got lost, the job is looked for by its name before anything else is believed."""
        try:
            answer = self.call("sbatch", "--parsable", *options, stdin=script, seconds=2 * ANSWER_SECONDS, inherited=inherited)
        except Silent:
            time.sleep(slurm_watch.SHORTEST)
            found = slurm_watch.newest(self.jobs([name]))
            if found is None:
                raise
            return found
        number = slurm_output.submitted(answer.output) if answer.code == 0 else 0
        if not number:
            raise LaunchError("sbatch refused %s: %s" % (name, answer.words()))
        return number

    def cancel(self, names: Sequence[str], *words: str) -> None:
        """Cancel our own jobs with exactly these names, none is fine; `words` narrow it. One that is refused does not keep the others running."""
        refused: List[MadError] = []
        for name in names:
            try:
                self._scancel("--me", "--name=" + name, *words)
            except Silent:
                raise  # so would the next one be
            except MadError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def cancel_job(self, number: int) -> None:
        """Cancel one job or array by its number."""
        self._scancel(str(number))

    def _scancel(self, *words: str) -> None:
        answer = self.call("scancel", *words)
        if answer.code:
            raise MadError("scancel: %s" % answer.words())


def wait(
    slurm: Slurm, names: Sequence[str], seconds: float, sleep: Callable[[float], None] = time.sleep, patience: float = 600.0
) -> List[Job]:
    """Poll until every job of these names has ended, or for so many seconds (0: no limit); what is known then.

    A scheduler that does not answer is asked again, for `patience` seconds.
    """
    deadline = time.monotonic() + seconds if seconds else float("inf")
    polls, heard, asked = 0, time.monotonic(), False
    found: List[Job] = []
    while True:
        try:
            found, heard, asked = slurm.known(names) or found, time.monotonic(), True
        except Silent:
            if time.monotonic() - heard > patience:
                raise
        ended = asked and all(job.state.phase == slurm_states.ENDED for job in found)
        if ended or time.monotonic() >= deadline:
            return found
        sleep(min(slurm_watch.pause(polls), max(0.0, deadline - time.monotonic())))
        polls += 1
