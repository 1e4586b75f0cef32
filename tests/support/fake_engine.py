# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that answers like the client of docker or podman: for command lines and faults; real engines test the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROGRAM = r"""#!{python}
import hashlib, json, os, sys, time
home = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(home, "state.json")) as stream:
    state = json.load(stream)
argv = sys.argv[1:]
shown = {{name: os.environ[name] for name in os.environ if name.startswith(("MAD_", "DOCKER_", "BUILDKIT", "HF_", "REGISTRY_AUTH"))}}
stdin = sys.stdin.read() if "--password-stdin" in argv else ""
with open(os.path.join(home, "calls.jsonl"), "a") as stream:
    stream.write(json.dumps({{"argv": argv, "cwd": os.getcwd(), "env": shown, "stdin": stdin}}) + "\n")
fault = state["faults"].get(argv[0]) or state["faults"].get(" ".join(argv[:2]))
if fault:
    time.sleep(fault.get("sleep", 0))
    sys.stderr.write(fault.get("says", "") + "\n")
    sys.exit(fault.get("code", 1))
if argv[0] == "info":
    print(json.dumps(state["info"]))
elif argv[:2] == ["build", "--help"]:
    print("\n".join(state["flags"]))
elif argv[:2] == ["image", "inspect"]:
    if argv[2] not in state["images"]:
        sys.stderr.write("Error: No such image: %s\n" % argv[2])
        sys.exit(1)
    print("[\n" + json.dumps(state["images"][argv[2]]) + "\n]")
elif argv[0] == "build":
    name = argv[argv.index("--tag") + 1]
    label = argv[argv.index("--label") + 1]
    state["images"][name] = {{"Id": "sha256:" + hashlib.sha256(label.encode()).hexdigest(), "Size": 3,
                             "Config": {{"Labels": dict([label.split("=", 1)])}}}}
    print("Step 1")
elif argv[0] == "tag":
    state["images"][argv[2]] = state["images"][argv[1]]
elif argv[0] == "pull":
    state["images"][argv[1]] = state["registry"][argv[1]]
elif argv[0] == "push":
    if "--digestfile" in argv:
        open(argv[argv.index("--digestfile") + 1], "w").write(state["digest"])
    print("latest: digest: %s size: 1" % state["digest"])
elif argv[0] == "save":
    sys.stdout.write("abc")
with open(os.path.join(home, "state.json"), "w") as stream:
    json.dump(state, stream)
"""
BUILDKIT = ("--secret", "--build-context", "--load", "--provenance")


class FakeEngine:
    """The program and what it knows; `folder` goes in front of PATH."""

    def __init__(self, folder: Path, name: str = "docker", flags: tuple[str, ...] = ()) -> None:
        self.folder, self.program = folder, folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self.program.write_text(PROGRAM.format(python=sys.executable))
        self.program.chmod(0o755)
        docker = {"ServerVersion": "1", "DockerRootDir": "/"}
        podman = {"version": {"Version": "4"}, "store": {"graphRoot": "/"}, "host": {}}
        self.change(
            images={"base:1": image("base")}, flags=list(flags), faults={}, registry={}, digest="sha256:" + "d" * 64,
            info=docker if name == "docker" else podman,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return what it knows now."""
        path = self.folder / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def change(self, **more: Any) -> None:
        """Change what it knows."""
        (self.folder / "state.json").write_text(json.dumps({**self.state(), **more}))

    def calls(self, word: str = "") -> list[dict[str, Any]]:
        """Return its calls so far: {"argv", "cwd", "env", "stdin"}, those that begin with a word."""
        path = self.folder / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in found if not word or (call["argv"][0] == word and "--help" not in call["argv"])]


def image(text: str, **labels: str) -> dict[str, Any]:
    """Return what inspect says of an image."""
    return {"Id": "sha256:" + text.encode().hex().ljust(64, "0"), "Size": 1, "Config": {"Labels": labels}, "RepoDigests": []}
