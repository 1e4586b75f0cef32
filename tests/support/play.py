# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook as a person would: in a folder of its own, with this checkout as mad.engine, the user's settings out of the way."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "demo"
# Nothing of anybody's own. How often Ansible's main process looks around, as in inventories/ssh_fleet: its own thousand times a second costs cores
# that the tests beside it need.
CONFIG = "[defaults]\ninternal_poll_interval = 0.01\n"


@dataclasses.dataclass
class Played:
    """How a play ended."""

    status: int
    output: str

    def recap(self) -> dict[str, dict[str, int]]:
        """Return host -> counter -> number, from the play recap."""
        lines = self.output.rpartition("PLAY RECAP")[2].splitlines()[1:]
        rows = [line.partition(" : ") for line in lines if " : ok=" in line]
        return {name.strip(): {k: int(v) for k, v in (word.split("=") for word in rest.split())} for name, dummy, rest in rows}


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment for Ansible's programs: nothing of the user's own, everything below `home`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MAD_"))}
    tree = Path(os.environ.get("MAD_DEV_HOME") or ROOT) / ".dev" / "tree"
    config = home / "ansible.cfg"
    if not config.exists():
        config.write_text(CONFIG, "utf-8")
    return {
        **kept,
        "PATH": "%s%s%s" % (Path(sys.executable).parent, os.pathsep, kept.get("PATH", os.defpath)),
        "ANSIBLE_COLLECTIONS_PATH": str(tree),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(home / "ansible-home"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        **more,
    }


def command(playbook: str, inventory: Path | None, variables: Mapping[str, Any] | None, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command line; variables travel as JSON, so that every type and every character arrives."""
    argv = [sys.executable, "-m", "ansible", "playbook", playbook]
    if inventory:
        argv += ["-i", str(inventory)]
    if variables:
        argv += ["-e", json.dumps(dict(variables))]
    return [*argv, *arguments]


def play(
    playbook: str,
    folder: Path,
    *,
    inventory: Path | None = None,
    variables: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
) -> Played:
    """Run a playbook of the collection (`mad.engine.run`) or a file in `folder`; never raises for a failed play."""
    done = subprocess.run(
        command(playbook, inventory, variables, arguments),
        cwd=folder,
        env=environment(folder, **(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    return Played(done.returncode, done.stdout)
