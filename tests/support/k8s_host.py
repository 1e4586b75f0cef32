# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory host in front of the cluster stand-in: a campaign on it, and the steps of `k8s_job` called directly."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

import pytest

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_options, k8s_steps
from ansible_collections.mad.engine.plugins.plugin_utils import k8s_files, k8s_objects, stage

from . import components
from .bench_host import BenchHost
from .k8s_cluster import Cluster

IMAGE = {"name": "registry.example/bench:1", "digest": "", "dockerfile": "", "base_docker": "", "given": True, "registry_image": ""}
PROGRAM = "k8s.k8s_runner"


class ClusterHost(BenchHost):
    """One campaign on one cluster."""

    def __init__(self, base: Path, cluster: Cluster, host: str = "cluster", kubeconfig: str = "", campaign: str = "", **options: Any) -> None:
        super().__init__(base, host=host, campaign=campaign)
        self.cluster = cluster
        section = {"kubeconfig": kubeconfig or str(cluster.kubeconfig), "pending_timeout": 60, "grace_seconds": 30}
        self.options = k8s_options.parse({"deploy": "k8s", "gpu_vendor": "NONE", "k8s": {**section, **options}})

    def run(self, script: str, runtime: str = "docker", **changes: Any) -> str:
        """Plan a run of a script."""
        nodes = int(changes.pop("nodes", 1))
        launcher = {"name": changes.pop("launcher", "python"), "nnodes": nodes, "nproc_per_node": 1, "port": 29500}
        place = {"target": "k8s", "host": self.host, "namespace": "default"}
        found = super().run(script, runtime="host", **{"image": IMAGE, "launcher": launcher, "place": place, **changes})
        self.planned[found]["runtime"] = runtime
        return found

    @property
    def k8s_settings(self) -> Dict[str, Any]:
        """As the action plugin sends them."""
        names = (
            "namespace",
            "kubeconfig",
            "context",
            "in_cluster",
            "pending_timeout",
            "max_jobs",
            "ttl_seconds",
            "queue_name",
            "cleanup_on_failure",
        )
        return {name: getattr(self.options, name) for name in names}

    def objects(self, run: Mapping[str, Any], secrets: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
        """Rendered objects of all attempts."""
        archive = k8s_files.pack(str(self.repo), [path for path in run["stage"] if path != "scripts/common"])
        found = {}
        for number in range(run["attempt"], run["attempt"] + run["retries"] + 1):
            settings = {"files": archive, "secrets": dict(secrets or {})}
            made = k8s_objects.render(dict(run, attempt=number), self.options, settings, with_text=False)
            found[str(number)] = {name: made[name] for name in ("job", "owned", "standing")}
        return found

    def stage(self, secrets: Optional[Mapping[str, str]] = None, **more: Any) -> Dict[str, Any]:
        """Stage everything that is planned."""
        document = {
            "schema": 1,
            "runs": list(self.planned.values()),
            "facts": {},
            "secrets": {run_id: dict(secrets or {}) for run_id in self.planned},
            "credentials": {},
            "objects": {run_id: self.objects(run, secrets) for run_id, run in self.planned.items()},
        }
        made = stage.prepare(str(self.repo), (), document, PROGRAM)
        self.core = made.document["core"]
        archive = self.base / ("stage-%s.tar.gz" % os.urandom(4).hex())
        stage.write(made, str(archive))
        try:
            return k8s_steps.staged(self.job(archive=str(archive), settings=self.k8s_settings, kinds=["Secret"], **more))
        finally:
            archive.unlink()

    def start(self, **settings: Any) -> Dict[str, Any]:
        """Start what is staged."""
        return k8s_steps.started(self.job(settings=dict(self.k8s_settings, **settings)))

    def poll(self, **more: Any) -> Dict[str, Any]:
        """Poll once."""
        return k8s_steps.polled(self.job(**more))

    def cancel(self, **more: Any) -> Dict[str, Any]:
        """Cancel."""
        return k8s_steps.cancelled(self.job(**more))

    def absent(self, **more: Any) -> Dict[str, Any]:
        """Remove."""
        return k8s_steps.absent(self.job(**{"runs": {}, **more}))

    def pod(self, phase: str = "Running", rank: int = -1) -> Dict[str, Any]:
        """A pod of this phase, waited for."""

        def found() -> Optional[Dict[str, Any]]:
            for pod in self.cluster.pods(phase):
                index = (pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index", "0")
                if rank in (-1, int(index)):
                    return pod
            return None

        pod: Dict[str, Any] = self.cluster.wait(found, "a pod in phase %s" % phase)
        return pod

    def says(self, text: str, seconds: float = 300) -> None:
        """Wait until a model has printed this."""
        self.until(lambda: any(text in self.log(run_id) for run_id in self.planned if self.folder.attempts(run_id)), seconds)

    def kill_runner(self) -> None:
        """As a reboot would."""
        pid = self.supervisor()
        if pid:
            with contextlib.suppress(ProcessLookupError):  # it may just have ended by itself
                os.kill(pid, signal.SIGKILL)
            self.until(lambda: not self.folder.supervised())

    def jobs_made(self) -> List[str]:
        """Names of every Job that was ever created, from the requests."""
        return [asked.path for asked in self.cluster.api.requests if asked.method == "POST" and asked.path.endswith("/jobs")]

    def left(self) -> Dict[str, int]:
        """What the campaign has in the cluster."""
        kinds = ("jobs", "pods", "secrets", "configmaps", "services")
        return {kind: len(self.cluster.store.list(kind)) for kind in kinds if self.cluster.store.list(kind)}

    def close(self) -> None:
        """End and remove everything."""
        if self.folder.exists():
            self.folder.say("cancel", "the test is over")
            pid = self.supervisor()
            if pid:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.work, ignore_errors=True)


@pytest.fixture()
def k8s() -> Iterator[Cluster]:
    """Give a cluster of two nodes; tests may break it."""
    components.require("root", "unshare")
    with Cluster() as cluster:
        yield cluster
        assert not cluster.errors, cluster.errors


@pytest.fixture()
def k8s_host(tmp_path: Path, k8s: Cluster) -> Iterator[ClusterHost]:
    """Give a campaign on it."""
    host = ClusterHost(tmp_path, k8s)
    yield host
    host.close()
