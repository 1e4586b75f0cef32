# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of dev/test share."""

from __future__ import annotations

import functools
import os
from typing import Protocol

import bootstrap
import checkout
import pythons

# From here on the package index gives ansible-core 2.21.
NEXT_CORE = (3, 12)


class Stoppable(Protocol):
    """Something that was started for the tests."""

    def stop(self) -> None:
        """End it."""


class Context:
    """Places, the copy of the sources, the Pythons found, the engine once it runs."""

    def __init__(self) -> None:
        self.root, self.home = bootstrap.ROOT, bootstrap.HOME
        self.tree = self.home / ".dev" / "tree"
        self.strict = os.environ.get("CI", "").lower() == "true"
        self.pythons = pythons.find()
        self.copy = checkout.Checkout(self.root, self.home)
        self.own_engine: Stoppable | None = None

    @property
    def next_python(self) -> tuple[int, int] | None:
        """Return the newest Python here that gets the next ansible-core, if there is one."""
        return max((version for version in self.pythons if version >= NEXT_CORE), default=None)

    @functools.cached_property
    def training_copy(self) -> checkout.Checkout:
        """A copy for tools that leave files behind: beside them, ansible-test would trip over what comes and goes in its own."""
        return checkout.Checkout(self.root, self.home)

    def close(self) -> None:
        """Stop the engine if it is ours, remove the copies."""
        if self.own_engine:
            self.own_engine.stop()
        self.copy.remove()
        if "training_copy" in self.__dict__:
            self.training_copy.remove()
