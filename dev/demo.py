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
import signal
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
PULLED = "ubuntu:24.04"
# What a person watching wants to see: progress, changes, the table.
QUIET = {"ANSIBLE_CALLBACKS_ENABLED": "mad.engine.progress", "ANSIBLE_DISPLAY_OK_HOSTS": "false", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}


def say(text: str) -> None:
    """Print one line of the demo's own."""
    print("demo: " + text, flush=True)


def choose(asked_for_host: bool) -> tuple[str, str]:
    """Return (runtime, base image): the first engine that answers and can run an image; "host" and why, said aloud, without one."""
    reason = "asked for" if asked_for_host else "no container engine answers"
    for name, question in ENGINES.items():
        if asked_for_host or not shutil.which(name) or not succeeds(question, 20):
            continue
        image, problem = base(name)
        if image:
            say("%s answers: the benchmarks run in containers, on base image %s" % (name, image))
            return name, image
        reason = "%s answers, but has no base image that runs (%s)" % (name, problem)
    say("%s: the benchmarks run on this machine itself, without containers (embedded runtime `host`)" % reason)
    return "host", ""


def succeeds(argv: list[str], seconds: float) -> bool:
    """Tell whether a command ends well in time."""
    try:
        return not subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=seconds, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def base(client: str) -> tuple[str, str]:
    """Return (image, ""), made of this machine's own Python and tools so that no registry is needed, else pulled; or ("", why not)."""
    try:
        return base_image.make_any(client, ["host", "debian"], "mad-demo-base"), ""
    except base_image.CannotMake as error:
        return (PULLED, "") if succeeds([client, "pull", PULLED], 300) else ("", str(error))


def variables(runtime: str, image: str) -> dict[str, Any]:
    """Return what the play is told: CPU benchmarks, so no GPU is looked for even where there is one."""
    context: dict[str, Any] = {"gpu_vendor": "NONE", "guest_os": "UBUNTU"}
    if image:
        context["docker_build_arg"] = {"BASE_DOCKER": image}
    return {
        "mad_repo": str(ROOT / "demo"),
        "mad_tags": "demo",
        "mad_runtime": runtime,
        "mad_context": context,
        "mad_results": str(HOME / "results"),
    }


def main() -> int:
    """Run the play; say where the results are."""
    told = variables(*choose("mad_runtime=host" in sys.argv))
    started = time.monotonic()
    argv = [sys.executable, "-m", "ansible", "playbook", "mad.engine.run", "-e", json.dumps(told), *sys.argv[1:]]
    play = subprocess.Popen(argv, env={**QUIET, **os.environ})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the play, which says what goes on without it
    status = play.wait()
    say("ended with %d after %.0f s" % (status, time.monotonic() - started))
    show_place(HOME / "results", status)
    return status


def show_place(results: Path, status: int) -> None:
    """Say where the last campaign's table and logs are, and how to go on with it when it did not end well."""
    newest = sorted((path for path in results.glob("*/plan.json")), key=lambda path: path.stat().st_mtime)
    if newest:
        folder = newest[-1].parent
        say("results: %s" % folder)
        if (folder / "perf.csv").exists():
            say("table:   %s" % (folder / "perf.csv"))
        if status:
            say("to go on with it: dev/demo -e mad_campaign=%s" % folder.name)


if __name__ == "__main__":
    sys.exit(main())
