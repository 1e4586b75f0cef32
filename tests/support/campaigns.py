# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns on an SSH fleet: models that write down every execution, plays that can be killed, hosts that can lose their power."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.host import processes

from .play import Played, command, environment
from .sshd import Fleet

BEGIN = 'echo "$PLACE $MAD_MODEL_NAME begin" >>"$MARKS"\n'
END = 'echo "$PLACE $MAD_MODEL_NAME end" >>"$MARKS"\necho "performance: 12.5 things_per_second"\n'
GATE = 'n=0; while [ ! -e "$GATES/$PLACE" ] && [ $n -lt 900 ]; do sleep 0.1; n=$((n+1)); done\n'  # until the test opens it
QUICK = BEGIN + END
GATED = BEGIN + GATE + END


class Playing:
    """A play in the background, in a process group of its own."""

    def __init__(self, argv: list[str], folder: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                argv, cwd=folder, env=environment(folder, **(env or {})), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def wait(self, seconds: float = 600) -> Played:
        """How it ended; one that does not end is killed and is an error."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the play did not end within %s s:\n%s" % (seconds, self.output())) from None
        return Played(self.process.returncode, self.output())

    def kill(self) -> None:
        """SIGKILL to the whole group, as when the controller's machine loses its power."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Campaigns:
    """A repository, a fleet whose hosts have a work folder and a machine lock each, and what came home of them."""

    def __init__(self, home: Path, fleet: Fleet) -> None:
        self.home, self.fleet, self.repo = home, fleet, home / "repo"
        self.results, self.marks, self.gates = home / "results", home / "marks", home / "gates"
        self.playing: list[Playing] = []
        self.cards: list[dict[str, Any]] = []
        self.hosts: dict[str, dict[str, Any]] = {}
        for folder in (self.repo, self.gates):
            folder.mkdir()
        self.marks.touch()

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def model(self, name: str, script: str = QUICK, **card: Any) -> None:
        """Add a model with this run.sh; its tags are `all` and its name."""
        path = self.repo / "scripts" / name / "run.sh"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        entry = {"name": name, "dockerfile": "docker/" + name, "scripts": "scripts/%s/run.sh" % name, "n_gpus": "0", "args": ""}
        self.cards.append({**entry, "tags": ["all"], **card})
        (self.repo / "models.json").write_text(json.dumps(self.cards))

    def host(self, name: str, **variables: Any) -> None:
        """Add a host and start its sshd."""
        variables.setdefault("mad_work_dir", str(self.home / "work" / name))
        variables.setdefault("mad_host_lock", str(self.home / (name + ".lock")))
        known = {"gpu_vendor": "NONE", "guest_os": "UBUNTU"}
        known["env_vars"] = {"PLACE": name, "MARKS": str(self.marks), "GATES": str(self.gates)}
        (self.home / "work").mkdir(exist_ok=True)
        self.hosts[name] = {"mad_runtime": "host", "mad_context": {**known, **variables.pop("context", {})}, **variables}
        self.fleet.add(name, **self.hosts[name])

    def open(self, *names: str) -> None:
        """Let the gated models of these hosts (all: none named) go on."""
        for name in names or self.hosts:
            (self.gates / name).touch()

    # -- plays ---------------------------------------------------------------------------------------------------------------------

    def start(self, playbook: str = "run", *arguments: str, campaign: str = "c1", **variables: Any) -> Playing:
        """Start a playbook of the collection; a variable that is None is not set."""
        known = {"mad_repo": str(self.repo), "mad_tags": "all", "mad_results": str(self.results), "mad_campaign": campaign}
        known = {key: value for key, value in {**known, **variables}.items() if value is not None}
        inventory = self.fleet.write_inventory(self.home / "inventory.json", ansible_pipelining=True)
        words = ["-f", "10", *arguments]
        log = self.home / ("play-%d.log" % len(self.playing))
        self.playing.append(Playing(command("mad.engine." + playbook, inventory, known, words), self.home, log))
        return self.playing[-1]

    def play(self, playbook: str = "run", *arguments: str, **variables: Any) -> Played:
        """Run a playbook to its end."""
        return self.start(playbook, *arguments, **variables).wait()

    # -- what came of it -----------------------------------------------------------------------------------------------------------

    def records(self, campaign: str = "c1") -> dict[tuple[str, str], dict[str, Any]]:
        """{(host, model): record}; repeats have the model's name with their number."""
        found = {}
        for path in (self.results / campaign / "runs").glob("*/result.json"):
            one = json.loads(path.read_text("utf-8"))
            model = one["model"] if one["repeat"] == 1 else "%s#%d" % (one["model"], one["repeat"])
            found[one["place"]["host"], model] = one
        return found

    def states(self, campaign: str = "c1") -> dict[tuple[str, str], str]:
        """{(host, model): SUCCESS, SKIPPED or the failure class}."""
        return {key: one["failure_class"] or one["status"] for key, one in self.records(campaign).items()}

    def planned(self, campaign: str = "c1") -> list[dict[str, Any]]:
        """Runs of the plan."""
        return list(json.loads((self.results / campaign / "plan.json").read_text("utf-8"))["runs"])

    def summary(self, campaign: str = "c1") -> dict[str, Any]:
        """summary.json."""
        return dict(json.loads((self.results / campaign / "summary.json").read_text("utf-8")))

    def executed(self, what: str = "end") -> Counter[tuple[str, str]]:
        """How often each model really began or ended on each host."""
        lines = [line.split() for line in self.marks.read_text().splitlines()]
        return Counter((place, model) for place, model, word in lines if word == what)

    def folders(self, host: str) -> list[str]:
        """The campaign folders in a host's work folder."""
        path = self.home / "work" / host / "campaigns"
        return sorted(os.listdir(path)) if path.exists() else []

    # -- what happens to it --------------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 300) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                last = self.playing[-1].output() if self.playing else ""
                raise AssertionError("not within %s s: %s\n%s" % (seconds, what, last))
            time.sleep(0.05)

    def processes(self, host: str = "") -> list[int]:
        """Pids of what mad.engine has running for this host (all: none named): supervisors, keepers, drivers and models."""
        place = str(self.home / "work" / host).encode()
        marks = [b"MARKS=%s\0" % str(self.marks).encode(), b"PLACE=%s\0" % host.encode() if host else b""]
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _belongs(entry, place, marks)]

    def lose_power(self, host: str) -> None:
        """End a host's sshd, its sessions and everything that was started there."""
        self.fleet.hosts[host].kill()
        self.until(lambda: not self.kill_processes(host), "host %s is dead" % host, 10)

    def kill_processes(self, host: str = "") -> int:
        """SIGKILL everything of a host; returns how many there were."""
        found = self.processes(host)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def close(self) -> None:
        """Leave nothing behind."""
        for playing in self.playing:
            if playing.process.poll() is None:
                playing.kill()
        self.until(lambda: not self.kill_processes(), "everything is dead", 10)
        shutil.rmtree(self.home / "work", ignore_errors=True)


def _belongs(pid: str, place: bytes, marks: list[bytes]) -> bool:
    """Whether a process works in a folder, by its command line (ours), or is a model, by what its environment says."""
    if not processes.start_ticks(int(pid)) or int(pid) == os.getpid():
        return False
    return place in _read(pid, "cmdline") or all(mark in _read(pid, "environ") for mark in marks)


def _read(pid: str, name: str) -> bytes:
    try:
        return Path("/proc", pid, name).read_bytes()
    except OSError:
        return b""


@pytest.fixture()
def campaigns(tmp_path: Path, fleet: Fleet) -> Iterator[Campaigns]:
    """Give an empty repository and an empty fleet."""
    found = Campaigns(tmp_path, fleet)
    yield found
    found.close()
