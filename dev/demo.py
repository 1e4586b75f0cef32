# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job on the demo repository, on this machine: what `dev/demo` becomes once its environment stands.

The runtime is the engine that answers (docker, else podman), else the embedded one without containers. The base image is made here:
no registry is needed. Arguments go to ansible-playbook after the demo's own: `dev/demo -e mad_tags=hash`, `dev/demo --check --diff`.
Another playbook comes first: `dev/demo mad.engine.cancel -e mad_campaign=last`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import base_image
import bootstrap

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("MAD_DEV_HOME") or ROOT)
ENGINES = {
    "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
    "podman": ["podman", "info", "--format", "{{.Version.Version}}"],
}
PULLED = "ubuntu:24.04"
# What a person watching wants to see: progress, warnings, failures, the table; with -v all that Ansible says.
QUIET = {"ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "dev" / "callback"), "ANSIBLE_STDOUT_CALLBACK": "quiet"}


def say(text: str) -> None:
    """Print one line of the demo's own."""
    print("demo: " + text, flush=True)


def choose(asked_for_host: bool) -> tuple[str, str]:
    """Return (runtime, base image): the first engine that answers and can run an image; "host" and why, said aloud, without one."""
    reason = "asked for" if asked_for_host else "no container engine answers"
    for name, question in ENGINES.items():
        if asked_for_host or not shutil.which(name):
            continue
        problem = trouble(question, 20)
        if problem:
            reason = "%s does not answer (%s)" % (name, problem)
            continue
        with bootstrap.patience("making the base image", say):
            image, problem = base(name)
        if image:
            say("%s answers: the benchmarks run in containers, on base image %s" % (name, image))
            return name, image
        reason = "%s answers, but %s" % (name, problem)
    say("%s; so the benchmarks run on this machine itself, without containers (embedded runtime `host`)" % reason)
    return "host", ""


def trouble(argv: list[str], seconds: float) -> str:
    """Return why a command does not end well in time, in its own last words; "" if it does."""
    try:
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip().splitlines() or ["exit status %d" % done.returncode]
    return textwrap.shorten(said[-1], 150, placeholder=" ...") if done.returncode else ""


def base(client: str) -> tuple[str, str]:
    """Return (image, ""), made of this machine's own Python and tools so that no registry is needed, else pulled; or ("", why not)."""
    try:
        return base_image.make_any(client, ["host", "debian"], "mad-demo-base", lambda text: say("%s answers; %s" % (client, text))), ""
    except base_image.CannotRun as error:
        return "", str(error)
    except base_image.CannotMake as error:
        say("%s; pulling %s (up to 5 minutes)" % (error, PULLED))
        return (PULLED, "") if not trouble([client, "pull", PULLED], 300) else ("", "no base image can be made or pulled (%s)" % error)


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
    own = len(sys.argv) > 1 and sys.argv[1].startswith("mad.engine.")
    playbook, arguments = (sys.argv[1], sys.argv[2:]) if own else ("mad.engine.run", sys.argv[1:])
    told = variables(*(("host", "") if own else choose("mad_runtime=host" in arguments)))
    started, begun = time.monotonic(), time.time()
    hint = "" if own else "; the first lines come after some seconds, the rows after a minute or two (-v shows every task)"
    say("ansible-playbook %s begins%s" % (playbook, hint))
    argv = [sys.executable, "-m", "ansible", "playbook", playbook, "-e", json.dumps(told), *arguments]
    quiet = {} if any(re.match("-v+$|--verbose$", word) for word in arguments) else QUIET
    named = {"ANSIBLE_CALLBACKS_ENABLED": "mad.engine.progress", "MAD_COMMAND": shlex.join([str(ROOT / "dev" / "demo"), *arguments])}
    play = subprocess.Popen(argv, env={**quiet, **named, **os.environ})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the play, which says what goes on without it
    status = play.wait()
    say("ended with %d after %.0f s" % (status, time.monotonic() - started))
    show_place(HOME / "results", begun)
    return status


def show_place(results: Path, since: float) -> None:
    """Say where the table of a campaign that was planned since then is."""
    planned = [path for path in results.glob("*/plan.json") if path.stat().st_mtime >= since]
    newest = max(planned, key=lambda path: path.stat().st_mtime, default=None)
    if newest and (newest.parent / "perf.csv").exists():
        say("table: %s" % (newest.parent / "perf.csv"))


if __name__ == "__main__":
    sys.exit(main())
