# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets as the plan knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts.context_keys import TARGETS as KNOWN
from ansible_collections.mad.engine.plugins.module_utils.planning import targets
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, host, one


def test_every_supported_target_has_an_entry_and_a_name_in_contexts() -> None:
    assert set(targets.SUPPORTED_TARGETS) <= set(targets.TARGETS) <= set(KNOWN.values())


def test_a_target_that_is_not_switched_on_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="host n1: target moon is not supported by this release; supported: local"):
        targets.check("n1", {"deploy": "moon"}, {})


def test_local_is_what_was_detected() -> None:
    facts = {"gpu": {"vendor": "AMD"}}
    local = targets.of({})
    assert targets.name_of({}) == "local"
    assert local.facts({}, facts) is facts and local.facts({}, None) is None
    assert local.place({}) == {} and not local.several_nodes


@pytest.mark.parametrize("layer,expected", [({}, "of the card"), ({"env_vars": {"NCCL_DEBUG": "of the context"}}, "of the context")])
def test_variables_of_presets_card_context(tmp_path: Path, layer: dict, expected: str) -> None:
    """The variables of a cluster's presets lie below the card's own, and know how many nodes the card asks for."""
    model = card(env_vars={"NCCL_DEBUG": "of the card"}, distributed={"launcher": "torchrun", "nnodes": 2})
    run = one(plans.repository(tmp_path), [model], {"n1": host({"gpu_vendor": "AMD", "guest_os": "UBUNTU", "slurm": {}, **layer})})
    assert (run["env"]["NCCL_DEBUG"], run["env"]["OMP_NUM_THREADS"], run["env"]["NCCL_TIMEOUT"]) == (expected, "8", "600")
    assert run["given_env"] == ["NCCL_DEBUG"]
