# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan on target slurm: what the context declares of nodes decides, and what cannot work is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts, targets


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
