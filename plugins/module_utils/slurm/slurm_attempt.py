# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one attempt on the file system that login node and compute nodes share; the job's script finds everything here.

attempt-N/settings.sh      what of the run the script needs (runtime, container, image, limits), quoted
attempt-N/launch.sh        the launcher's variables; a task of an array reads it
attempt-N/env.sh           the run's own variables with its secrets, mode 0600, until the record is written
attempt-N/bring.sh         sees to the image on a node
attempt-N/start-R.sh       what node R executes: bring the staged files, then the driver, in a container or not
attempt-N/io/ work/        of node 0; node-R/io/ and node-R/work/ of the others
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
from typing import Any, Dict, List, Mapping, Tuple

from ..base import files
from ..base.quoting import quote, quote_env
from ..containers import engine
from ..host import driver
from ..host.host_state import ELSEWHERE, Attempt, HostFolder
from ..results.status import is_resumable
from . import slurm_launch, slurm_runtimes
from .slurm_runtimes import ENGINES

LOGINS = "logins"  # in the campaign's folder

Run = Mapping[str, Any]


def node_file(attempt: Attempt, rank: int, *names: str) -> str:
    """A path of one node's part of an attempt."""
    return attempt.file(*names) if rank == 0 else attempt.file("node-%d" % rank, *names)


def nodes_of(run: Run) -> int:
    """How many nodes a run has."""
    return int((run.get("launcher") or {}).get("nnodes") or 1)


def parts_of(run: Run) -> int:
    """On how many of them we start the model; a script that starts its own steps (slurm_multi) is started on the first one only."""
    return 1 if starts_itself(run) else nodes_of(run)


def starts_itself(run: Run) -> bool:
    """Whether the model's script runs on the bare node and starts steps and containers of its own."""
    return slurm_launch.starts_itself(str((run.get("launcher") or {}).get("name") or ""))


