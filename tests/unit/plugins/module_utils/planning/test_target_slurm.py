# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan on target slurm: what the context declares of nodes decides, and what cannot work is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts, target_slurm, targets
from ansible_collections.mad.engine.tests.support import plans


def host(**context: Any) -> dict[str, Any]:
    given = {"context": {"deploy": "slurm", "gpu_vendor": "AMD", **context}, "facts": {"gpu": {"vendor": "NONE"}, "engines": {}}}
    made, dummy = plan_hosts.make_host("login", given, lambda path: {})
    return made


def test_the_login_nodes_own_facts_are_not_its_nodes() -> None:
    made = host(slurm={"gpus_per_node": 4, "partition": "gpu"})
    assert (made["facts"]["gpu"]["vendor"], made["facts"]["gpu"]["count"]) == ("AMD", 4)
    assert made["machine"]["gpu"]["vendor"] == "NONE" and made["context"]["n_gpus"] == 4
    assert targets.of(made["context"]).place(made["context"]) == {"partition": "gpu"}


def test_nodes_without_gpus() -> None:
    made = host(gpu_vendor="NONE")
    assert made["context"]["n_gpus"] == 0 and made["facts"]["gpu"]["devices"] == []


def test_what_is_said_at_the_top_counts_above_the_section() -> None:
    assert host(n_gpus=2, slurm={"gpus_per_node": 8})["context"]["n_gpus"] == 2


@pytest.mark.parametrize(("asked", "expected"), [("", "docker"), ("podman", "podman"), ("host", "host")])
def test_what_auto_means(asked: str, expected: str) -> None:
    context = host(slurm={"runtime": asked})["context"]
    assert targets.of(context).runtime(context) == expected


@pytest.mark.parametrize(
    ("context", "options", "words"),
    [
        ({"gpu_vendor": ""}, {}, "needs gpu_vendor in mad_context"),
        ({"docker_gpus": "0-3"}, {}, "docker_gpus cannot be set for target slurm: Slurm chooses"),
        ({}, {"keep_alive": True}, "mad_keep_alive is not supported for target slurm"),
        ({"slurm": {"partitoin": "x"}}, {}, "did you mean partition"),
    ],
)
def test_refusals_name_what_and_why(context: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        targets.check("login", {"deploy": "slurm", "gpu_vendor": "AMD", **context}, options)


# Cards of public repositories with a section of their own, and a placeholder where the image's name belongs.
OWN = {
    "distributed": {"launcher": "slurm_multi"},
    "slurm": {"nodes": 2, "gpus_per_node": 8, "time": "24:00:00", "partition": "theirs"},
    "env_vars": {"DOCKER_IMAGE_NAME": "<supply-your-image>", "xP": "1"},
    "scripts": "scripts/dummy/job.slurm",
    "timeout": -1,
}


def planned(repo: Path, layer: dict[str, Any], card: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    given = {"context": {"deploy": "slurm", "gpu_vendor": "AMD", **layer}, "facts": plans.facts()}
    login, dummy = plan_hosts.make_host("login", given, lambda path: {})
    return plans.make(plans.repository(repo), [plans.card(**(card or OWN))], {"login": login}, **options)


def test_a_cards_own_section(tmp_path: Path) -> None:
    made = planned(tmp_path, {"slurm": {"gpus_per_node": 8}})
    (run,) = made["runs"]
    assert run["outcome"] is None
    assert (run["launcher"]["nnodes"], run["timeout"], run["command"]["argv"]) == (2, 86400, ["bash", "job.slurm"])
    assert [warning for warning in made["warnings"] if "slurm.partition of the card has no effect" in warning]
    assert not [warning for warning in made["warnings"] if "gpus_per_node" in warning]


def test_the_context_counts_above_a_cards_own_section(tmp_path: Path) -> None:
    run = planned(tmp_path, {"slurm": {"gpus_per_node": 8}, "distributed": {"nnodes": 4}, "timeout": 60})["runs"][0]
    assert (run["launcher"]["nnodes"], run["timeout"]) == (4, 60)
    assert planned(tmp_path, {"slurm": {}}, dict(OWN, timeout=99))["runs"][0]["timeout"] == 99


@pytest.mark.parametrize(("section", "word"), [({"nodes": "two"}, "slurm.nodes"), ({"time": "soon"}, "slurm.time"), ({"nodes": 0.5}, "slurm.nodes")])
def test_a_broken_section_is_named(tmp_path: Path, section: dict[str, Any], word: str) -> None:
    plans.fails(planned(tmp_path, {"slurm": {}}, dict(OWN, slurm=section))["runs"][0], "invalid", "dummy", word)


def test_the_placeholder_of_a_card_makes_way_for_the_image(tmp_path: Path) -> None:
    run = planned(tmp_path, {"slurm": {}, "MAD_CONTAINER_IMAGE": "mine:1"})["runs"][0]
    assert "DOCKER_IMAGE_NAME" not in run["env"] and "DOCKER_IMAGE_NAME" not in run["given_env"], "the job's script sets it"
    assert run["env"]["xP"] == "1"
    mine = planned(tmp_path, {"slurm": {}, "env_vars": {"DOCKER_IMAGE_NAME": "other:2"}})["runs"][0]
    assert mine["env"]["DOCKER_IMAGE_NAME"] == "other:2" and "DOCKER_IMAGE_NAME" in mine["given_env"]


def test_without_an_engine_a_placeholder_is_refused(tmp_path: Path) -> None:
    plans.fails(planned(tmp_path, {"slurm": {"runtime": "host"}})["runs"][0], "invalid", "placeholder <supply-your-image>", "MAD_CONTAINER_IMAGE")
    card = dict(OWN, env_vars={"DOCKER_IMAGE_NAME": "theirs:3"})
    assert planned(tmp_path, {"slurm": {"runtime": "host"}}, card)["runs"][0]["env"]["DOCKER_IMAGE_NAME"] == "theirs:3"


def test_limits_that_cannot_be_read_count_as_none() -> None:
    assert [target_slurm.card_seconds({"slurm": {"time": time}}) for time in ("soon", None, "01:00:00")] == [0, 0, 3600]
