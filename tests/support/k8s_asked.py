# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API server stand-in knows of a request: who asks, what goes wrong for it, where logs come from."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Sequence, Tuple

from .k8s_store import Object


class Fault:
    """Something that goes wrong for requests whose method and path match, so many times."""

    def __init__(
        self, method: str = "", path: str = "", times: int = 1, code: int = 0, cut: int = -1, retry_after: int = 0, skip: int = 0
    ) -> None:
        self.method, self.path, self.times, self.code, self.cut = method, re.compile(path), times, code, cut
        self.retry_after, self.skip = retry_after, skip  # skip: let so many pass first

    def takes(self, method: str, path: str) -> bool:
        """Whether it happens to this request."""
        if self.times <= 0 or (self.method and self.method != method) or not self.path.search(path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class User(NamedTuple):
    """Who a token belongs to and what it may do: (verb, resource) pairs, "*" for anything; a subresource is `pods/log`."""

    name: str
    rules: Sequence[Tuple[str, str]]

    def may(self, verb: str, resource: str) -> bool:
        """Whether it is allowed."""
        return any(rule[0] in ("*", verb) and rule[1] in ("*", resource) for rule in self.rules)


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: str
    user: str
    at: float


class Logs:
    """Where a pod's log is read from; the kubelet brings the real one."""

    def read(self, pod: Object, container: str, previous: bool) -> Tuple[List[Tuple[str, bytes]], bool]:
        """([(time, line)], whether it is complete)."""
        return [], True
