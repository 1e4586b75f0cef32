# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Slurm cluster on one machine: munged, slurmctld and n1..nN with own ports and fake GPUs, with or without accounting.

Everything lives in one folder and is ended by pid: a Slurm that is installed here is never touched (`SLURM_CONF` and the munge socket are
the cluster's own). All nodes share one IP stack and one file system, which finds ports that collide and stands for the shared file system
of a real cluster.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import components, slurm_config
from .daemons import Daemon, children
from .ports import listens

_NODE = Path(__file__).with_name("slurm_node.py")
_SQL = """\
CREATE DATABASE {database};
CREATE USER 'slurm'@'localhost' IDENTIFIED BY '{password}';
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON {database}.* TO 'slurm'@'localhost';
GRANT ALL ON {database}.* TO 'slurm'@'127.0.0.1';
"""


class Cluster:
    """One cluster; use it in a `with` block. `env` is what every command of Slurm needs to reach it."""

    def __init__(
        self,
        nodes: int = 8,
        accounting: bool = False,
        settings: Mapping[str, str] | None = None,
        partitions: str = "",
        folder: Path | None = None,
    ) -> None:
        # Unix sockets end at 107 characters: a short folder.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mad-slurm-", dir="/tmp"))
        self.own_folder = folder is None
        self.nodes = ["n%d" % number for number in range(1, nodes + 1)]
        self.accounting = accounting
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.ports = slurm_config.free_ports(nodes)
        self._password = secrets.token_hex(12)
        self._daemons: dict[str, Daemon] = {}
        for name in ("state", "spool", "mysql"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # munged refuses a socket in a folder that others may write to or that it cannot enter.
        self.folder.chmod(0o755)
        slurm_config.write(self.folder, nodes, self.ports, accounting, settings or {}, partitions, self._password)

    # -- starting and ending -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(self, *dummy: object) -> None:
        self.stop()

    def start(self) -> Cluster:
        """Start all of it and wait until every node is idle."""
        try:
            self._start_munge()
            if self.accounting:
                self._start_accounting()
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            self.wait_for(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "all nodes idle")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all of it, nodes with their jobs first; remove the folder if it is ours."""
        for name in [*self.nodes, "slurmctld", "slurmdbd", "mariadbd", "munged"]:
            if name in self._daemons:
                self._daemons.pop(name).stop(20)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, name: str, argv: list[str]) -> Daemon:
        program = components.which(argv[0])
        if not program:
            raise RuntimeError("no program %s; MAD_TEST_INSTALL=1 dev/test brings it" % argv[0])
        # Below a reaper of its own: slurmd's jobs detach themselves, and must not outlive the cluster.
        whole = [sys.executable, str(_NODE), program, *argv[1:]]
        self._daemons[name] = Daemon(whole, self.folder / (name + ".log"), {**self.env, "LC_ALL": "C"})
        return self._daemons[name]

    def _start_munge(self) -> None:
        names = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        words = ["--%s=%s" % (option, self.folder / name) for option, name in names.items()]
        daemon = self._daemon("munged", ["munged", "--foreground", "--force", *words])
        daemon.wait_until((self.folder / "munge.socket").exists)

    def _start_accounting(self) -> None:
        data = self.folder / "mysql"
        user = "--user=root" if os.geteuid() == 0 else "--loose-user="
        common = ["--no-defaults", "--datadir=%s" % data, user]
        install = components.which("mariadb-install-db") or "mariadb-install-db"
        self._run([install, *common, "--skip-test-db", "--auth-root-authentication-method=normal"], 240)
        program = components.which("mariadbd") or "mariadbd"
        sql = _SQL.format(database=slurm_config.DATABASE, password=self._password)
        self._run([program, *common, "--bootstrap"], 240, "FLUSH PRIVILEGES;\n" + sql)
        words = ["--socket=%s/mysql.sock" % self.folder, "--bind-address=127.0.0.1", "--port=%d" % self.ports.database]
        self._daemon("mariadbd", ["mariadbd", *common, *words, "--pid-file=%s/mariadbd.pid" % self.folder]).wait_until(
            lambda: listens("127.0.0.1", self.ports.database)
        )
        self._daemon("slurmdbd", ["slurmdbd", "-D"]).wait_until(lambda: listens("127.0.0.1", self.ports.accounting))
        self.call("sacctmgr", "-i", "add", "cluster", "madtest")

    def start_controller(self) -> None:
        """Start slurmctld, also again after `kill_controller`."""
        daemon = self._daemon("slurmctld", ["slurmctld", "-D", "-f", self.env["SLURM_CONF"]])
        daemon.wait_until(lambda: listens("127.0.0.1", self.ports.controller))

    def start_node(self, node: str) -> None:
        """Start a node, also again after `kill_node`."""
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        port = self.ports.first + self.nodes.index(node)
        daemon = self._daemon(node, ["slurmd", "-D", "-N", node, "-f", self.env["SLURM_CONF"]])
        daemon.wait_until(lambda: listens("127.0.0.1", port))

    # -- faults --------------------------------------------------------------------------------------------------------------------

    def save(self, job: str) -> None:
        """Wait until slurmctld has saved what it knows of a job: it does so every few seconds, and what is younger dies with it."""
        word = "saved-%s" % secrets.token_hex(8)
        self.call("scontrol", "update", "JobId=" + job, "Comment=" + word)
        state = self.folder / "state" / "job_state"
        self.wait_for(lambda: state.exists() and word.encode() in state.read_bytes(), "saved job %s" % job)

    def kill_controller(self) -> None:
        """Lose slurmctld at once; what it saved stays on disk (see `save`)."""
        self._daemons.pop("slurmctld").kill()

    def kill_node(self, node: str) -> None:
        """Lose a node at once, with everything that runs there."""
        self._daemons.pop(node).kill()

    def kill_slurmd(self, node: str) -> None:
        """Kill only the daemon of a node: its jobs go on."""
        for pid in children(self._daemons[node].pid):
            with contextlib.suppress(OSError):
                program = os.path.basename(os.readlink("/proc/%d/exe" % pid))  # slurmstepd, an orphan, is a child beside it
                if program.startswith("slurmd"):
                    os.kill(pid, signal.SIGKILL)

    def restart_slurmd(self, node: str) -> None:
        """Start the daemon of a node again where `kill_slurmd` ended it."""
        os.kill(self._daemons[node].pid, signal.SIGHUP)

    # -- asking --------------------------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Return the environment of a user of this cluster: nothing of a job that the tests themselves run in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT"))}
        return {**kept, **self.env, "LC_ALL": "C"}

    def _run(self, argv: list[str], seconds: float, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv, input=text, env=self.environment(), capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
        if done.returncode:
            raise RuntimeError("%s: exit status %d: %s" % (argv[0], done.returncode, (done.stderr or done.stdout).strip()[-1000:]))
        return done

    def call(self, *argv: str, stdin: str | None = None, seconds: float = 240) -> str:
        """Run a command of Slurm (or any other) as a user of the cluster; returns what it printed, RuntimeError when it fails."""
        return self._run(list(argv), seconds, stdin).stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit a script; returns the job's id."""
        output = self.call("sbatch", "--parsable", "--output", str(self.folder / "job-%j.out"), *options, stdin=script)
        return output.partition(";")[0]

    def states(self) -> dict[str, str]:
        """Return {node: state} as sinfo says it; {} while it does not answer."""
        try:
            lines = self.call("sinfo", "-h", "-N", "-o", "%N %T", seconds=60).splitlines()
        except (RuntimeError, subprocess.TimeoutExpired):
            return {}
        return dict(line.split(None, 1) for line in lines)

    def queue(self, *states: str) -> list[str]:
        """Return the ids of all jobs that wait, run or are completing (or those in some states), one per array task."""
        return self.call("squeue", "-h", "-r", *(["-t", ",".join(states)] if states else []), "-o", "%i").split()

    def wait_for(self, ready: Callable[[], bool], what: str, seconds: float = 240) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise RuntimeError("the test cluster: no %s after %s s; %s" % (what, seconds, self._last_words()))
            time.sleep(0.1)

    def wait_for_none(self, seconds: float = 240) -> None:
        """Wait until no job waits or runs; what is completing belongs to Slurm alone, and a busy machine may take it minutes."""
        self.wait_for(lambda: not self.queue("PENDING", "RUNNING"), "job that waits or runs any more", seconds)

    def wait_for_jobs(self, seconds: float = 240) -> None:
        """Wait until no job waits or runs."""
        self.wait_for(lambda: not self.queue(), "empty queue", seconds)

    def clear(self) -> None:
        """Cancel everything; wait until nothing waits or runs.

        Slurm 22.05 may take a minute to notice that a step of several nodes has ended. Nobody waits here for jobs that are completing.
        """
        self.call("scancel", "--me")
        self.wait_for(lambda: not self.queue("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED"), "queue without active jobs")

    def _last_words(self) -> str:
        """The last line of each daemon's log."""
        logs = sorted(self.folder.glob("*.log"))
        return "; ".join("%s: %s" % (log.name, (log.read_text("utf-8", "replace").strip().splitlines() or [""])[-1]) for log in logs)
