# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning a run of the past again, exactly: with its card, settings, host and runtime, from the repository as it is or as its commit was.

Whether it is the same run is not believed but checked: it must get the same id, and an id is made of all content. What differs is said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building.manifest import without_secrets

from . import past
from .past import Past
from .place import database_url

FOLDER = ".replay"  # in mad_results: repositories as they were
# A repository may be somebody else's (in a container it often is); it is never written to, its index included, and runs nothing of its own.
GIT = ("git", "--no-optional-locks", "-c", "safe.directory=*", "-c", "core.fsmonitor=false")
_ELSEWHERE = ("DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "PREFIX", "NAMESPACE")
_SECONDS = 600
# Options that decide what a run is; the others (retries, timeouts of the play) are those of now.
_OF_THEN = ("target_archs", "disable_skip_gpu_arch", "ignore_deprecated", "timeout")
_PARTS = {
    "card": "the model's card (or it holds a secret, which no plan keeps)",
    "args": "its arguments",
    "build_args": "the build arguments",
    "context": "the settings (mad_context, presets, names of secrets in the environment or the credential file)",
    "scripts": "the files of its script's directory",
    "pre_post": "the pre- or post-scripts",
    "docker": "the Dockerfile or its build context",
    "tools": "scripts/common",
    "data": "the data",
    "variant": "which Dockerfile was chosen",
    "runtime": "the runtime that was asked for",
}

Plan = dict[str, Any]
MakePlan = Callable[[str], Plan]  # the plan of all repeats from a repository


def find(results: str, given_database: str, wanted: str) -> Past:
    """The run to replay; InvalidInput when its plan is not there any more."""
    found = past.find(results, database_url(results, given_database), wanted, what="mad_replay")
    if not found.run:
        raise InvalidInput(
            "mad_replay %s: its campaign folder is gone from %s, and with it the plan; a row of the history is not enough"
            % (wanted, results)
        )
    if not found.run.get("content"):
        raise InvalidInput("mad_replay %s: it was planned by a release that did not record what its id was made of" % wanted)
    return found


def options(then: Past, now: Mapping[str, Any]) -> dict[str, Any]:
    """The options to plan with."""
    kept = {name: then.plan["options"][name] for name in _OF_THEN if name in then.plan.get("options", {})}
    return {**now, **kept, "repeats": then.run["repeat"]}


def settle(then: Past, hosts: dict[str, dict[str, Any]]) -> None:
    """Give the run's host the settings of then; secrets are those of now, for nobody kept them."""
    name = then.run["place"]["host"]
    if name not in hosts:
        raise InvalidInput(
            "mad_replay %s ran on host %s, which is not in this play; its hosts: %s" % (then.name, name, ", ".join(list(hosts)[:20]))
        )
    context = ((then.plan.get("hosts") or {}).get(name) or {}).get("context") or {}
    hosts[name].update(context=with_secrets(context, hosts[name]["context"]), runtime=then.run["content"]["runtime"])


def with_secrets(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """`then` with the entries of `now` that a plan leaves out because their name is secret."""
    merged = dict(then)
    for key, value in now.items():
        if key not in then and not without_secrets({key: value}):
            merged[key] = value
        elif isinstance(value, Mapping) and isinstance(then.get(key), Mapping):
            merged[key] = with_secrets(then[key], value)
    return merged


def plan_again(then: Past, make_plan: MakePlan, repo: str, scratch: str) -> Plan:
    """A plan of just that run: from the repository as it is, else as it was at the run's commit. InvalidInput says what differs."""
    made = make_plan(repo)
    if _keep(then, made):
        return made
    reasons = ["now: " + _differences(then, made)]
    commit = str(then.record.get("repo_commit") or "")
    try:
        folder = checkout(repo, commit, scratch)
        made = make_plan(folder)
        if _keep(then, made):
            made["repo"].update(commit=commit, dirty=False, diff="")
            return made
        reasons.append("at its commit %s: %s" % (commit[:12], _differences(then, made)))
    except InvalidInput as error:
        reasons.append(error.message)
    if then.record.get("dirty"):
        reasons.append("its repository held changes that were not committed (%s)" % (then.record.get("repo_diff") or "not recorded which"))
    raise InvalidInput("run %s of model %s cannot be reproduced: %s" % (then.name, then.run["model"], "; ".join(reasons)))


def _keep(then: Past, made: Plan) -> bool:
    """Leave only that run in a plan; False when it is not in it."""
    found = [run for run in made["runs"] if run["id"] == then.run_id]
    if found:
        made["runs"] = found
    return bool(found)


def _differences(then: Past, made: Plan) -> str:
    wanted = then.run
    mine = [run for run in made["runs"] if run["place"]["host"] == wanted["place"]["host"] and run["repeat"] == wanted["repeat"]]
    mine.sort(key=lambda run: run["content"].get("variant") != wanted["content"].get("variant"))
    if not mine:
        return "no run of it can be planned"
    parts = [text for name, text in _PARTS.items() if mine[0]["content"].get(name) != wanted["content"].get(name)]
    return "other than then: " + ", ".join(parts) if parts else "its place has another target"


def changes(then: Past, hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What no plan can bring back: the machine and the image. For the warnings of the plan."""
    place = then.run["place"]["host"]
    before, now = then.record.get("host") or {}, hosts[place].get("facts") or {}
    found = []
    for name, pick in _FACTS.items():
        old, new = pick(before), pick(now)
        if now and old != new:
            found.append(
                "replay of %s: host %s has %s %s now, then it was %s" % (then.name, place, name, new or "unknown", old or "unknown")
            )
    image = then.record.get("image") or {}
    if image.get("digest") and not image.get("given"):
        found.append(
            "replay of %s: image %s is made of the same Dockerfile and files; its digest was %s, and the image it builds on may have moved; "
            "mad.engine.explain tells afterwards" % (then.name, image.get("name"), image["digest"])
        )
    return found


_FACTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "kernel": lambda facts: facts.get("kernel"),
    "GPU driver": lambda facts: (facts.get("gpu") or {}).get("driver"),
    "governor": lambda facts: (facts.get("cpu") or {}).get("governor"),
    "firmware": lambda facts: facts.get("firmware"),
    "NUMA nodes": lambda facts: facts.get("numa"),
}


# -- the repository as it was ----------------------------------------------------------------------------------------------------


def checkout(repo: str, commit: str, folder: str) -> str:
    """The files of a commit below a folder of ours; the repository is only read. InvalidInput when it has no such commit."""
    if not commit:
        raise InvalidInput("its repository was not under git, so that it cannot be had as it was")
    inside = _git(repo, "rev-parse", "--show-prefix").rstrip("\n").strip("/")
    target = os.path.join(folder, commit)
    if not os.path.isdir(target):
        try:
            _git(repo, "cat-file", "-e", commit + "^{commit}")
        except InvalidInput as error:
            raise InvalidInput("its commit %s is not in %s (git fetch may bring it)" % (commit, repo)) from error
        os.makedirs(folder, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix="new-", dir=folder)
        try:
            index = os.path.join(scratch, "index")
            _git(repo, "read-tree", commit, index=index)
            _git(repo, "checkout-index", "--all", "--force", "--prefix=%s/" % os.path.join(scratch, "files"), index=index)
            os.makedirs(os.path.join(scratch, "files"), exist_ok=True)
            os.rename(os.path.join(scratch, "files"), target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return os.path.join(target, inside) if inside else target


def git_environment() -> dict[str, str]:
    """The environment for git: a play that a git hook started would otherwise look into the hook's repository, whatever -C says."""
    return {name: value for name, value in os.environ.items() if name not in ["GIT_" + word for word in _ELSEWHERE]}


def _git(repo: str, *arguments: str, index: str = "") -> str:
    where = repo if arguments[0] == "rev-parse" else _git(repo, "rev-parse", "--show-toplevel").rstrip("\n")
    environ = {**git_environment(), **({"GIT_INDEX_FILE": index} if index else {})}
    try:
        done = subprocess.run(
            [*GIT, "-C", where, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
            env=environ,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidInput("git %s in %s: %s" % (arguments[0], repo, error)) from error
    if done.returncode:
        raise InvalidInput("git %s in %s failed: %s" % (arguments[0], repo, " ".join(done.stderr.split())[:300]))
    return done.stdout
