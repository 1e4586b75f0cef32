# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of its own for tests: a work folder, a machine lock, a model repository, and the steps of `container_run` called directly."""

from __future__ import annotations

import glob
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import jsonschema
import pytest

from ansible_collections.mad.engine.plugins.module_utils.host import host_clean, host_state, host_steps, processes
from ansible_collections.mad.engine.plugins.module_utils.host.host_state import HostFolder
from ansible_collections.mad.engine.plugins.plugin_utils import stage

from . import records

PRINT = 'echo "performance: 12.5 things_per_second"\n'


def image_id(name: str) -> str:
    """The id of a local image."""
    done = subprocess.run(["docker", "image", "inspect", "--format", "{{.Id}}", name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def pgrep(text: str) -> List[int]:
    """Pids of living processes whose command line holds a text."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as stream:
                if text.encode() in stream.read().replace(b"\0", b" "):
                    found.append(int(path.split("/")[2]))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and processes.start_ticks(pid)]


class BenchHost:
    """One inventory host and one campaign on it. `close()` leaves nothing behind."""

    def __init__(self, base: Path, campaign: str = "", image: str = "", lock: str = "", work: str = "", host: str = "n1") -> None:
        self.base, self.image, self.host = base, image, host
        self.campaign = campaign or "t%s" % os.urandom(5).hex()
        self.work = work or str(base / "work")
        self.lock = lock or str(base / "machine.lock")
        self.repo = base / "repo"
        self.settings: Dict[str, Any] = {"lock": self.lock, "grace": 1.0}
        self.planned: Dict[str, Dict[str, Any]] = {}
        self.core = ""
        (self.repo / "scripts").mkdir(parents=True, exist_ok=True)

    # -- what is planned -----------------------------------------------------------------------------------------------------------

    def model(self, name: str, script: str) -> str:
        """Make scripts/<name>/run.sh; returns the directory."""
        folder = self.repo / "scripts" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.sh").write_text(script)
        return "scripts/" + name

    def run(self, script: str, runtime: str = "host", **changes: Any) -> str:
        """Plan a run of a script; returns its id."""
        number = len(self.planned) + 1
        directory = self.model("m%d" % number, script)
        run: Dict[str, Any] = {
            "schema": 1,
            "id": "%016x"
            % (number + (int(self.campaign[-8:], 16) << 16 if self.campaign[-8:].isalnum() and _is_hex(self.campaign[-8:]) else 0)),
            "campaign": self.campaign,
            "order": number,
            "attempt": 1,
            "retries": 0,
            "model": "m%d" % number,
            "card": {"name": "m%d" % number},
            "args": "",
            "repeat": 1,
            "place": {"target": "local", "host": self.host},
            "runtime": runtime,
            "image": None,
            "launcher": {"name": "python", "nnodes": 1, "nproc_per_node": 1},
            "command": {"argv": ["bash", "run.sh"], "scripts": directory, "directory": directory},
            "stage": [directory, "scripts/common"],
            "url": "",
            "cred": "",
            "env": {"MAD_MODEL_NAME": "m%d" % number},
            "secret_env": [],
            "mounts": [],
            "gpus": {"vendor": "NONE", "count": 0, "pool": [], "devices": {}},
            "cpus": "",
            "options": [],
            "privileges": {},
            "pre_scripts": [],
            "post_scripts": [],
            "timeout": 120,
            "multiple_results": "",
            "scan": {},
            "keep": {},
            "skip_model_run": False,
            "outcome": None,
        }
        if runtime != "host":
            run["image"] = {
                "name": self.image,
                "digest": image_id(self.image),
                "dockerfile": "",
                "base_docker": "",
                "given": False,
                "registry_image": "",
            }
        run.update(changes)
        self.planned[run["id"]] = run
        return str(run["id"])

    # -- the steps -----------------------------------------------------------------------------------------------------------------

    def job(self, **more: Any) -> Dict[str, Any]:
        """A job for a step."""
        wanted = {run_id: run["attempt"] for run_id, run in self.planned.items()}
        return dict({"campaign": self.campaign, "host": self.host, "work_dir": self.work, "runs": wanted, "core": self.core}, **more)

    def stage(self, secrets: Optional[Mapping[str, str]] = None, **more: Any) -> Dict[str, Any]:
        """Stage everything that is planned."""
        paths = {path for run in self.planned.values() for path in run["stage"]}
        document = {
            "schema": 1,
            "runs": list(self.planned.values()),
            "facts": records.FACTS,
            "secrets": {run_id: dict(secrets or {}) for run_id in self.planned},
            "credentials": {},
        }
        made = stage.prepare(str(self.repo), paths, document)
        self.core = made.document["core"]
        archive = self.base / ("stage-%s.tar.gz" % os.urandom(4).hex())
        stage.write(made, str(archive))
        try:
            return host_steps.staged(self.job(archive=str(archive), **more))
        finally:
            archive.unlink()

    def start(self, **settings: Any) -> Dict[str, Any]:
        """Start what is staged."""
        return host_steps.started(self.job(settings=dict(self.settings, **settings)))

    def go(self, **settings: Any) -> None:
        """Stage and start."""
        self.stage()
        self.start(**settings)

    def poll(self, **more: Any) -> Dict[str, Any]:
        """Poll once."""
        return host_steps.polled(self.job(**more))

    def cancel(self, **more: Any) -> Dict[str, Any]:
        """Cancel."""
        return host_steps.cancelled(self.job(**more))

    def absent(self, **more: Any) -> Dict[str, Any]:
        """Remove."""
        return host_clean.absent(self.job(**{"runs": {}, **more}))

    # -- looking -------------------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> HostFolder:
        """The campaign's folder."""
        return host_state.folder_of(self.job())

    def result(self, run_id: str) -> Optional[Dict[str, Any]]:
        """The final record of a run."""
        standing = self.folder.standing(self.folder.run(run_id))
        return standing.record if standing.state == "done" else None

    def wait(self, seconds: float = 3000, poll: bool = True) -> Dict[str, Dict[str, Any]]:
        """Wait until every run has its record; {id: record}, each of them valid by the schema."""
        self.until(lambda: all(self.result(run_id) for run_id in self.planned), seconds, self.poll if poll else None)
        found = {run_id: self.result(run_id) or {} for run_id in self.planned}
        for record in found.values():
            jsonschema.validate(record, records.schema())
        return found

    def until(self, condition: Callable[[], Any], seconds: float = 300, between: Optional[Callable[[], Any]] = None) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError("not within %s s:\n%s" % (seconds, self.describe()))
            if between:
                between()
            time.sleep(0.1)

    def running(self, run_id: str, phase: str = "model") -> bool:
        """Whether a run is in this phase now."""
        return any(entry["run"] == run_id and entry["phase"] == phase for entry in host_steps.polled(self.job(check=True))["running"])

    def until_running(self, run_id: str, seconds: float = 300) -> None:
        """Wait until the model itself runs."""
        self.until(lambda: self.running(run_id), seconds)

    def supervisor(self) -> int:
        """Pid of the living supervisor, 0 if there is none."""
        return int(self.folder.state().get("pid") or 0) if self.folder.supervised() else 0

    def keeper(self, run_id: str) -> int:
        """Pid of the keeper of the newest attempt."""
        numbers = self.folder.attempts(run_id)
        return int(self.folder.attempt(run_id, numbers[-1]).launch()["keeper"]["pid"])

    def log(self, run_id: str, name: str = "model.log") -> str:
        """A log of the newest attempt."""
        attempt = self.folder.attempt(run_id, self.folder.attempts(run_id)[-1])
        path = Path(attempt.log(name))
        return path.read_text(errors="replace") if path.exists() else ""

    def containers(self) -> List[str]:
        """Names of all containers of this campaign."""
        words = ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", "label=mad.campaign=" + self.campaign]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    def describe(self) -> str:
        """Everything a person wants to see when a test fails."""
        parts = [json.dumps(self.poll_quietly(), indent=1)]
        for path in sorted(glob.glob(self.folder.path + "/*.log") + glob.glob(self.folder.path + "/runs/*/*/*.log")):
            parts.append("--- %s\n%s" % (path[len(self.folder.path) :], Path(path).read_text(errors="replace")[-2000:]))
        return "\n".join(parts)

    def poll_quietly(self) -> Dict[str, Any]:
        """Poll without starting anything."""
        return host_steps.polled(self.job(check=True))

    # -- the end -------------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End and remove everything of this host, whatever state it is in."""
        folder = self.folder
        if folder.exists():
            folder.say("cancel", "the test is over")
            pid = self.supervisor()
            if pid:  # first: it would give a killed keeper's attempt to another one
                os.kill(pid, signal.SIGKILL)
            for run_id in folder.run_ids():
                for number in folder.attempts(run_id):
                    self._close_attempt(run_id, number)
        if self.image:
            for name in self.containers():
                subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
        shutil.rmtree(self.work, ignore_errors=True)

    def _close_attempt(self, run_id: str, number: int) -> None:
        launch = self.folder.attempt(run_id, number).launch()
        keeper = launch.get("keeper") or {}
        if keeper and processes.is_alive(keeper["pid"], keeper["ticks"]):
            os.kill(keeper["pid"], signal.SIGKILL)
        if launch.get("mark"):
            processes.kill_all(lambda: processes.with_marker(launch["mark"]), 0.0)


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


MakeHost = Callable[..., BenchHost]


@pytest.fixture()
def make_host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeHost]:
    """Give a function that makes hosts; all are closed at the end."""
    made = []

    def make(runtime: str = "host", **words: Any) -> BenchHost:
        image = request.getfixturevalue("tiny_image") if runtime == "docker" else ""
        base = tmp_path / ("h%d" % len(made))
        base.mkdir()
        made.append(BenchHost(base, image=image, **words))
        return made[-1]

    yield make
    for host in made:
        host.close()
