# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of inventory hosts on one machine: an sshd for each on a loopback address, with its own host key, and one user key for all."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from . import components
from .daemons import Daemon
from .ports import free_port, listens

SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {key}.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
# A home of its own: the login shell must not read the start files of whoever runs the tests.
SetEnv HOME={folder}
MaxStartups 100
MaxSessions 100
LogLevel VERBOSE
Subsystem sftp /usr/lib/openssh/sftp-server
ForceCommand {folder}/session
"""

# What runs sees only what the test gives the host, and the engine of this machine wherever that listens.
SESSION = """\
#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
  */sftp-server) exec $SSH_ORIGINAL_COMMAND ;;
esac
export {pairs}
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """One sshd: `address` and `port` are where it listens, `variables` what the inventory says of it."""

    def __init__(self, fleet: Fleet, name: str, number: int, environment: dict[str, str], variables: dict[str, Any]) -> None:
        self.fleet, self.name = fleet, name
        self.address = "127.0.0.%d" % (number + 10)
        self.port = free_port(self.address)
        self.folder = fleet.folder / name
        self.environment, self.variables = environment, variables
        self._daemon: Daemon | None = None
        self.folder.mkdir()
        _keygen(self.folder / "host_key")

    def start(self) -> Host:
        """Start it, on the port it had before if it is started again."""
        session, config = self.folder / "session", self.folder / "sshd_config"
        pairs = {"PATH": PATH, "LC_ALL": "C.UTF-8", **_engine(), **self.environment}
        session.write_text(SESSION.format(pairs=" ".join("%s=%s" % (key, shlex.quote(value)) for key, value in pairs.items())), "utf-8")
        session.chmod(0o755)
        config.write_text(SSHD_CONFIG.format(address=self.address, port=self.port, folder=self.folder, key=self.fleet.key), "utf-8")
        argv = [components.which("sshd") or "sshd", "-D", "-e", "-f", str(config)]
        self._daemon = Daemon(argv, self.folder / "sshd.log").wait_until(lambda: listens(self.address, self.port))
        return self

    def kill(self) -> None:
        """Lose the host at once: the listener and every open session (what was started detached lives on)."""
        if self._daemon:
            self._daemon.kill()
        self.fleet.drop_masters()

    def stop(self) -> None:
        """End it."""
        if self._daemon:
            self._daemon.stop(5)

    def inventory(self) -> dict[str, Any]:
        """Return the host's variables for an inventory."""
        return {"ansible_host": self.address, "ansible_port": self.port, **self.variables}


class Fleet:
    """Hosts with sshd, their keys, and the inventory that reaches them; use it in a `with` block."""

    def __init__(self, python: str = "/usr/bin/python3") -> None:
        # Control sockets end at 107 characters: a short folder.
        self.folder = Path(tempfile.mkdtemp(prefix="mad-ssh-", dir="/tmp"))
        self.key = self.folder / "key"
        self.python = python
        self.hosts: dict[str, Host] = {}
        _keygen(self.key)
        _privilege_separation()

    def add(self, name: str, environment: dict[str, str] | None = None, **variables: Any) -> Host:
        """Add a host and start it; `environment` is what its sessions see, `variables` go to the inventory."""
        host = Host(self, name, len(self.hosts), environment or {}, variables)
        self.hosts[name] = host
        return host.start()

    def inventory(self, **variables: Any) -> dict[str, Any]:
        """Return an inventory of all hosts; `variables` are those of the group all."""
        common = {
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_python_interpreter": self.python,
            "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=%s -o IdentitiesOnly=yes" % self._known_hosts(),
            "ansible_control_path_dir": str(self.folder / "c"),
            **variables,
        }
        return {"all": {"hosts": {name: host.inventory() for name, host in self.hosts.items()}, "vars": common}}

    def write_inventory(self, path: Path, **variables: Any) -> Path:
        """Write the inventory to a file (JSON is YAML); return its path."""
        path.write_text(json.dumps(self.inventory(**variables), indent=2), "utf-8")
        return path

    def _known_hosts(self) -> Path:
        lines = ["[%s]:%d %s" % (h.address, h.port, (h.folder / "host_key.pub").read_text("utf-8").strip()) for h in self.hosts.values()]
        path = self.folder / "known_hosts"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    def drop_masters(self) -> None:
        """Forget the open connections of the controller, as a dead network would."""
        shutil.rmtree(self.folder / "c", ignore_errors=True)

    def stop(self) -> None:
        """End every sshd and remove the keys."""
        for host in self.hosts.values():
            host.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.stop()


def _engine() -> dict[str, str]:
    return {"DOCKER_HOST": os.environ["DOCKER_HOST"]} if os.environ.get("DOCKER_HOST") else {}


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mad-test", "-f", str(path)], check=True)


def _privilege_separation() -> None:
    """Make the empty folder that sshd insists on when root starts it."""
    if not components.missing("root"):
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
