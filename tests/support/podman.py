# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman with storage and settings of its own; nothing of the machine's podman is seen or changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

CONF = """\
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
[containers]
default_ulimits=["nofile=1024:1024","nproc=1024:1024"]
"""


class OwnPodman:
    """`settings` are the two variables that make a podman command this one."""

    def __init__(self) -> None:
        self.folder = Path("/var/tmp/mad-podman-" + uuid.uuid4().hex[:8])
        self.folder.mkdir(mode=0o700)
        (self.folder / "containers.conf").write_text(CONF)
        storage = '[storage]\ndriver="vfs"\ngraphroot="%s/graph"\nrunroot="%s/run"\n' % (self.folder, self.folder)
        (self.folder / "storage.conf").write_text(storage)
        self.settings = {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }
        self.environment = {**os.environ, **self.settings}

    def load(self, image: str, scratch: Path) -> None:
        """Bring an image of the Docker engine in."""
        archive = scratch / "image.tar"
        subprocess.run(["docker", "save", "--output", str(archive), image], check=True, capture_output=True)
        subprocess.run(["podman", "load", "--input", str(archive)], env=self.environment, check=True, capture_output=True)
        archive.unlink()

    def close(self) -> None:
        """Remove everything of it."""
        subprocess.run(["podman", "system", "reset", "--force"], env=self.environment, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
