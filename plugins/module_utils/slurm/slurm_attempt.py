# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one attempt on the file system that login node and compute nodes share; the job's script finds everything here.

attempt-N/settings.sh      what of the run the script needs (runtime, container, image, limits), quoted
attempt-N/launch.sh        the launcher's variables; a task of an array reads it
attempt-N/env.sh           the run's own variables with its secrets, mode 0600, until the record is written
attempt-N/start-R.sh       what node R executes: bring the staged files, then the driver, in a container or not
attempt-N/io/ work/        of node 0; node-R/io/ and node-R/work/ of the others
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
from typing import Any, Dict, List, Mapping

from ..base import files
from ..base.errors import InvalidInput
from ..base.quoting import quote, quote_argv, quote_env
from ..containers import engine
from ..host import driver
from ..host.host_state import Attempt, HostFolder
from ..results.status import is_resumable
from . import slurm_launch

ENGINES = ("docker", "podman")
SHM_BYTES = 64 << 30  # a limit, not a reservation; the engines' own 64 MB stop data loaders
_COMMON = "scripts/common"

Run = Mapping[str, Any]


def node_file(attempt: Attempt, rank: int, *names: str) -> str:
    """A path of one node's part of an attempt."""
    return attempt.file(*names) if rank == 0 else attempt.file("node-%d" % rank, *names)


def nodes_of(run: Run) -> int:
    """How many nodes a run has."""
    return int((run.get("launcher") or {}).get("nnodes") or 1)


