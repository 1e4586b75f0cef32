# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign on a test cluster without a play: the host's steps as `slurm_run` calls them, with the controller's part in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_steps
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_folder import CampaignFolder, folder_of
from ansible_collections.mad.engine.plugins.module_utils.slurm.slurm_options import Options
from ansible_collections.mad.engine.plugins.plugin_utils import slurm_submitting, stage

from .slurm import Cluster
from .slurm_runs import CAMPAIGN, SHARED, make_run

GOOD = "echo performance: 10 samples_per_second\n"
_MORE = {
    "repeat": 1,
    "retries": 0,
    "args": "",
    "scan": {"enabled": True, "patterns": ["Traceback (most recent call last)"], "benign": []},
    "keep": {"alive": False, "model_dir": False},
    "skip_model_run": False,
    "outcome": None,
}


class SlurmCampaign:
    """Add runs, then `stage`, `start`, `finish`."""

    def __init__(self, cluster: Cluster, folder: Path, options: Options = SHARED) -> None:
        self.cluster, self.options = cluster, options
        self.repo, self.shared, self.scratch = folder / "repo", folder / "shared", folder / "scratch"
        for path in (self.repo, self.scratch):
            path.mkdir(parents=True)
        self.runs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.credentials: dict[str, dict[str, str]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.warnings: list[str] = []
        self.offsets: dict[str, Any] = {}
        self.live = ""

    def add(self, number: int, script: str = GOOD, **more: Any) -> str:
        """Plan a run whose model is this shell text; returns its id."""
        run = make_run(number, **{"gpus": 0, "launcher": "", "vendor": "NONE", "timeout": 600, **_MORE, **more})
        folder = self.repo / run["command"]["directory"]
        folder.mkdir(parents=True)
        (folder / "run.sh").write_text(script, "utf-8")
        self.runs[run["id"]] = run
        return str(run["id"])

    # -- the steps -----------------------------------------------------------------------------------------------------------------

    def job(self, **more: Any) -> dict[str, Any]:
        """What every state is told."""
        runs = {run_id: 1 for run_id in self.runs if run_id not in self.results}
        known = {"campaign": CAMPAIGN, "host": "login", "work_dir": str(self.shared), "runs": runs, "check": False, "live": None}
        return {**known, "section": {"max_jobs": self.options.max_jobs, "node_check": self.options.node_check}, **more}

    @property
    def folder(self) -> CampaignFolder:
        """The campaign's folder on the cluster."""
        return folder_of(self.job())

    def stage(self) -> dict[str, Any]:
        """Bring everything."""
        document = {"schema": 1, "runs": list(self.runs.values()), "facts": {}, "secrets": self.secrets, "credentials": self.credentials}
        paths = {path for run in self.runs.values() for path in run["stage"]}
        archive = self.scratch / ("stage-%d.tar.gz" % time.monotonic_ns())
        stage.write(stage.prepare(str(self.repo), paths, document), str(archive))
        return self._keep(slurm_steps.staged(self.job(archive=str(archive), acknowledged=[])))

    def start(self) -> dict[str, Any]:
        """Both calls."""
        return self._submit(slurm_steps.started, slurm_steps.started(self.job()))

    def poll(self, **more: Any) -> dict[str, Any]:
        """One poll, with the scripts of retries."""
        job = self.job(live=self.offsets if more.pop("live", False) else None, **more)
        return self._submit(slurm_steps.polled, slurm_steps.polled(job))

    def _submit(self, step: Callable[[dict[str, Any]], dict[str, Any]], answer: dict[str, Any]) -> dict[str, Any]:
        self._keep(answer)
        if answer["waiting"]:
            made = slurm_submitting.make(answer, self.runs, self.options, CAMPAIGN)
            answer = self._keep(step(self.job(submissions=json.loads(json.dumps(made)))))
        return answer

    def _keep(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.results.update({document["run_id"]: document for document in answer["results"]})
        self.warnings += answer.get("warnings", [])
        for entry in answer.get("live", []):
            self.offsets[entry["run"]] = {"attempt": entry["attempt"], "offset": entry["offset"]}
            self.live += entry["text"]
        return answer

    def finish(self, seconds: float = 300) -> dict[str, dict[str, Any]]:
        """Poll until every run has its record; {run id: record}."""
        self.wait(lambda: len(self.results) == len(self.runs), seconds)
        return self.results

    def wait(self, ready: Callable[[], bool], seconds: float = 300) -> None:
        """Poll until a condition holds."""
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, "not reached: %s" % {key: value["status"] for key, value in self.results.items()}
            self.poll(live=True)
            time.sleep(0.3)

    # -- looking -------------------------------------------------------------------------------------------------------------------

    def classes(self) -> dict[str, tuple[str, str]]:
        """{model: (status, class)}."""
        return {document["model"]: (document["status"], document["failure_class"]) for document in self.results.values()}

    def begun(self, number: int, attempt: int = 1) -> bool:
        """Whether the model of a run has printed something."""
        path = Path(self.folder.attempt("%016x" % number, attempt).file("io", "model.log"))
        return path.exists() and path.stat().st_size > 0
