# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller knows of a host's runs before they are staged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_tree
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_manifest
from ansible_collections.mad.engine.plugins.module_utils.planning.run_id import LENGTH
from ansible_collections.mad.engine.plugins.plugin_utils.host_runs import HostRuns, Secrets
from ansible_collections.mad.engine.tests.support.records import make_campaign, make_run

Change = Callable[[Path], object]


def of_repository(tmp_path: Path) -> tuple[HostRuns, Path]:
    """A host's two runs, of two models, as they were planned; and the repository."""
    repo = tmp_path / "repo"
    for name in ("one", "two", "common"):
        (repo / "scripts" / name).mkdir(parents=True)
        (repo / "scripts" / name / "run.sh").write_text("echo %s" % name)
    hashes = {name: hash_tree(str(repo / "scripts" / name))[:LENGTH] for name in ("one", "two", "common")}
    runs = []
    for number, name in ((1, "one"), (2, "two")):
        command = {"argv": ["bash", "run.sh"], "scripts": "scripts/%s/run.sh" % name, "directory": "scripts/" + name}
        runs.append(make_run(number, command=command, content={"scripts": hashes[name], "tools": hashes["common"]}))
    campaign = make_campaign(tmp_path / "results", runs)
    campaign.save_plan(dict(campaign.plan(), repo={"path": str(repo)}))
    return HostRuns(campaign, "n1"), repo


@pytest.mark.parametrize(
    "change, left",
    [
        (lambda repo: (repo / "README").write_text("not theirs"), ["one", "two"]),
        (lambda repo: (repo / "scripts" / "one" / "run.sh").write_text("echo other"), ["two"]),
        (lambda repo: (repo / "scripts" / "one" / "more.py").write_text(""), ["two"]),
        (lambda repo: shutil.rmtree(repo / "scripts" / "one"), ["two"]),
        (lambda repo: (repo / "scripts" / "common" / "run.sh").unlink(), []),
    ],
)
def test_scripts_that_changed_after_the_plan_cost_their_models_the_run(tmp_path: Path, change: Change, left: list[str]) -> None:
    """A row says what was measured: what somebody edits while images are built does not run under the id of what was there."""
    mine, repo = of_repository(tmp_path)
    change(repo)
    good, gone = mine.unchanged(mine.open_runs())
    assert [run["command"]["directory"] for run in good] == ["scripts/" + name for name in left]
    assert len(good) + len(gone) == 2 and {found["failure_class"] for found in gone} <= {"invalid"}
    assert all("was changed after the run was planned; run the play again" in found["reason"] for found in gone)


def test_what_the_host_has_begun_stays_what_it_was(tmp_path: Path) -> None:
    mine, repo = of_repository(tmp_path)
    runs = mine.open_runs()
    mine.acknowledge({runs[0]["id"]: {"attempt": 1, "folder": "/w", "boot_id": "b", "queued": 1.0}})
    shutil.rmtree(repo)
    assert [run["id"] for run in mine.unchanged(runs)[0]] == [runs[0]["id"]]


def test_secrets_that_only_cards_of_the_repository_hold(tmp_path: Path) -> None:
    """A card that is wrong by now, or that is gone, costs no other model its secret."""
    cards = [
        {
            "name": name,
            "dockerfile": "docker/x",
            "scripts": "scripts/x/run.sh",
            "n_gpus": "1",
            "args": "",
            "tags": [],
            "env_vars": {"HF_TOKEN": "of-" + name},
        }
        for name in ("one", "two", "wrong")
    ]
    cards[2]["n_gpus"] = []
    (tmp_path / "scripts").mkdir()
    (tmp_path / "models.json").write_text(json.dumps(cards))
    secrets = Secrets({"GIVEN_TOKEN": 7}, "", str(tmp_path), dict)
    runs = [make_run(number, model=name, secret_env=["HF_TOKEN"]) for number, name in enumerate(["one", "two", "wrong"], 1)]
    runs += [make_run(4), make_run(5, secret_env=["GIVEN_TOKEN"])]
    found = secrets.of(runs)
    assert list(found.values()) == [{"HF_TOKEN": "of-one"}, {"HF_TOKEN": "of-two"}, {}, {"GIVEN_TOKEN": "7"}]
    assert secrets.of([*runs, make_run(6, model="gone", secret_env=["HF_TOKEN"])]) == dict(found, **{make_run(6)["id"]: {}})


def test_secrets_of_a_manifest(tmp_path: Path) -> None:
    """madengine writes them into it: into the card's variables and into its context. The plan's copies hold none, so they are read again."""
    path = tmp_path / "build_manifest.json"
    card = {"name": "m", "scripts": "scripts/one/run.sh", "env_vars": {"CARD_TOKEN": "of the card"}}
    images = {name: {"model": "m", "docker_image": name} for name in ("ci-a", "ci-b")}
    models = {"ci-a": dict(card, env_vars={"CARD_TOKEN": "of another image"}), "ci-b": card}
    path.write_text(json.dumps({"built_images": images, "built_models": models, "context": {"docker_env_vars": {"HF_TOKEN": "of the context"}}}))
    run = make_run(1, model="m", card={"name": "m"}, image={"name": "ci-b"}, secret_env=["CARD_TOKEN", "HF_TOKEN"])
    campaign = make_campaign(tmp_path / "results", [run])
    campaign.save_plan(dict(campaign.plan(), options={"manifest": str(path)}, repo={"path": str(tmp_path)}))
    mine = HostRuns(campaign, "n1")
    layer = plan_manifest.context_layer(mine.manifest or {})
    assert Secrets({}, "", mine.repo, lambda: layer, mine.manifest).of([run])[run["id"]] == {"CARD_TOKEN": "of the card", "HF_TOKEN": "of the context"}
