# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL server on a loopback port, with a password; ended by pid."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import ports
from .daemons import Daemon

USER, PASSWORD = "mad", "correct-horse-battery"


def programs() -> str:
    """Return the folder of the newest server's programs; "" where there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4].split(".")[0]))
    return os.path.dirname(found[-1]) if found else ""


def _as_owner(argv: list[str]) -> list[str]:
    """The server refuses to run as root: then Debian's user postgres runs it."""
    return ["runuser", "-u", "postgres", "--", *argv] if os.geteuid() == 0 else argv


class Postgres:
    """One server; `url(name)` makes a database and gives its URL."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mad-postgres-"))
        self.port = ports.free_port()
        self._daemon: Daemon | None = None

    def __enter__(self) -> Postgres:
        data, password = self.folder / "data", self.folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (self.folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", "-D", str(data), "-U", USER, "--auth=scram-sha-256", "--pwfile=%s" % password, "--no-sync", "-E", "UTF8", "--locale=C"
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 40,
        }
        argv = [os.path.join(programs(), "postgres"), "-D", str(data)]
        for name, value in settings.items():
            argv += ["-c", "%s=%s" % (name, value)]
        self._daemon = Daemon(_as_owner(argv), self.folder / "postgres.log").wait_until(self._answers)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._daemon:
            self._daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str) -> str:
        """Make a database of this name."""
        self.sql("CREATE DATABASE %s" % name, "postgres")
        return "postgresql://%s:%s@127.0.0.1:%d/%s" % (USER, PASSWORD, self.port, name)

    def sql(self, command: str, database: str) -> str:
        """Run one statement and return what psql prints."""
        target = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        return self._run("psql", *target, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", command)

    def _run(self, program: str, *arguments: str) -> str:
        argv = _as_owner([os.path.join(programs(), program), *arguments])
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=120, check=False, cwd="/", env={**os.environ, "PGPASSWORD": PASSWORD}
        )
        if done.returncode:
            raise RuntimeError("%s failed: %s" % (program, done.stderr or done.stdout))
        return done.stdout.strip()

    def _answers(self) -> bool:
        try:
            self.sql("SELECT 1", "postgres")
        except RuntimeError:
            return False
        return True
