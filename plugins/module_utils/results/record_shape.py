# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a document is a record that every reader can take.

Records come from hosts and lie in files that people can edit. One that is none must cost its own run a row of class infra, not all the
others their table. The whole form is plugins/plugin_utils/result_schema.json; here stands what code relies on, without a library.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Mapping, Tuple

_LARGEST = 2**53  # numbers that JSON, databases and clocks agree about
_LAST_MOMENT = 253402300800  # the year 10000

Check = Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and abs(value) <= _LARGEST


def _integer(value: Any) -> bool:
    return _number(value) and isinstance(value, int)


def _moment(value: Any) -> bool:
    return _number(value) and 0 <= value < _LAST_MOMENT


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(entry) for entry in value)


def _object(**parts: Check) -> Check:
    """An object; keys that are absent are fine."""
    return lambda value: isinstance(value, dict) and all(check(value[name]) for name, check in parts.items() if name in value)


def _metric(value: Any) -> bool:
    told = isinstance(value, dict) and all(_text(value.get(name)) for name in ("row", "text", "unit"))
    extra = value.get("extra") if told else None
    return told and isinstance(extra, dict) and all(_text(entry) for entry in extra.values())


def _timings(value: Any) -> bool:
    names = ("queue", "stage", "build", "run", "model", "started", "finished")
    if not isinstance(value, dict) or any(name not in value for name in names):
        return False
    return all(value[name] is None or (_moment if name in ("started", "finished") else _number)(value[name]) for name in names)


_TAGS: Check = lambda value: _optional(_text)(value) or isinstance(value, list)  # noqa: E731
_REQUIRED: Dict[str, Tuple[str, Check]] = {
    **dict.fromkeys(("campaign", "run_id", "model", "failure_class", "reason"), ("text", _text)),
    **dict.fromkeys(("attempt", "repeat"), ("a whole number", _integer)),
    **dict.fromkeys(("launcher", "target"), ("an object", _object())),
    "status": ("SUCCESS, FAILURE or SKIPPED", lambda value: value in ("SUCCESS", "FAILURE", "SKIPPED")),
    "card": ("an object with a list of tags", _object(tags=_TAGS)),
    "place": ("an object with host as text", _object(host=_text)),
    "host": (
        "an object of facts",
        _object(gpu=_optional(_object()), cpu=_optional(_object()), firmware=_optional(_object()), numa=_optional(_list_of(_text))),
    ),
    "gpus": ("an object with a list of indexes", _object(indexes=_list_of(_integer))),
    "image": ("an object or null", _optional(_object())),
    "data": ("an object", _object()),
    "timings": ("an object of durations and moments", _timings),
    "metrics": ("a list of metrics", _list_of(_metric)),
}


# What a record of an earlier release lacks.
_OPTIONAL: Dict[str, Tuple[str, Check]] = {"content": ("an object of hashes", _optional(_object()))}


def problem_of(record: Mapping[str, Any]) -> str:
    """What is wrong with a record, naming the key and what was expected; "" when nothing is."""
    for name, (expected, check) in _REQUIRED.items():
        if name not in record:
            return "it has no %s (%s)" % (name, expected)
        if not check(record[name]):
            return "its %s is %.80r; expected %s" % (name, record[name], expected)
    for name, (expected, check) in _OPTIONAL.items():
        if not check(record.get(name)):
            return "its %s is %.80r; expected %s" % (name, record[name], expected)
    return ""
