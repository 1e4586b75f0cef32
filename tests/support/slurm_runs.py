# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs, submissions and work folders for tests of the Slurm target, without a play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.host import driver
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import Attempt, HostFolder
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_attempt, slurm_jobs
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_client import Slurm
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_jobs import Submission
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_submit import Submissions
from ansible_collections.mad.engine.plugins.plugin_utils import slurm_scripts

from .slurm import Cluster

SHARED = Options(exclusive=False)
TREE = "0123456789abcdef"
CAMPAIGN = "20261124T101500Z"


def make_run(
    number: int, launcher: str = "torchrun", nodes: int = 1, processes: int = 2, gpus: int = 2, vendor: str = "AMD", **more: Any
) -> dict[str, Any]:
    """A resolved run whose model is a shell text, staged as scripts/<number>/run.sh."""
    directory = "scripts/m%d" % number
    known: dict[str, Any] = {
        "id": "%016x" % number,
        "campaign": CAMPAIGN,
        "order": number,
        "attempt": 1,
        "model": "m%d" % number,
        "card": {},
        "place": {"target": "slurm", "host": "login"},
        "runtime": "host",
        "image": None,
        "launcher": {"name": launcher, "nnodes": nodes, "nproc_per_node": processes, "port": 29500},
        "command": {"argv": ["bash", "run.sh"], "scripts": directory, "directory": directory},
        "stage": [directory],
        "tree": TREE,
        "url": "",
        "cred": "",
        "env": {},
        "secret_env": [],
        "mounts": [],
        "gpus": {"vendor": vendor, "count": gpus, "pool": list(range(gpus)), "devices": {}},
        "options": [],
        "pre_scripts": [],
        "post_scripts": [],
        "timeout": 60,
        "multiple_results": "",
    }
    return {**known, **more}


class Bench:
    """A campaign's folder on the shared file system of a test cluster, and what happens in it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = HostFolder(str(folder / "campaigns" / "c.x"))
        folder.mkdir(parents=True, exist_ok=True)
        self.folder.make(CAMPAIGN, "login")
        self.submissions = Submissions(self.folder, Slurm(cluster.environment()))
        self.runs: dict[str, dict[str, Any]] = {}
        self.archives: dict[str, str] = {}

    def cluster_path(self, tools: Path, **more: str) -> None:
        """Put programs first on the PATH of the jobs, and these variables into their environment."""
        environment = self.cluster.environment()
        changed = {**environment, "PATH": "%s:%s" % (tools, environment["PATH"]), **more}
        self.submissions = Submissions(self.folder, Slurm(changed))

    def add(self, number: int, script: str, **more: Any) -> dict[str, Any]:
        """Stage a run whose model is this shell text."""
        run = make_run(number, **{"timeout": 600, **more})
        source = Path(self.folder.file("tree", TREE, run["command"]["directory"]))
        source.mkdir(parents=True)
        (source / "run.sh").write_text(script, "utf-8")
        self.runs[run["id"]] = run
        return run

    def submit(self, options: Options = SHARED) -> list[Submission]:
        """Write and submit everything that was added."""
        made = self.group(options)
        for submission in made:
            self.submissions.write(submission, self.script(submission, options), self.runs, self.archives)
        self.submissions.submit(made)
        return made

    def group(self, options: Options = SHARED) -> list[Submission]:
        """Everything that was added, as submissions."""
        return slurm_jobs.group(list(self.runs.values()), options, CAMPAIGN, slurm_jobs.place_of(self.folder.host()))

    def script(self, submission: Submission, options: Options = SHARED) -> str:
        """The script of a submission."""
        return slurm_scripts.render(submission, self.runs, options, self.folder.path, CAMPAIGN)

    def attempt(self, number: int) -> Attempt:
        """The attempt of a run."""
        return self.folder.attempt("%016x" % number, 1)

    def marker(self, number: int, *names: str) -> dict[str, str]:
        """What a marker of a run says; {} without it."""
        path = Path(self.attempt(number).file(*(names or ("end",))))
        pairs = (line.partition("=") for line in path.read_text("utf-8").splitlines()) if path.exists() else ()
        return {key: value for key, dummy, value in pairs}

    def wait(self, *numbers: int, seconds: float = 300) -> None:
        """Wait for the last words of runs: those of several nodes may be completing for a minute longer."""
        self.cluster.wait_for(lambda: all(self.marker(number) for number in numbers), "end of runs %s" % (numbers,), seconds)

    def log(self, number: int, rank: int = 0) -> str:
        """The model's own output on a node; "" before it began."""
        path = Path(slurm_attempt.node_file(self.attempt(number), rank, "io", "model.log"))
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def progress(self, number: int) -> driver.Progress:
        """What the driver noted."""
        return driver.read_phases(self.attempt(number).file("io", "phases"))
