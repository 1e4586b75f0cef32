# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one merge of the project: dicts recursively, everything else replaced, nothing shared with the inputs. And what dicts have in common."""

from __future__ import annotations

import copy
from typing import Any, Dict, Mapping

_NOTHING_INSIDE = (str, int, float, bool, type(None))


def merge(*layers: Mapping[str, Any]) -> Dict[str, Any]:
    """A new dict from the layers, lowest first; the last layer that names a key wins, dicts are merged key by key."""
    result: Dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            known = result.get(key)
            if isinstance(known, dict) and isinstance(value, Mapping):
                result[key] = merge(known, value)
            else:
                result[key] = value if type(value) in _NOTHING_INSIDE else copy.deepcopy(value)
    return result


def common(first: Mapping[str, Any], *others: Mapping[str, Any]) -> Dict[str, Any]:
    """A new dict of what all of them say: equal values, and of dicts what those have in common."""
    result: Dict[str, Any] = {}
    for key, value in first.items():
        if not all(key in other for other in others):
            continue
        values = [other[key] for other in others]
        if isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in values):
            result[key] = common(value, *values)
        elif all(type(one) is type(value) and one == value for one in values):
            result[key] = copy.deepcopy(value)
    return result
