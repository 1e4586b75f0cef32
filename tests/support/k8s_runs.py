# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs and options for tests of the Kubernetes target, and a pod's script executed by bash on this machine."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.mad.engine.plugins.module_utils.contexts import context, presets
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_frames, k8s_options
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_options import Options
from ansible_collections.mad.engine.plugins.plugin_utils import k8s_files, k8s_objects

from .slurm_runs import make_run as slurm_run

_PATHS = re.compile(rb"/\.mad-files|/\.mad-secrets|/\.mad\b|/myworkspace|/dev/termination-log")
IMAGE = {"name": "registry.example/bench:1", "given": True, "digest": ""}


def make_run(number: int = 1, launcher: str = "", nodes: int = 1, **more: Any) -> Dict[str, Any]:
    """A resolved run for pods; without GPUs unless asked for."""
    known: Dict[str, Any] = {"image": IMAGE, "place": {"target": "k8s", "host": "cluster"}, "runtime": "k8s"}
    return slurm_run(number, launcher, nodes, **{"gpus": 0, "vendor": "NONE", **known, **more})


def make_options(*layers: Mapping[str, Any]) -> Options:
    """Options of a context, presets below it."""
    normal = context.normalise([{"deploy": "k8s", "gpu_vendor": "NONE"}, *layers])["context"]
    return k8s_options.parse(presets.apply_presets(normal))


def contents(rendered: Mapping[str, Any]) -> Dict[str, bytes]:
    """What the ConfigMaps of a rendered run lay before its pod."""
    found: Dict[str, bytes] = {}
    for item in rendered["owned"]:
        if item["kind"] == "ConfigMap":
            found.update({name: text.encode("utf-8") for name, text in item["data"].items()})
            found.update({name: base64.b64decode(data) for name, data in item["binaryData"].items()})
    return found


class LocalPod:
    """A pod's script, run by bash in a folder instead of a container: its paths are moved there, nothing else is changed."""

    def __init__(self, folder: Path, run: Dict[str, Any], model: str, options: Optional[Options] = None, **settings: Any) -> None:
        self.folder, self.run = folder, run
        directory = folder / "repo" / run["command"]["directory"]
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "run.sh").write_text(model, "utf-8")
        archive = k8s_files.pack(str(folder / "repo"), run["stage"])
        self.rendered = k8s_objects.render(run, options or make_options(), {"files": archive, **settings})
        self.process: Optional[subprocess.Popen[bytes]] = None

    def _moved(self, data: bytes) -> bytes:
        return _PATHS.sub(lambda match: str(self.folder / match.group(0).decode().strip("/").replace("/", "-")).encode(), data)

    def start(self, rank: int = 0, env: Optional[Mapping[str, str]] = None) -> None:
        """Lay out the files and start bash; the log goes to `pod.log`."""
        for name in (".mad-files", ".mad-secrets", ".mad", "myworkspace"):
            (self.folder / name).mkdir(exist_ok=True)
        for name, data in contents(self.rendered).items():
            (self.folder / ".mad-files" / name).write_bytes(data if name.startswith("tree.") else self._moved(data))
        for item in self.rendered["owned"]:
            if item["kind"] == "Secret" and item["type"] == "Opaque":
                for name, text in item["data"].items():
                    (self.folder / ".mad-secrets" / name).write_bytes(base64.b64decode(text))
        known = {"PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": "%d" % rank, "MAD_POD_NAME": "pod", "MAD_POD_NAMESPACE": "ns"}
        known["MAD_POD_IP"] = "10.0.0.9"
        with open(self.folder / "pod.log", "wb") as log:
            argv = ["bash", str(self.folder / ".mad-files" / "pod.sh")]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env={**known, **(env or {})}, start_new_session=True)

    def wait(self, seconds: float = 300) -> int:
        """Wait for the end; the exit status."""
        assert self.process
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def execute(self, rank: int = 0, **env: str) -> int:
        """Start and wait."""
        self.start(rank, env)
        return self.wait()

    def terminate(self) -> None:
        """What a kubelet does first: TERM to process 1."""
        assert self.process
        self.process.terminate()

    @property
    def log(self) -> bytes:
        """Everything that was printed."""
        return (self.folder / "pod.log").read_bytes()

    def home(self, nonce: str = "") -> k8s_frames.Brought:
        """The log taken apart, below `home`."""
        return k8s_frames.split(str(self.folder / "pod.log"), str(self.folder / "home"), nonce)

    def brought(self, name: str) -> bytes:
        """A file that came home."""
        return (self.folder / "home" / name).read_bytes()

    def termination(self) -> Dict[str, str]:
        """What the pod's status would show."""
        return k8s_frames.termination((self.folder / "dev-termination-log").read_text("utf-8"))


def kinds(items: List[Mapping[str, Any]]) -> List[str]:
    """The kinds of objects, in order."""
    return [str(item["kind"]) for item in items]
