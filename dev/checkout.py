# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the sources laid out as Ansible's tools demand: .../ansible_collections/mad/engine, a git repository, no ignored files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Golden files are what the code renders; fixtures imitate other people's repositories and tools, faults included (CRLF, odd shebangs):
# data, not sources to judge.
DATA = ("tests/fixtures/", "tests/unit/golden/")


class Checkout:
    """The copy; `tree` is for ANSIBLE_COLLECTIONS_PATH, `path` the collection. It is removed at the end."""

    def __init__(self, root: Path, home: Path) -> None:
        (home / ".dev").mkdir(exist_ok=True)
        self.tree = Path(tempfile.mkdtemp(prefix="check-", dir=home / ".dev"))
        self.path = self.tree / "ansible_collections" / "mad" / "engine"
        self.path.mkdir(parents=True)
        for name in _git(root, "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
            if name and not name.startswith(DATA) and (root / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, self.path / name)
        # ansible-test asks git which files there are; a commit is what "tracked" means to some of its tests.
        _git(self.path, "init", "-q", ".")
        _git(self.path, "add", "-A")
        _git(self.path, "-c", "user.name=dev", "-c", "user.email=dev@example.invalid", "commit", "-q", "-m", "copy")

    def remove(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self.tree, ignore_errors=True)


def _git(folder: Path, *arguments: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    argv = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **settings}).stdout
