# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of a play: order of the layers, facts, what does not answer."""

from __future__ import annotations

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_hosts
from ansible_collections.mad.engine.tests.support import plans

FILES = {"/c.json": {"env_vars": {"A": "file", "B": "file", "C": "file", "D": "file"}}, "/play.json": {"env_vars": {"A": "play", "F": "play"}}}


def load(path: str) -> dict:
    return FILES[path]


def made(**given: object) -> dict:
    return plan_hosts.make_host(
        "n1", dict({"facts": plans.facts()}, **given), load, ("m.json", {"env_vars": {"A": "m", "B": "m", "C": "m", "D": "m", "E": "m"}})
    )[0]


def test_the_layers_in_order() -> None:
    host = made(context_file="/c.json", play_context="{'env_vars': {'B': 'play', 'C': 'play'}}", context={"env_vars": {"C": "host"}})
    assert host["context"]["env_vars"] == {"A": "file", "B": "play", "C": "host", "D": "file", "E": "m"}
    assert host["reachable"] and host["facts"]["gpu"]["vendor"] == "AMD"


def test_a_host_s_file_lies_above_the_play_s() -> None:
    host = made(context_file="/c.json", play_context_file="/play.json")
    assert host["context"]["env_vars"] == {"A": "file", "B": "file", "C": "file", "D": "file", "E": "m", "F": "play"}
    assert made(play_context_file="/play.json")["context"]["env_vars"]["A"] == "play"


def test_presets_lie_below() -> None:
    host = made(context={"slurm": {"partition": "p"}})
    assert host["context"]["slurm"]["gpus_per_node"] == 8 and "OMP_NUM_THREADS" not in host["context"]["env_vars"]


def test_the_target_is_the_last_word() -> None:
    assert made(context={}, target="docker")["context"]["deploy"] == "local"
    with pytest.raises(InvalidInput, match="^Conflicting deployment configuration"):
        made(context={"slurm": {}}, target="local")


OF_SLURM = {"deploy": "slurm", "slurm": {"partition": "p"}, "distributed": {"nnodes": 1}, "env_vars": {"A": "m"}}


@pytest.mark.parametrize(
    ("given", "target", "kept"),
    [
        ({}, "slurm", True),
        ({"context": {"env_vars": {"B": "1"}}}, "slurm", True),
        ({"context": {"slurm": {"qos": "q"}}}, "slurm", True),
        ({"target": "slurm"}, "slurm", True),
        ({"target": "local"}, "local", False),
        ({"context": {"deploy": "docker"}}, "local", False),
        ({"context": "{'k8s': {}, 'gpu_vendor': 'NONE'}"}, "k8s", False),
        ({"play_context": {"kubernetes": {"namespace": "n"}, "gpu_vendor": "NONE"}}, "k8s", False),
    ],
)
def test_a_host_chooses_another_target_than_the_manifest(given: dict, target: str, kept: bool) -> None:
    """What was built for a cluster runs on a machine, too; what the manifest says beside the cluster stays."""
    context = plan_hosts.make_host("n1", dict({"facts": plans.facts()}, **given), load, ("m.json", OF_SLURM))[0]["context"]
    assert context["deploy"] == target and context["env_vars"]["A"] == "m"
    assert ((context.get("slurm") or {}).get("partition") == "p") is kept


def test_errors_name_the_manifest() -> None:
    with pytest.raises(InvalidInput, match="^the build manifest /b/m.json: deploy: expected one of"):
        plan_hosts.make_host("n1", {"facts": plans.facts()}, load, ("/b/m.json", {"deploy": "cloud"}))


@pytest.mark.parametrize("empty", [None, "", "  ", {}])
def test_empty_answers(empty: object) -> None:
    assert made(context=empty, play_context=empty, context_file="", target="", runtime="")["runtime"] == ""


@pytest.mark.parametrize(
    "given,reason",
    [
        ({"facts": None, "unreachable": True, "reason": "ssh:\nno route"}, "ssh: no route"),
        ({"facts": {}, "reachable": False}, ""),
        ({"facts": None}, "mad.engine.gpu_info gave no facts of it"),
        ({"facts": {}, "reason": "no python"}, "no python"),
    ],
)
def test_a_host_that_does_not_answer(given: dict, reason: str) -> None:
    host = made(**given)
    assert (host["reachable"], host["reason"], host["facts"]) == (False, reason, None)


@pytest.mark.parametrize("given,words", [({"context": "[1]"}, "mad_context of host n1"), ({"play_context": "{"}, "mad_context of the play"),
                                         ({"context": {"docker_gpus": []}}, "mad_context of host n1: docker_gpus"), ({"facts": "x"}, "facts"),
                                         ({"context_flie": "x"}, "context_flie"),
                                         ({"context": {"slurm": {"partion": "p"}}}, "^host n1: slurm.partion.*partition")])  # fmt: skip
def test_errors_name_host_and_key(given: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        made(**given)


def test_a_file_is_read_once_and_a_warning_said_once() -> None:
    reads = []

    def count(path: str) -> dict:
        reads.append(path)
        return {"gpu_vender": "AMD"}

    hosts, warnings = plan_hosts.make_hosts({"n%d" % number: {"context_file": "/x", "facts": plans.facts()} for number in range(50)}, count)
    assert len(hosts) == 50 and reads == ["/x"] and len(warnings) == 1
