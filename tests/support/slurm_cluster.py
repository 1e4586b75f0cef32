# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Slurm cluster of several nodes on this machine, to try the collection on.

    tests/support/slurm-cluster start [--nodes 8] [--accounting] [--folder /tmp/mad-slurm]
    eval "$(tests/support/slurm-cluster env)"      # sinfo, sbatch and ansible-playbook of this shell reach it
    tests/support/slurm-cluster stop

Needs Debian's slurm-wlm and munge, with --accounting also slurmdbd and mariadb-server. A Slurm that is installed here is not touched.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parent.parent.parent
DEFAULT = Path("/tmp/mad-slurm-%d" % os.getuid())


def load() -> Any:
    """Import the cluster's class from this checkout, without the collection being installed."""
    sys.path.insert(0, str(TREE))
    from tests.support.slurm import Cluster

    return Cluster


def serve(options: argparse.Namespace) -> int:
    """Hold the cluster until SIGTERM."""
    stopping: list[int] = []
    with load()(options.nodes, options.accounting, folder=options.folder):
        signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
        (options.folder / "ready").write_text("")
        while not stopping:
            time.sleep(0.2)
    return 0


def pid_of(folder: Path) -> int:
    """Return the process that holds the cluster, 0 for none."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "cluster.pid").read_text())
        if b"slurm_cluster" in Path("/proc/%d/cmdline" % pid).read_bytes():
            return pid
    return 0


def start(options: argparse.Namespace) -> int:
    """Start it in the background."""
    folder = options.folder
    if pid_of(folder):
        print("a cluster runs already in %s; tests/support/slurm-cluster stop ends it" % folder)
        return 1
    if folder.exists() and any(folder.iterdir()) and not (folder / "slurm.conf").exists():
        print("%s is not empty and no folder of a test cluster; choose another with --folder" % folder)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ready").unlink(missing_ok=True)
    words = ["--nodes", str(options.nodes), "--folder", str(folder)] + (["--accounting"] if options.accounting else [])
    with open(folder / "cluster.log", "wb") as log:
        argv = [sys.executable, __file__, "serve", *words]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / "cluster.pid").write_text("%d\n" % process.pid)
    while not (folder / "ready").exists():
        if process.poll() is not None:
            print((folder / "cluster.log").read_text("utf-8", "replace"))
            return 1
        time.sleep(0.1)
    print("%d nodes run in %s. In the shell that is to use them:\n\n    %s" % (options.nodes, folder, variables(folder)))
    return 0


def stop(options: argparse.Namespace) -> int:
    """End it with all its jobs."""
    pid = pid_of(options.folder)
    if not pid:
        print("no cluster runs in %s" % options.folder)
        return 1
    os.kill(pid, signal.SIGTERM)
    while pid_of(options.folder):
        time.sleep(0.1)
    return 0


def variables(folder: Path) -> str:
    """Return the shell line that points Slurm's commands there."""
    return "export SLURM_CONF=%s" % shlex.quote(str(folder / "slurm.conf"))


def env(options: argparse.Namespace) -> int:
    """Print that line."""
    print(variables(options.folder))
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="slurm-cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="start|stop|env")
    for function in (start, stop, env, serve):
        command = commands.add_parser(function.__name__, help=None if function is serve else function.__doc__)
        command.add_argument("--folder", type=lambda text: Path(text).absolute(), default=DEFAULT, help="default: %(default)s")
        command.set_defaults(function=function)
        if function in (start, serve):
            command.add_argument("--nodes", type=int, default=8)
            command.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB, so that sacct works")
    options = parser.parse_args()
    return int(options.function(options))


if __name__ == "__main__":
    sys.exit(main())
