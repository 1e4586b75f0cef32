# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real registry (docker-registry) on a loopback port, with or without a login; ended by pid."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path

from . import components, ports
from .daemons import Daemon

USER = "mad-tester"
PASSWORD = "correct-horse-battery"
_BCRYPT = "$2b$05$abcdefghijklmnopqrstuuSnF5tLPqPFqc0z9CY0HcSLFbSRlL67u"  # of PASSWORD: docker-registry takes nothing else
_CONFIG = """version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""
_AUTH = """auth:
  htpasswd: {{realm: tests, path: {path}}}
"""
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class Registry:
    """One registry; its data lives in `folder`. `address` (localhost:PORT) goes in front of image names."""

    def __init__(self, folder: Path, login: bool = True) -> None:
        self.folder, self.login = folder, login
        self.port = ports.free_port()
        self.address = "localhost:%d" % self.port
        self._daemon: Daemon | None = None

    def start(self) -> Registry:
        """Start it (again) on its port and wait until it answers."""
        program = components.which("docker-registry")
        if not program:
            raise RuntimeError("no program docker-registry")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = _CONFIG.format(root=json.dumps(str(self.folder / "data")), address="127.0.0.1:%d" % self.port)
        if self.login:
            passwords = self.folder / "htpasswd"
            passwords.write_text("%s:%s\n" % (USER, _BCRYPT))
            config += _AUTH.format(path=json.dumps(str(passwords)))
        (self.folder / "config.yml").write_text(config)
        argv = [program, "serve", str(self.folder / "config.yml")]
        self._daemon = Daemon(argv, self.folder / "registry.log").wait_until(lambda: ports.listens("127.0.0.1", self.port))
        return self

    def stop(self) -> None:
        """End it; the data stay."""
        if self._daemon:
            self._daemon.stop()
            self._daemon = None

    def credentials(self, repository: str = "", password: str = PASSWORD) -> dict[str, dict[str, str]]:
        """Return the content of a credential file for it."""
        entry = {"username": USER, "password": password}
        return {self.address: {**entry, "repository": repository} if repository else entry}

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return (status, headers, body) of /v2/<path>, asked with the right login."""
        token = base64.b64encode(("%s:%s" % (USER, PASSWORD)).encode()).decode()
        headers = {"Authorization": "Basic " + token, "Accept": MANIFEST}
        request = urllib.request.Request("http://127.0.0.1:%d/v2/%s" % (self.port, path), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def digest(self, name: str, reference: str) -> str:
        """Return the digest the registry has under repository and tag, "" for none."""
        status, headers, _body = self.get("%s/manifests/%s" % (name, reference))
        return headers.get("Docker-Content-Digest", "") if status == 200 else ""
