# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets as the plan knows them."""

from __future__ import annotations

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts.context_keys import TARGETS as KNOWN
from ansible_collections.mad.engine.plugins.module_utils.planning import targets


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
