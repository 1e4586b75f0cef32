# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole play costs beyond `docker run`: 20 tiny models on one host, image ready, against a shell loop of the same containers.

What is left beyond `docker run`, in CPU seconds of one play on two cores (the least of several), nearly all of it one after the other: 0.8 until Ansible
has started; 0.7 for each host-task that no run hides (facts, start, removal), of which Ansible's own part, that of a `ping`, is 0.45: to pack and copy the
module, and to compile it on the host; 0.7 more at the start, to stage, to ask the engine and for the supervisor to start the first run; 0.4 to plan, 0.4
for rows and report, 0.03 to 0.09 for each of the 14 other tasks that no run hides. A run costs 0.07 to 0.09 s beyond its `docker run --rm`: most of it is
the engine's client that removes the container, for nothing of a run may be left when the next one is measured; the rest is the record, which is on disk then.

Both are timed alternately. Host-tasks are counted by a callback: how often a module of ours was run on the host. At the end the controller
is killed 20 times (tests/integration/test_run_killed.py with MAD_KILLS=20), unless MAD_KILLS says another number.
"""

from __future__ import annotations

import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(os.environ.get("MAD_DEV_HOME") or Path(__file__).resolve().parents[2]) / ".dev" / "tree"))

from ansible_collections.mad.engine.tests.support import base_image  # noqa: E402 the path comes first
from ansible_collections.mad.engine.tests.support.bench_host import PRINT  # noqa: E402
from ansible_collections.mad.engine.tests.support.play import ROOT, play  # noqa: E402

RUNS, ROUNDS = 20, 3
PER_PLAY, PER_RUN, HOST_TASKS = 6.0, 0.10, 8
COUNTER = """
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "host_tasks"

    def v2_runner_on_ok(self, result):
        action = result.task.resolved_action
        if action in ("mad.engine.gpu_info", "mad.engine.container_run", "mad.engine.image_build"):
            with open(os.environ["HOST_TASKS"], "a") as log:
                log.write("%s %s\\n" % (action, result.task.args.get("state", "")))

    v2_runner_on_failed = v2_runner_on_unreachable = v2_runner_on_ok
"""


def repository(folder: Path) -> Path:
    """A MAD repository with that many models that print a number."""
    cards = []
    for number in range(RUNS):
        name = "tiny%02d" % number
        (folder / "scripts" / name).mkdir(parents=True)
        (folder / "scripts" / name / "run.sh").write_text(PRINT)
        scripts = "scripts/%s/run.sh" % name
        cards.append({"name": name, "dockerfile": "docker/tiny", "scripts": scripts, "n_gpus": "0", "args": "", "tags": ["tiny"]})
    (folder / "models.json").write_text(json.dumps(cards))
    return folder


def loop(image: str, folder: Path) -> float:
    """Seconds of a shell loop that runs the same containers, one after the other."""
    (folder / "run.sh").write_text(PRINT)
    command = "docker run --rm --network host -v %s:/myworkspace -w /myworkspace %s bash run.sh >/dev/null" % (folder, image)
    begun = time.monotonic()
    subprocess.run(["bash", "-c", "for n in $(seq %d); do %s; done" % (RUNS, command)], check=True)
    return time.monotonic() - begun


def one_play(image: str, folder: Path) -> tuple[float, collections.Counter[str]]:
    """(seconds of a play, host-tasks by what they were)."""
    repo = repository(folder / "repo")
    (folder / "callbacks").mkdir()
    (folder / "callbacks" / "host_tasks.py").write_text(COUNTER)
    log = folder / "host-tasks"
    variables = {
        "mad_repo": str(repo),
        "mad_tags": "tiny",
        "mad_results": str(folder / "results"),
        "mad_work_dir": str(folder / "work"),
        "mad_host_lock": str(folder / "lock"),
        "mad_context": {"gpu_vendor": "NONE", "guest_os": "UBUNTU", "MAD_CONTAINER_IMAGE": image},
    }
    counting = {
        "ANSIBLE_CALLBACK_PLUGINS": str(folder / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "host_tasks",
        "HOST_TASKS": str(log),
    }
    begun = time.monotonic()
    played = play("mad.engine.run", folder, variables=variables, env=counting)
    took = time.monotonic() - begun
    if played.status:
        raise SystemExit(played.output)
    return took, collections.Counter(line.strip() for line in log.read_text().splitlines())


def killed(number: str) -> bool:
    """Whether a campaign whose controller was killed so often has the rows of an undisturbed one, and nothing ran twice."""
    test = str(ROOT / "tests" / "integration" / "test_run_killed.py")
    argv = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", test, "-k", "controller_is_killed"]
    done = subprocess.run(argv, env={**os.environ, "MAD_KILLS": number}, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    for line in lines if done.returncode else [line for line in lines if "MAD_SEED" in line]:
        print("   " + line)
    return done.returncode == 0


def main() -> int:
    """Measure, print, compare with the targets."""
    image = base_image.make("tiny")
    loops, plays, tasks = [], [], collections.Counter[str]()
    for _round in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as one, tempfile.TemporaryDirectory(dir="/var/tmp") as two:
            loops.append(loop(image, Path(one)))
            took, tasks = one_play(image, Path(two))
            plays.append(took)
    extra, target = statistics.median(plays) - statistics.median(loops), PER_PLAY + PER_RUN * RUNS
    polls = tasks["mad.engine.container_run polled"]
    others = sum(tasks.values()) - polls
    print("   shell loop %s s, play %s s" % tuple(" ".join("%.1f" % value for value in values) for values in (loops, plays)))
    print("   beyond docker run of %d containers: %.1f s (target %.1f)" % (RUNS, extra, target))
    print("   host-tasks: %d and %d polls (target %d plus polls)" % (others, polls, HOST_TASKS))
    number = os.environ.get("MAD_KILLS") or "20"
    survived = killed(number)
    print("   controller killed %s times: %s" % (number, "the same rows, nothing twice" if survived else "NOT THE SAME"))
    return 0 if extra <= target and others <= HOST_TASKS and survived else 1


if __name__ == "__main__":
    sys.exit(main())
