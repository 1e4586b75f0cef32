# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign costs on a cluster: 50 short runs (MAD_SLURM_RUNS=1000 for the large one) on eight nodes of a real Slurm.

Counted by programs before Slurm's own on the PATH: questions and submissions. The controller's CPU is that of the whole play without the
modules that run on the login node, and per run it is the difference to a play of one run. How much of it Ansible's main process spends is
said beside it: it looks again and again whether a task has ended, so that grows with the seconds that the cluster needs. How often says
the ansible.cfg of inventories/slurm.example, which is what plays are run with here. The way from sbatch to the
model's first word is compared with a bare `sbatch --wait` of the same script.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(os.environ.get("MAD_DEV_HOME") or Path(__file__).resolve().parents[2]) / ".dev" / "tree"))

from ansible_collections.mad.engine.tests.support.play import Played, play  # noqa: E402 the path comes first
from ansible_collections.mad.engine.tests.support.slurm import Cluster  # noqa: E402

SETTINGS = Path(__file__).resolve().parents[2] / "inventories" / "slurm.example" / "ansible.cfg"
RUNS, ROUNDS = int(os.environ.get("MAD_SLURM_RUNS") or 50), 3
PER_RUN, OVERHEAD, SUBMISSIONS = 0.005, 3.0, 3
MODEL = 'echo "begun $(date +%s.%N)"\necho "performance: 1 things_per_second"\n'
COUNTED = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun")
# A job inherits the PATH, and what its script asks is not the play's; `sbatch --version` submits nothing.
WRAPPER = """\
#!/bin/sh
[ -n "$SLURM_JOB_ID" ] || [ "$1" = --version ] || echo "{name} $(date +%s.%N)" >>{log}
exec {program} "$@"
"""
# Modules run on the login node, which is this machine: their CPU is noted, to be taken off.
INTERPRETER = """\
#!{python}
import resource, subprocess, sys
code = subprocess.run(["{python}", *sys.argv[1:]]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
own = resource.getrusage(resource.RUSAGE_SELF)
with open("{log}", "a") as log:
    log.write("%f\\n" % (used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime))
sys.exit(code)
"""
COUNTER = """
import os, time
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "host_tasks"

    def v2_runner_on_ok(self, result):
        if result.task.resolved_action == "mad.engine.slurm_run":
            with open(os.environ["HOST_TASKS"], "a") as log:
                log.write("%s\\n" % result.task.args.get("state", ""))

    def v2_playbook_on_stats(self, stats):
        with open(os.environ["HOST_TASKS"] + ".main", "w") as log:
            log.write(str(time.process_time()))
"""


class Used(NamedTuple):
    """Seconds of a play."""

    seconds: float
    controller: float  # CPU, of this Ansible's main process:
    main: float
    login_node: float  # CPU of modules


class Site:
    """The folders of one play, and what was counted during it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.calls, self.modules, self.tasks = folder / "calls", folder / "modules", folder / "tasks"
        (folder / "bin").mkdir()
        (folder / "callbacks").mkdir()
        (folder / "callbacks" / "host_tasks.py").write_text(COUNTER)
        for name in COUNTED:
            self._program(name, WRAPPER.format(name=name, log=self.calls, program=shutil.which(name) or name))
        self._program("python", INTERPRETER.format(python=sys.executable, log=self.modules))

    def _program(self, name: str, text: str) -> None:
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def run(self, runs: int) -> Used:
        """A campaign with so many runs."""
        repo = self.folder / "repo"
        (repo / "scripts" / "m").mkdir(parents=True)
        (repo / "scripts" / "m" / "run.sh").write_text(MODEL)
        cards = [
            {"name": "m%04d" % number, "dockerfile": "", "scripts": "scripts/m/run.sh", "n_gpus": "0", "args": "", "tags": ["m"]}
            for number in range(runs)
        ]
        (repo / "models.json").write_text(json.dumps(cards))
        before, begun = _used(), time.monotonic()
        played = self._play(repo)
        seconds, cpu = time.monotonic() - begun, _used() - before
        if played.status:
            raise SystemExit(played.output)
        modules = sum(float(line) for line in self.modules.read_text().splitlines())
        return Used(seconds, cpu - modules, float(Path(str(self.tasks) + ".main").read_text()), modules)

    def _play(self, repo: Path) -> Played:
        context = {"gpu_vendor": "NONE", "slurm": {"exclusive": False, "work_dir": str(self.folder / "shared")}}
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(self.folder / "bin" / "python"), "mad_context": context}
        inventory = self.folder / "cluster.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"cluster": {**host, "mad_runtime": "host"}}}}))
        variables = {"mad_repo": str(repo), "mad_tags": "m", "mad_results": str(self.folder / "results"), "mad_campaign": "bench"}
        environment = {
            **self.cluster.env,
            "ANSIBLE_CONFIG": str(SETTINGS),
            "PATH": "%s:%s" % (self.folder / "bin", os.environ["PATH"]),
            "ANSIBLE_CALLBACK_PLUGINS": str(self.folder / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "mad.engine.progress,host_tasks",
            "HOST_TASKS": str(self.tasks),
        }
        return play("mad.engine.run", self.folder, inventory=inventory, variables=variables, env=environment, timeout=7200)

    def counted(self) -> collections.Counter[str]:
        """How often each of Slurm's commands was called."""
        return collections.Counter(line.split()[0] for line in self.calls.read_text().splitlines())

    def polls(self) -> int:
        """How often the play asked the login node."""
        return sum(line in ("polled", "started") for line in self.tasks.read_text().splitlines())

    def way(self) -> float:
        """Seconds from sbatch to the model's first word."""
        submitted = next(float(line.split()[1]) for line in self.calls.read_text().splitlines() if line.startswith("sbatch "))
        (log,) = (self.folder / "results" / "bench" / "runs").glob("*/run.log")
        return _begun(log.read_text()) - submitted


