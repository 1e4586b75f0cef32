# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker engine of the tests: one that already answers is used as it is; where this machine may be changed, one of our own is started.

Our own dockerd shares nothing with the machine's: socket, data, state, pid file and containerd namespace are its own; it sets no firewall
rules and makes no bridge (containers and builds use the host's network).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from . import components
from .daemons import Daemon


class OwnEngine:
    """A dockerd that lives as long as this object."""

    def __init__(self) -> None:
        # Socket paths end at 107 characters, so the folder's name is short; /var/tmp is a disk where /tmp may be memory.
        self.folder = Path("/var/tmp/mad-dockerd-" + secrets.token_hex(4))
        self.folder.mkdir(mode=0o700)
        self.host = "unix://%s" % (self.folder / "docker.sock")
        self._daemon: Daemon | None = None

    def start(self) -> OwnEngine:
        """Start it and wait until it answers."""
        dockerd = components.which("dockerd")
        if not dockerd:
            raise RuntimeError("no dockerd here")
        env = {"PATH": components.SYSTEM_PATH}
        self._daemon = Daemon([dockerd, *self._options()], self.folder / "dockerd.log", env).wait_until(self.answers, 60)
        return self

    def _options(self) -> list[str]:
        name = self.folder.name
        return [
            "--host=" + self.host,
            "--data-root=%s" % (self.folder / "data"),
            "--exec-root=%s" % (self.folder / "exec"),
            "--pidfile=%s" % (self.folder / "pid"),
            "--containerd-namespace=" + name,
            "--containerd-plugins-namespace=%s-plugins" % name,
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]

    def answers(self) -> bool:
        """Tell whether it serves."""
        return not components.answers(["docker", "--host", self.host, "version", "--format", "{{.Server.Version}}"], 10)

    def stop(self) -> None:
        """End it by its pid with its containers, and remove its folder once nothing is mounted below it."""
        if self._daemon:
            self._remove_containers()
            self._daemon.stop(30)
        self._unmount()
        if not self._mounts():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _remove_containers(self) -> None:
        command = ["docker", "--host", self.host]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            listed = subprocess.run([*command, "ps", "-aq"], capture_output=True, text=True, timeout=20, check=False).stdout.split()
            if listed:
                subprocess.run([*command, "rm", "-f", *listed], capture_output=True, timeout=60, check=False)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith("%s/" % self.folder)]

    def _unmount(self) -> None:
        for point in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", point], stderr=subprocess.DEVNULL, check=False)


def find_or_start() -> tuple[str, OwnEngine | None]:
    """Return (DOCKER_HOST or "" for the default, our own engine or None); raise RuntimeError where neither is to be had."""
    problem = components.missing("docker")
    if not problem:
        return os.environ.get("DOCKER_HOST", ""), None
    if not components.may_install() or not components.which("dockerd"):
        raise RuntimeError(problem)
    own = OwnEngine()
    try:
        return own.start().host, own
    except RuntimeError:
        own.stop()
        raise


class Door:
    """A socket in front of an engine's own: closed, the engine is gone for its clients, as while it is restarted; what it runs goes on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "door.sock"
        self.host = "unix://%s" % self.path
        self._engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")[2]
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []

    def open(self) -> Door:
        """Let clients through."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        return self

    def close(self) -> None:
        """Turn everybody out, and let nobody in."""
        self.path.unlink(missing_ok=True)
        for connection in [self._listener, *self._open]:
            if connection:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                client, engine = listener.accept()[0], socket.socket(socket.AF_UNIX)
                try:
                    engine.connect(self._engine)
                except OSError:
                    client.close()
                    continue
                self._open += [client, engine]
                for source, target in ((client, engine), (engine, client)):
                    threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one side is done."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
