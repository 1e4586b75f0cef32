# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/kubernetes.md and the example inventory say what is true: options, contexts, rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_cordon, k8s_options, k8s_steps
from ansible_collections.mad.engine.plugins.plugin_utils import k8s_objects
from ansible_collections.mad.engine.tests.support.k8s_runs import make_options, make_run

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n# (.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> List[Dict[str, Any]]:
    return [yaml.safe_load(text) for what, text in BLOCKS if what == kind]


@pytest.mark.parametrize("number", range(len(blocks("context"))))
def test_every_context_is_taken_without_a_warning(number: int) -> None:
    given = blocks("context")[number]
    options = make_options(given)
    assert options.warnings == ()
    nodes = (given.get("distributed") or {}).get("nnodes", 1)
    rendered = k8s_objects.render(make_run(1, "torchrun", nodes), options, {})
    assert rendered["job"]["metadata"]["namespace"] == options.namespace


def test_every_option_is_documented_and_every_documented_one_exists() -> None:
    table = PAGE.partition("| option | default | means |")[2].partition("\n## ")[0]
    documented = {
        name for line in table.splitlines() for name in re.findall(r"`([a-z_]+)`", line.split("|")[1] if line.count("|") > 2 else "")
    }
    assert documented == set(k8s_options.KEYS)


def test_the_example_inventory_is_taken() -> None:
    inventory = yaml.safe_load((ROOT / "inventories" / "k8s.example" / "hosts.yml").read_text("utf-8"))
    options = make_options(inventory["all"]["hosts"]["cluster"]["mad_context"])
    assert options.warnings == () and options.namespace == "default" and options.gpu_resource == ""


def test_the_right_to_cordon_is_the_one_that_is_asked_for() -> None:
    (role,) = blocks("the ClusterRole to cordon")
    assert {(verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]} == set(k8s_cordon.RIGHTS)


def rights() -> set[tuple[str, str]]:
    (role,), (cluster_role,) = blocks("the Role"), blocks("the ClusterRole")
    rules = role["rules"] + cluster_role["rules"]
    return {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


def test_the_role_is_what_the_module_asks_for() -> None:
    """Every right that it checks, and reading nodes, events and Kueue's Workloads, without which it does as well."""
    asked = {*k8s_steps.RIGHTS, *(right for kind in k8s_steps.BY_KIND.values() for right in kind)}
    assert rights() - asked == {("get", "nodes"), ("list", "nodes"), ("list", "events"), ("get", "workloads")} and asked <= rights()