class Preparation:
    """Writes the files of one attempt. What a dead submitter half wrote is written again: nothing has run there before the claim."""

    def __init__(self, folder: HostFolder, run: Run, attempt: Attempt, archives: Mapping[str, str]) -> None:
        self.folder, self.run, self.attempt, self.archives = folder, run, attempt, archives
        self.runtime = str(run["runtime"])
        if self.runtime not in (*ENGINES, "host"):
            raise InvalidInput(
                "model %s: runtime %s cannot start runs on Slurm yet; use docker, podman or host" % (run["model"], self.runtime)
            )

    def write(self) -> None:
        """All files of the attempt."""
        self.attempt.claim()
        self._write("settings.sh", self._settings(), 0o600)
        self._write("launch.sh", slurm_launch.of_run(self.run) + "\n", 0o600)
        self._write("env.sh", self._environment(), 0o600)
        for rank in range(nodes_of(self.run)):
            io = node_file(self.attempt, rank, "io")
            os.makedirs(io, mode=0o700, exist_ok=True)
            files.write_atomic(
                os.path.join(io, "driver.sh"), _bytes(driver.render(self.run, self.attempt.number, self._place(rank))), 0o755
            )
            self._write("start-%d.sh" % rank, self._start(rank), 0o700)

    def _write(self, name: str, text: str, mode: int) -> None:
        files.write_atomic(self.attempt.file(name), _bytes(text), mode)

    def _settings(self) -> str:
        image = (self.run.get("image") or {}) if self.runtime in ENGINES else {}
        digest = str(image.get("digest") or "")
        values: Dict[str, Any] = {
            "runtime": self.runtime,
            "container": self._container() if self.runtime in ENGINES else "",
            "image": digest,
            "archive": self.archives.get(digest, ""),
            "source": str(image.get("registry_image") or ""),
            "timeout": int(self.run.get("timeout") or 0),
            "resumable": int(is_resumable(self.run)),
            "port": int((self.run.get("launcher") or {}).get("port") or 0),
        }
        return "".join("%s=%s\n" % (name, quote(values[name])) for name in values)

    def _environment(self) -> str:
        plain = {str(name): str(value) for name, value in (self.run.get("env") or {}).items()}
        own = slurm_launch.variables(self.run["launcher"], int(self.run["gpus"]["count"]))
        given = self.run.get("given_env") or []
        plain = {name: value for name, value in plain.items() if name not in own or name in given}
        secret = self.folder.secrets(self.run["id"])
        engine.check_environment(dict(plain, **secret))
        return quote_env(dict(plain, **secret))

    def _place(self, rank: int) -> driver.Place:
        if self.runtime in ENGINES:
            return driver.Place(engine.WORKSPACE, engine.CONTROL, share=os.geteuid() != 0, keep_alive=False)
        work, io = (node_file(self.attempt, rank, name) for name in ("work", "io"))
        return driver.Place(work, io, share=False, keep_alive=False)

    # -- what a node executes ------------------------------------------------------------------------------------------------------

    def _start(self, rank: int) -> str:
        lines = [
            "#!/usr/bin/env bash",
            "# mad.engine: run %s, attempt %d, node %d" % (self.run["id"], self.attempt.number, rank),
            "set -eu",
        ]
        lines += self._bring(node_file(self.attempt, rank, "work"))
        if self.runtime == "host":
            # Slurm may signal every process of a step. The driver keeps the books and stays; what it starts has no traps.
            lines.append(
                "exec sh -c 'trap : TERM INT HUP USR1 USR2; . \"$0\"' %s" % quote(node_file(self.attempt, rank, "io", "driver.sh"))
            )
        else:
            launch = self._launch(rank)
            argv = engine.container_argv(_without_gpus(self.run), launch)
            # Of the time before the job was requeued: the name and the file must be free.
            lines.append("%s rm --force --volumes %s >/dev/null 2>&1 || :" % (quote(argv[0]), quote(launch.name)))
            lines.append("rm -f %s" % quote(launch.cidfile))
            lines += self._gpus()
            lines.append('exec %s run "${gpus[@]}" %s' % (quote(argv[0]), quote_argv(argv[2:])))
        return "\n".join(lines) + "\n"

    def _bring(self, work: str) -> List[str]:
        """Copy what the run needs of the staged repository into a work folder of its own, which the model may change."""
        tree = self.folder.file("tree", str(self.run.get("tree", "")))
        lines = ["rm -rf %s" % quote(work), "mkdir -p %s" % quote(work)]
        paths = {driver.relative(str(path), "stage") for path in self.run.get("stage") or []}
        for short in sorted(paths | ({_COMMON} if os.path.isdir(os.path.join(tree, _COMMON)) else set())):
            source, target = os.path.join(tree, short), os.path.join(work, short)
            lines.append("mkdir -p %s" % quote(posixpath.dirname(target)))
            lines.append("cp -R %s %s" % (quote(source + "/." if os.path.isdir(source) else source), quote(target)))
        return lines

    def _gpus(self) -> List[str]:
        """The engine's words for the GPUs that Slurm gave the job; the numbers are known on the node only."""
        gpus = self.run.get("gpus") or {}
        vendor, lines = gpus.get("vendor"), ["gpus=()"]
        if not int(gpus.get("count") or 0):
            return lines
        if vendor == "NVIDIA" and self.runtime == "podman":
            lines += ['IFS=, read -r -a numbers <<<"${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}"', "gpus=(--cap-add SYS_PTRACE)"]
            lines.append('for number in "${numbers[@]}"; do gpus+=(--device "nvidia.com/gpu=$number"); done')
        elif vendor == "NVIDIA":
            lines.append('gpus=(--cap-add SYS_PTRACE --gpus "\\"device=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}\\"")')
        elif vendor == "AMD":
            # All render nodes; ROCR_VISIBLE_DEVICES, which Slurm sets, chooses among them.
            lines.append("gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/kfd --device /dev/dri)")
        elif vendor == "INTEL":
            lines.append("gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/dri)")
        return lines

    def _container(self) -> str:
        return engine.container_name(str(self.run["campaign"]), str(self.run["id"]), self.attempt.number)

    def _launch(self, rank: int) -> engine.Launch:
        return engine.Launch(
            name="%s-%d" % (self._container(), rank),
            labels=engine.labels(self.run, self.attempt.number, self.folder.path),
            work=node_file(self.attempt, rank, "work"),
            control=node_file(self.attempt, rank, "io"),
            cidfile=node_file(self.attempt, rank, "io", "container.id"),
            gpus=[],
            cpus="",
            env={},
            shm_bytes=SHM_BYTES,
            selinux=False,
        )


def forget_secrets(attempt: Attempt) -> None:
    """Remove what held the values of secrets; the attempt has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(attempt.file("env.sh"))


def remove_work(attempt: Attempt, run: Run) -> None:
    """Remove the work folders of all nodes."""
    for rank in range(nodes_of(run)):
        shutil.rmtree(node_file(attempt, rank, "work"), ignore_errors=True)


def _without_gpus(run: Run) -> Dict[str, Any]:
    return dict(run, gpus=dict(run.get("gpus") or {}, count=0, pool=[]))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
