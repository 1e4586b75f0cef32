# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environments of the training engine, a project of its own in roles/training/files: they hold torch, those of the collection do not.

As a program it makes the one of the tests.
"""

from __future__ import annotations

import os
import sys
import tomllib

from bootstrap import HOME, ROOT, Environment, check_home

FOLDER = ROOT / "roles" / "training" / "files"
# By name and exactly: without the pin a dependency could bring another build of torch.
TORCH = "torch==2.13.0"
EXTRAS = {
    "demo": ("data", "serve"),
    "bench": ("drift", "metrics", "check", "export", "bench"),
    "test": ("data", "drift", "metrics", "check", "mirror", "yaml", "export", "serve", "track", "interop", "notebook", "test"),
}


def requirements(kind: str) -> list[str]:
    """Return what an environment of this kind holds, from the engine's own pyproject.toml."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))["project"]
    return [TORCH, *project["dependencies"], *(line for extra in EXTRAS[kind] for line in project["optional-dependencies"][extra])]


def ensure(kind: str) -> Environment:
    """Return the environment of this kind, made if need be."""
    return Environment("training-" + kind, sys.executable, requirements(kind)).ensure()


def settings(tools: Environment) -> dict[str, str]:
    """Return what its commands run under: nothing of the collection's environment, one thread in each process."""
    path = "%s%s%s" % (tools.path / "bin", os.pathsep, os.environ.get("PATH", os.defpath))
    return {"PATH": path, "VIRTUAL_ENV": str(tools.path), "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "MAD_DEV_HOME": str(HOME)}


if __name__ == "__main__":
    check_home()
    ensure("test")
