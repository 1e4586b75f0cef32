# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's step between discovery and builds: who plans first, and what git says of the repository."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.plugin_utils import planning
from ansible_collections.mad.engine.tests.support import components, plans

MODEL = {"name": "any", "dockerfile": "docker/any", "scripts": "scripts/dummy/run.sh", "args": "", "tags": ["t"], "n_gpus": "1"}


def git(repo: Path, *arguments: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(repo), *own, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one model, not under git."""
    folder = plans.repository(tmp_path / "repo")
    (folder / "models.json").write_text(json.dumps([MODEL]))
    return folder


def request(repo: Path, campaign: str, tag: str = "t") -> planning.Request:
    folder = repo.parent
    options = planning.parse_options({"results": str(folder / "results"), "campaign": campaign})
    hosts = {"n1": {"facts": plans.facts(), "context": {}}}
    return planning.Request(str(repo), [tag], "", hosts, options, {}, ["ansible-playbook"], "1.2.3", str(folder / "cache"))


def commit(repo: Path) -> str:
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "one")
    return git(repo, "rev-parse", "HEAD")


def test_of_controllers_that_begin_one_campaign_at_once_all_but_one_continue_it(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = planning.plan.make_plan

    def make_plan(*words: Any) -> Any:
        time.sleep(0.2)  # whoever does not wait for the first has looked for its plan by now
        return slow(*words)

    monkeypatch.setattr(planning.plan, "make_plan", make_plan)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        made = list(pool.map(planning.make, [request(repo, "nightly")] * 3))
    assert sorted(planned.changed for planned in made) == [False, False, True]
    assert len({planned.plan["created"] for planned in made}) == 1


def test_a_repository_of_somebody_else_still_names_its_commit(repo: Path) -> None:
    """In a container the project folder usually belongs to another user, whom git does not trust unasked."""
    components.require("root")
    known = commit(repo)
    for folder, names, files in os.walk(repo):
        for name in [".", *names, *files]:
            os.lchown(os.path.join(folder, name), 12345, 12345)
    assert planning.git_state(str(repo)) == (known, False)


def test_the_repository_is_not_written_to(repo: Path) -> None:
    """Not even the index, which `git status` would refresh."""
    commit(repo)
    path = repo / "models.json"
    os.utime(path, (1, 1))
    before = (repo / ".git" / "index").read_bytes()
    assert planning.git_state(str(repo))[1] is False
    assert (repo / ".git" / "index").read_bytes() == before


def test_git_without_a_commit_is_said(repo: Path) -> None:
    git(repo, "init", "-q")
    planned = planning.make(request(repo, "c1"))
    assert planned.plan["repo"]["commit"] == ""
    assert any("git names no commit" in text for text in planned.plan["warnings"])
