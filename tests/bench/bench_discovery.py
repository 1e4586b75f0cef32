# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What discovery costs: one tag among 10,000 models and 200 script directories, in CPU seconds beyond Ansible's own start.

Run it as `python tests/bench/bench_discovery.py` where `ansible-playbook mad.engine.discover` works.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

ROOT_MODELS, DIRECTORIES, PER_DIRECTORY = 5000, 200, 25  # half of the directories are static, half have a get_models_json.py
ROUNDS = 3
TARGET = 1.00

CUSTOM = """
from madengine.utils.discover_models import CustomModel
def list_models():
    return [
        CustomModel(name="model%%d" %% n, dockerfile="../../docker/x", scripts="run.sh", tags=["custom", "group%%d" %% (n %% 7)])
        for n in range(%d)
    ]
"""


def card(name: str, number: int) -> dict[str, object]:
    """A card as long as those of real repositories."""
    return {
        "name": name,
        "url": "",
        "dockerfile": "docker/%s" % name,
        "scripts": "scripts/static0/run.sh",
        "data": "huggingface",
        "n_gpus": "-1",
        "owner": "somebody@example.com",
        "training_precision": "fp16",
        "multiple_results": "perf_%s.csv" % name,
        "tags": ["pyt", "group%d" % (number % 7), "inference"],
        "timeout": -1,
        "args": "--model_repo example/%s --config configs/default.csv" % name,
    }


def make_repository(root: Path) -> None:
    """10,000 models: the root's, and those of 200 directories."""
    root.mkdir()
    (root / "models.json").write_text(json.dumps([card("model_%d" % n, n) for n in range(ROOT_MODELS)], indent=2))
    for number in range(DIRECTORIES):
        kind = "static" if number % 2 == 0 else "custom"
        folder = root / "scripts" / ("%s%d" % (kind, number))
        folder.mkdir(parents=True)
        (folder / "run.sh").write_text("echo 'performance: 1 x'\n")
        if kind == "static":
            (folder / "models.json").write_text(json.dumps([card("model%d" % n, n) for n in range(PER_DIRECTORY)], indent=2))
        else:
            (folder / "get_models_json.py").write_text(CUSTOM % PER_DIRECTORY)


def spent(who: int) -> float:
    """User and system seconds of this process or of its ended children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def best(action: Callable[[], object], who: int) -> float:
    """The least CPU seconds of some rounds."""
    costs = []
    for _round in range(ROUNDS):
        before = spent(who)
        action()
        costs.append(spent(who) - before)
    return min(costs)


def play(*arguments: str) -> None:
    """Run ansible-playbook, quietly; its output is shown if it fails."""
    done = subprocess.run(["ansible-playbook", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def main() -> int:
    """Measure and print; 1 if the target is missed."""
    from ansible_collections.mad.engine.plugins.module_utils.models import discovery

    with tempfile.TemporaryDirectory(prefix="mad-bench-") as name:
        base = Path(name)
        make_repository(base / "repo")
        os.environ["XDG_CACHE_HOME"] = name  # for the plays; this process does nothing else
        empty = base / "empty.yml"
        empty.write_text("- hosts: localhost\n  gather_facts: false\n")
        discover = ["mad.engine.discover", "-e", "mad_repo=%s" % (base / "repo"), "-e", "mad_tags=model_77"]
        began = time.monotonic()
        play(*discover)
        print(
            "discovery: %.1f s the first time (100 get_models_json.py files run, on %d CPUs)"
            % (time.monotonic() - began, os.cpu_count() or 1)
        )
        cache = str(base / "mad.engine" / "discovery")
        core = best(lambda: discovery.discover(str(base / "repo"), "model_77", cache), resource.RUSAGE_SELF)
        every = best(lambda: discovery.discover(str(base / "repo"), "all", cache), resource.RUSAGE_SELF)
        start = best(lambda: play(str(empty)), resource.RUSAGE_CHILDREN)
        whole = best(lambda: play(*discover), resource.RUSAGE_CHILDREN)
        print("discovery: %.2f s CPU in the core for one tag, %.2f s for all 10,000 cards" % (core, every))
        print("discovery: %.2f s CPU beyond ansible start (target < %.2f)" % (whole - start, TARGET))
        return 0 if whole - start < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
