# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's step between discovery and builds: who plans first, and what git says of the repository."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
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
    return planning.Request(str(repo), [tag] if tag else [], "", hosts, options, {}, ["ansible-playbook"], "1.2.3", str(folder / "cache"))


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


def test_tags_beside_a_manifest_are_said_to_have_no_effect(repo: Path, tmp_path: Path) -> None:
    path = tmp_path / "build_manifest.json"
    path.write_text(json.dumps({"built_images": {"ci-any": {"model": "any"}}, "built_models": {"ci-any": MODEL}}))
    told = [planning.make(request(repo, "c", tag)._replace(manifest=str(path), check=True)).plan["warnings"] for tag in ("t", "")]
    assert ["mad_tags has no effect beside mad_manifest" in " ".join(warnings) for warnings in told] == [True, False]


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_a_play_out_of_a_git_hook_names_the_repository_s_own_commit(
    repo: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Git tells its hooks, and what they start, where its own repository is."""
    known = commit(repo)
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    monkeypatch.setenv(name, str(other / {"GIT_DIR": ".git", "GIT_WORK_TREE": ".", "GIT_INDEX_FILE": ".git/index"}[name]))
    assert planning.git_state(str(repo)) == (known, False)


def test_what_no_commit_has_is_a_difference(repo: Path) -> None:
    """A new script runs like a tracked one; results and caches beside it reach no run."""
    known = commit(repo)
    (repo / "results").mkdir()
    (repo / "results" / "history.db").write_text("x")
    (repo / "scripts" / "__pycache__").mkdir()
    (repo / "scripts" / "__pycache__" / "x.pyc").write_text("x")
    assert planning.git_state(str(repo)) == (known, False)
    new = repo / "scripts" / "neu \u00e4.sh"
    diffs = []
    for text in ("echo 1\n", "echo 2\n"):
        new.write_text(text)
        assert planning.git_state(str(repo)) == (known, True)
        diffs.append(planning.git_diff(str(repo)))
    assert len(set(diffs)) == 2 and all(len(diff) == 16 for diff in diffs)


def test_a_repository_that_another_one_does_not_track(repo: Path) -> None:
    """A copy inside some checkout, ignored there or not: its commit says nothing about these files."""
    git(repo, "init", "-q")
    inner = repo / "copy"
    shutil.copytree(repo, inner, ignore=shutil.ignore_patterns(".git", "copy"))
    (repo / ".gitignore").write_text("copy\n")
    git(repo, "add", ".gitignore")
    git(repo, "commit", "-qm", "one")
    assert planning.git_state(str(inner))[1] is True


def test_git_without_a_commit_is_said(repo: Path) -> None:
    git(repo, "init", "-q")
    planned = planning.make(request(repo, "c1"))
    assert planned.plan["repo"]["commit"] == ""
    assert any("git names no commit" in text for text in planned.plan["warnings"])
