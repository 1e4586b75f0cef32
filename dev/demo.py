# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on the demo repository, on this machine: what `dev/demo` becomes once its environment stands.

The runtime is the engine that answers (docker, else podman), else the embedded one without containers. The base image is made here:
no registry is needed. Arguments go to ansible-playbook after the demo's own: `dev/demo -e mad_tags=hash`, `dev/demo --check --diff`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import base_image

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MAD_DEV_HOME") or ROOT)
ENGINES = {
    "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
    "podman": ["podman", "info", "--format", "{{.Version.Version}}"],
}


def say(text: str) -> None:
    """Print one line of the demo's own."""
    print("demo: " + text, flush=True)


def engine() -> str:
    """Return the engine whose command line gets an answer, or "host"."""
    for name, question in ENGINES.items():
        if shutil.which(name) and not _asked(question):
            return name
    return "host"


def _asked(argv: list[str]) -> int:
    try:
        return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 1


def base(runtime: str) -> dict[str, str]:
    """Return the build argument that names a base image made here; none where it cannot be made, then the engine pulls the default one."""
    started = time.monotonic()
    try:
        name = base_image.make_any(runtime, ["host", "debian"], "mad-demo-base")
    except base_image.CannotMake as error:
        say("no base image can be made here (%s); the engine will pull the default one" % error)
        return {}
    say("base image %s, made from this machine's own Python and tools in %.1f s" % (name, time.monotonic() - started))
    return {"BASE_DOCKER": name}


def variables(runtime: str) -> dict[str, Any]:
    """Return what the play is told: CPU benchmarks, so no GPU is looked for even where there is one."""
    context: dict[str, Any] = {"gpu_vendor": "NONE", "guest_os": "UBUNTU"}
    if runtime != "host":
        context["docker_build_arg"] = base(runtime)
    return {
        "mad_repo": str(ROOT / "demo"),
        "mad_tags": "demo",
        "mad_runtime": runtime,
        "mad_context": context,
        "mad_results": str(HOME / "results"),
    }


def main() -> int:
    """Run the play; say where the results are."""
    runtime = engine()
    if any(argument.startswith("mad_runtime=host") for argument in sys.argv[1:]):
        runtime = "host"
    if runtime == "host":
        say("no container engine answers: the benchmarks run on this machine itself (embedded runtime `host`)")
    else:
        say("%s answers: the benchmarks run in containers" % runtime)
    started = time.monotonic()
    argv = [sys.executable, "-m", "ansible", "playbook", "mad.engine.run", "-e", json.dumps(variables(runtime)), *sys.argv[1:]]
    status = subprocess.run(argv, check=False).returncode
    say("ended with %d after %.0f s" % (status, time.monotonic() - started))
    show_place(HOME / "results")
    return status


def show_place(results: Path) -> None:
    """Say where the last campaign's table and logs are."""
    newest = sorted((path for path in results.glob("*/plan.json")), key=lambda path: path.stat().st_mtime)
    if newest:
        folder = newest[-1].parent
        say("results: %s" % folder)
        say("table:   %s" % (folder / "perf.csv"))


if __name__ == "__main__":
    sys.exit(main())
