# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every action plugin takes what the module file of its name documents; ansible-test compares only what a module itself checks."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from ansible_collections.mad.engine.plugins.modules import container_run

PLUGINS = "ansible_collections.mad.engine.plugins."
OF_ACTION = {"job", "job_secrets"}  # what a controller's half hands to its module; nobody else may
COMPARED = ("type", "elements", "default", "required", "choices")
PASSED_ON = {"gpu_info"}  # the module itself checks them, and ansible-test compares those
NAMES = sorted({path.stem for path in (Path(__file__).parents[4] / "plugins" / "action").glob("[a-z]*.py")} - PASSED_ON)


def options(spec: dict) -> dict:
    """Of each option what documentation and argument specification have in common."""
    return {name: {key: option[key] for key in COMPARED if key in option} for name, option in spec.items() if name not in OF_ACTION}


def documented(name: str) -> dict:
    """The options in a module's documentation, with those of our fragments that it names."""
    document = yaml.safe_load(importlib.import_module(PLUGINS + "modules." + name).DOCUMENTATION)
    found = dict(document["options"])
    for fragment in document.get("extends_documentation_fragment", []):
        plugin, _dot, section = fragment.removeprefix("mad.engine.").partition(".")
        texts = importlib.import_module(PLUGINS + "doc_fragments." + plugin).ModuleDocFragment
        found.update(yaml.safe_load(getattr(texts, section.upper() or "DOCUMENTATION"))["options"])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_says_what_the_action_takes(name: str) -> None:
    taken = importlib.import_module(PLUGINS + "action." + name).ARGUMENTS
    assert options(documented(name)) == options(taken)
    assert not OF_ACTION & set(taken)


def test_every_state_of_container_run_is_carried_out() -> None:
    assert list(container_run.STATES) == container_run.ARGUMENTS["state"]["choices"]