class Preparation:
    """Writes the files of one attempt. What a dead submitter half wrote is written again: nothing has run there before the claim."""

    def __init__(self, folder: HostFolder, run: Run, attempt: Attempt, archives: Mapping[str, str]) -> None:
        self.folder, self.run, self.attempt, self.archives = folder, run, attempt, archives
        slurm_runtimes.check(run)
        self.source = slurm_runtimes.source(run, archives)
        # What executes the driver; the image of a script that starts itself is only brought.
        self.runtime = "host" if starts_itself(run) else str(run["runtime"])

    def write(self, batch: files.Batch) -> None:
        """All files of the attempt; they are there when the batch is."""
        made = self.texts()
        self.attempt.claim()
        self.attempt.save_launch({"schema": 1, "run": self.run["id"], "attempt": self.attempt.number, "boot_id": ELSEWHERE}, batch)
        for rank in range(parts_of(self.run)):
            os.makedirs(node_file(self.attempt, rank, "io"), mode=0o700, exist_ok=True)
        for path, text, mode in made:
            batch.write(path, text.encode("utf-8", "surrogateescape"), mode)

    def texts(self) -> List[Tuple[str, str, int]]:
        """(path, text, mode) of all files; MadError where the run cannot be put into words. Nothing is written."""
        own = [
            ("settings.sh", self._settings(), 0o600),
            ("launch.sh", slurm_launch.of_run(self.run) + "\n", 0o600),
            ("env.sh", self._environment(), 0o600),
            ("bring.sh", slurm_runtimes.bring(self.run, self.source, self._shared()), 0o700),
        ]
        for rank in range(parts_of(self.run)):
            own.append(("start-%d.sh" % rank, self._start(rank), 0o700))
        made = [(self.attempt.file(name), text, mode) for name, text, mode in own]
        for rank in range(parts_of(self.run)):
            text = driver.render(self.run, self.attempt.number, self._place(rank))
            made.append((os.path.join(node_file(self.attempt, rank, "io"), "driver.sh"), text, 0o755))
        return made

    def _settings(self) -> str:
        values: Dict[str, Any] = {
            "runtime": self.runtime,
            "container": self._container() if self.runtime in ENGINES else "",
            "image": (self.source.digest or self.source.name) if self.run["runtime"] != "host" else "",
            "timeout": int(self.run.get("timeout") or 0),
            "resumable": int(is_resumable(self.run)),
            "port": int((self.run.get("launcher") or {}).get("port") or 0),
        }
        return "".join("%s=%s\n" % (name, quote(values[name])) for name in values)

    def _environment(self) -> str:
        plain = {str(name): str(value) for name, value in (self.run.get("env") or {}).items()}
        own = slurm_launch.variables_of(self.run)
        given = self.run.get("given_env") or []
        plain = {name: value for name, value in plain.items() if name not in own or name in given}
        secret = self.folder.secrets(self.run["id"])
        engine.check_environment(dict(plain, **secret))
        return quote_env(dict(plain, **secret))

    def _place(self, rank: int) -> driver.Place:
        if slurm_runtimes.inside(self.runtime):
            # An engine's files may belong to root; those of a sandbox belong to the user.
            share = self.runtime in ENGINES and os.geteuid() != 0
            return driver.Place(engine.WORKSPACE, engine.CONTROL, share=share, keep_alive=False)
        work, io = (node_file(self.attempt, rank, name) for name in ("work", "io"))
        return driver.Place(work, io, share=False, keep_alive=False)

    def _images(self) -> str:
        """The shared folder of image files; all runs of a campaign use it."""
        return self.folder.file("images")

    def _shared(self) -> slurm_runtimes.Shared:
        locks = os.path.join(os.path.dirname(os.path.dirname(self.folder.path)), "locks")
        return slurm_runtimes.Shared(self._images(), locks, self.folder.file(LOGINS))

    # -- what a node executes ------------------------------------------------------------------------------------------------------

    def _start(self, rank: int) -> str:
        lines = [
            "#!/usr/bin/env bash",
            "# mad.engine: run %s, attempt %d, node %d" % (self.run["id"], self.attempt.number, rank),
            "set -eu",
        ]
        lines += self._bring(node_file(self.attempt, rank, "work"))
        run = dict(self.run, runtime=self.runtime)
        image = slurm_runtimes.image_file(run, self.source, self._images()) if self.runtime in slurm_runtimes.SANDBOXES else ""
        lines += slurm_runtimes.start(run, self._where(rank), image)
        return "\n".join(lines) + "\n"

    def _bring(self, work: str) -> List[str]:
        """Copy what the run needs of the staged repository into a work folder of its own, which the model may change."""
        tree = self.folder.file("tree", str(self.run.get("tree", "")))
        lines = ["rm -rf %s" % quote(work), "mkdir -p %s" % quote(work)]
        for short in driver.staged(tree, self.run):
            source, target = os.path.join(tree, short), os.path.join(work, short)
            lines.append("mkdir -p %s" % quote(posixpath.dirname(target)))
            lines.append("cp -R %s %s" % (quote(source + "/." if os.path.isdir(source) else source), quote(target)))
        return lines

    def _container(self) -> str:
        return engine.container_name(str(self.run["campaign"]), str(self.run["id"]), self.attempt.number)

    def _where(self, rank: int) -> slurm_runtimes.Where:
        return slurm_runtimes.Where(
            "%s-%d" % (self._container(), rank),
            node_file(self.attempt, rank, "work"),
            node_file(self.attempt, rank, "io"),
            engine.labels(self.run, self.attempt.number, self.folder.path),
        )


def forget_secrets(attempt: Attempt) -> None:
    """Remove what held the values of secrets; the attempt has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(attempt.file("env.sh"))


def remove_work(attempt: Attempt, run: Run) -> None:
    """Remove the work folders of all nodes."""
    for rank in range(nodes_of(run)):
        shutil.rmtree(node_file(attempt, rank, "work"), ignore_errors=True)