def _used() -> float:
    """CPU seconds of everything that this process started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _begun(text: str) -> float:
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("begun "))


def bare(cluster: Cluster, folder: Path) -> float:
    """The same way for a bare `sbatch --wait`."""
    (folder / "bare.sh").write_text("#!/bin/bash\n" + MODEL)
    submitted = time.time()
    cluster.call("sbatch", "--wait", "--output=%s" % (folder / "bare.out"), str(folder / "bare.sh"), seconds=300)
    return _begun((folder / "bare.out").read_text()) - submitted


def measured(cluster: Cluster, runs: int) -> tuple[Site, Used]:
    """A play of so many runs, and its site. Its folder stays until the process ends."""
    site = Site(cluster, Path(tempfile.mkdtemp(prefix="mad-bench-", dir="/var/tmp")))
    return site, site.run(runs)


def main() -> int:
    """Measure, print, compare with the targets."""
    folders: list[Path] = []
    try:
        with Cluster() as cluster:
            site, used = measured(cluster, RUNS)
            folders.append(site.folder)
            ways, bares, small = [], [], []
            for _round in range(ROUNDS):
                one, alone = measured(cluster, 1)
                folders.append(one.folder)
                small.append(alone)
                ways.append(one.way())
                bares.append(bare(cluster, one.folder))
            calls, polls = site.counted(), site.polls()
    finally:
        for folder in folders:
            subprocess.run(["rm", "-rf", str(folder)], check=False)
    submitted = calls["sbatch"]
    asked = sum(calls.values()) - submitted
    further = {name: (getattr(used, name) - statistics.median(getattr(one, name) for one in small)) / max(1, RUNS - 1) for name in Used._fields}
    each = further["controller"]
    extra = statistics.median(ways) - statistics.median(bares)
    print("   %d runs in %.1f s; Slurm's commands: %s" % (RUNS, used.seconds, ", ".join("%s %d" % pair for pair in sorted(calls.items()))))
    print("   questions: %d in %d polls (target: at most 1 each)" % (asked, polls))
    print("   submissions of one shape: %d (target %d)" % (submitted, SUBMISSIONS))
    print("   controller: %.2f s of CPU, %.1f ms for each further run (target %.0f)" % (used.controller, each * 1000, PER_RUN * 1000))
    print("      of it Ansible's main process %.1f ms (a further run makes the play %.0f ms longer); login node's modules beside it %.1f ms" % (
        further["main"] * 1000, further["seconds"] * 1000, further["login_node"] * 1000))  # fmt: skip
    print("   from sbatch to the model's first word: %.2f s, bare %.2f s, beyond it %.2f s (target %.0f)" % (
        statistics.median(ways), statistics.median(bares), extra, OVERHEAD))  # fmt: skip
    return 0 if asked <= polls and submitted <= SUBMISSIONS and each <= PER_RUN and extra <= OVERHEAD else 1


if __name__ == "__main__":
    sys.exit(main())
