# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of the past, planned again: the same id from the repository as it is or as it was, or a reason why it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.plugin_utils import planning
from ansible_collections.mad.engine.plugins.plugin_utils.history import replay
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.records import make_outcome, make_parsed

CONTEXT = {"docker_env_vars": {"A": "1", "MY_TOKEN": "hunter2-secret"}}
MODEL = {"name": "any", "dockerfile": "docker/any", "scripts": "scripts/dummy/run.sh", "args": "--x 1", "tags": ["t"], "n_gpus": "1"}


def git(repo: Path, *arguments: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(repo), *own, *arguments], check=True, capture_output=True)


def request(folder: Path, campaign: str, context: Any = None, **changes: Any) -> planning.Request:
    options = planning.parse_options({"results": str(folder / "results"), "campaign": campaign, "repeats": 2})
    hosts = {name: {"facts": plans.facts(), "context": CONTEXT if context is None else context} for name in ("n1", "n2")}
    asked = planning.Request(
        str(folder / "repo"), ["t:batch=4"], "", hosts, options, {}, ["ansible-playbook"], "1.2.3", str(folder / "cache")
    )
    return asked._replace(**changes)


@pytest.fixture
def past(tmp_path: Path) -> Any:
    """(folder, the second repeat on n2 of a campaign that was planned, ran and has a row)."""
    repo = plans.repository(tmp_path / "repo")
    (repo / "models.json").write_text(json.dumps([MODEL]))
    git(repo, "init", "-q")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "one")
    made = planning.make(request(tmp_path, "first"))
    run = next(run for run in made.plan["runs"] if run["place"]["host"] == "n2" and run["repeat"] == 2)
    record = records.make_record(run, make_outcome(), make_parsed(), plans.facts())
    made.campaign.save_result({**record, "repo_commit": made.plan["repo"]["commit"]})
    return tmp_path, run


def again(folder: Path, run: dict[str, Any], **changes: Any) -> planning.Planned:
    options = planning.parse_options({"results": str(folder / "results"), "campaign": "again"})
    asked = request(folder, "again", tags=[], replay="first/" + run["id"][:8], repo="", options=options)
    return planning.make(asked._replace(**changes))


def test_the_same_run_and_no_other(past: Any) -> None:
    folder, run = past
    made = again(folder, run)
    (planned,) = made.plan["runs"]
    assert (planned["id"], planned["repeat"], planned["place"]["host"], planned["args"]) == (run["id"], 2, "n2", "--x 1 --batch 4")
    assert planned["command"] == run["command"] and planned["env"] == run["env"] and planned["secret_env"] == ["MY_TOKEN"]
    assert made.plan["repo"]["path"] == str(folder / "repo") and made.campaign.name == "again"
    assert [build["image"] for build in made.plan["builds"]] == [run["image"]["name"]]
    assert "hunter2" not in json.dumps(made.plan)


def test_settings_of_now_do_not_count_but_secrets_do(past: Any) -> None:
    folder, run = past
    hosts = {"n2": {"facts": plans.facts(), "context": {"docker_env_vars": {"A": "9", "MY_TOKEN": "other-secret"}, "timeout": 5}}}
    assert again(folder, run, hosts=hosts).plan["runs"][0]["env"]["A"] == "1"
    with pytest.raises(InvalidInput, match=r"cannot be reproduced: now: other than then: the settings \("):
        again(folder, run, hosts={"n2": {"facts": plans.facts(), "context": {}}})


def test_from_its_commit_when_the_repository_went_on(past: Any) -> None:
    folder, run = past
    before = sorted(os.listdir(folder / "repo" / ".git"))
    (folder / "repo" / "scripts" / "dummy" / "run.sh").write_text("echo performance: 2 x\n")
    git(folder / "repo", "commit", "-q", "-a", "-m", "two")
    made = again(folder, run)
    assert made.plan["runs"][0]["id"] == run["id"]
    commit = made.plan["repo"]["commit"]
    assert made.plan["repo"] == {"path": str(folder / "results" / ".replay" / commit), "commit": commit, "dirty": False, "diff": ""}
    script = folder / "results" / ".replay" / commit / "scripts" / "dummy" / "run.sh"
    assert script.read_text() == "echo performance: 1 x\n"
    assert sorted(set(os.listdir(folder / "repo" / ".git")) - {"COMMIT_EDITMSG"}) == sorted(set(before) - {"COMMIT_EDITMSG"})
    assert os.listdir(folder / "results" / ".replay") == [commit]
    assert again(folder, run).plan["runs"][0]["id"] == run["id"]  # and once more, continuing


def test_looking_only_leaves_nothing(past: Any) -> None:
    folder, run = past
    (folder / "repo" / "scripts" / "dummy" / "run.sh").write_text("echo performance: 2 x\n")
    assert again(folder, run, check=True).plan["runs"][0]["id"] == run["id"]
    assert sorted(name for name in os.listdir(folder / "results") if not name.startswith(".")) == ["first"]


def test_what_cannot_be_had_is_named(past: Any) -> None:
    folder, run = past
    (folder / "repo" / "scripts" / "dummy" / "run.sh").write_text("echo performance: 2 x\n")
    (folder / "repo" / "docker" / "any.ubuntu.Dockerfile").write_text('# CONTEXT {"guest_os": "UBUNTU"}\nFROM y\n')
    path = folder / "results" / "first" / "runs" / run["id"] / "result.json"
    record = json.loads(path.read_text())
    record.update(repo_commit="0" * 40, dirty=True, repo_diff="abc")
    path.write_text(json.dumps(record))
    for attempt in path.parent.glob("attempt-*.json"):
        attempt.unlink()
    with pytest.raises(InvalidInput) as caught:
        again(folder, run)
    for part in (
        "run first/%s of model any cannot be reproduced" % run["id"], "the files of its script's directory, the Dockerfile",
        "its commit %s is not in %s" % ("0" * 40, folder / "repo"), "changes that were not committed (abc)",
    ):  # fmt: skip
        assert part in caught.value.message


def test_a_machine_that_changed_is_a_warning(past: Any) -> None:
    folder, run = past
    hosts = {"n2": {"facts": {**plans.facts(), "kernel": "7.0"}, "context": CONTEXT}}
    warnings = "\n".join(again(folder, run, hosts=hosts).plan["warnings"])
    assert "host n2 has kernel 7.0 now, then it was unknown" in warnings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hosts": {"n1": {"facts": plans.facts()}}}, "ran on host n2, which is not in this play; its hosts: n1"),
        ({"tags": ["t"]}, "mad_tags and mad_manifest cannot be given beside it"),
        ({"repo": "/nonexistent"}, "the model repository /nonexistent is not there"),
        ({"replay": "first/ffff"}, "no such run in campaign first"),
    ],
)
def test_refusals(past: Any, changes: dict[str, Any], words: str) -> None:
    folder, run = past
    with pytest.raises(InvalidInput, match=words):
        again(folder, run, **changes)
    with pytest.raises(InvalidInput, match="give the replay another mad_campaign"):
        again(folder, run, options=planning.parse_options({"results": str(folder / "results"), "campaign": "first"}))


def test_secrets_come_from_now() -> None:
    then = {"docker_env_vars": {"A": "1"}, "b": 1}
    now = {"docker_env_vars": {"A": "2", "API_KEY": "x"}, "password": "y", "c": 3, "b": {"token": "z"}}
    assert replay.with_secrets(then, now) == {"docker_env_vars": {"A": "1", "API_KEY": "x"}, "password": "y", "b": 1}
