# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs a machine has, whoever made them, and the two notations that people write about GPUs."""

from __future__ import annotations

import functools
import re
from typing import Any, Dict, List, Optional

from ..base.errors import InvalidInput
from ..containers.probe import TOOL_TIMEOUT, System, first_words, together
from . import gpu_amd, gpu_intel, gpu_nvidia
from .gpu_common import gpu_facts

NONE = "NONE"
# Asked side by side; where several answer, the first of this order is taken.
VENDORS = {"NVIDIA": gpu_nvidia.probe, "AMD": gpu_amd.probe, "INTEL": gpu_intel.probe}
_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?\Z")
_MOST_INDEXES = 8192  # no machine has more GPUs or CPUs
# madengine's names for architectures (its build option --target-archs takes them).
_ALIASES = {
    "mi100": "gfx908", "mi200": "gfx90a", "mi210": "gfx90a", "mi250": "gfx90a", "mi250x": "gfx90a",
    "mi300": "gfx940", "mi300a": "gfx940", "mi300x": "gfx942",
}  # fmt: skip


def detect(system: Optional[System] = None, vendor: str = "", rocm_path: str = "", timeout: float = TOOL_TIMEOUT) -> Dict[str, Any]:
    """The `gpu` part of a host's facts (shape: docs/contracts.md). Reads only; never raises; lasts little longer than `timeout` seconds.

    `vendor` asks for one vendor only (AMD, NVIDIA, INTEL), or for none (NONE); "" takes what is there.
    """
    system = system or System()
    wanted = vendor.upper()
    if wanted == NONE:
        return gpu_facts(NONE)
    probes: Dict[str, Any] = {name: functools.partial(probe, system, timeout) for name, probe in VENDORS.items() if wanted in ("", name)}
    if "AMD" in probes:
        probes["AMD"] = functools.partial(gpu_amd.probe, system, timeout, rocm_path)
    found = {name: _facts_or_problem(name, facts) for name, facts in together(probes).items()}
    return _choose(found)


def _facts_or_problem(name: str, facts: Any) -> Dict[str, Any]:
    """A probe that broke on output nobody has seen before costs its vendor, not the host."""
    if isinstance(facts, BaseException):
        return gpu_facts(NONE, (), ["looking for %s GPUs failed: %s" % (name, first_words(repr(facts)))])
    return dict(facts)


def _choose(found: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """The vendor with usable GPUs, else one whose GPUs are broken, else none; what the others said is kept as problems."""
    present = [facts for facts in found.values() if facts["vendor"] != NONE]
    chosen = next((facts for facts in present if facts["count"]), next(iter(present), None))
    problems = [problem for facts in found.values() if facts is not chosen for problem in facts["problems"]]
    if chosen is None:
        return gpu_facts(NONE, (), problems)
    for facts in present:
        if facts is not chosen:
            problems.append("there are also %d %s GPU(s): set gpu_vendor to use them" % (facts["count"], facts["vendor"]))
    return {**chosen, "problems": chosen["problems"] + problems}


def expand_indexes(text: Any, what: str = "docker_gpus") -> List[int]:
    """[0, 2, 3, 4, 5, 7] from "0,2-4,5-5,7": inclusive ranges, order kept; "" gives []. `what` names the key in the errors.

    Raises InvalidInput for anything else: letters, backward ranges, a number twice, more than 8192 numbers.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise InvalidInput('%s must be text like "0,2-4,7", not %s' % (what, type(text).__name__))
    numbers: List[int] = []
    for part in str(text).split(",") if str(text).strip() else []:
        match = _RANGE.match(part)
        if not match:
            raise InvalidInput('%s: %r is neither a number nor a range like 2-4; it must look like "0,2-4,7"' % (what, part[:40]))
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if last < first:
            raise InvalidInput("%s: the range %s goes backwards: write %d-%d" % (what, part.strip(), last, first))
        if last - first + len(numbers) >= _MOST_INDEXES:
            raise InvalidInput("%s: %s names more than %d devices" % (what, part.strip(), _MOST_INDEXES))
        numbers.extend(range(first, last + 1))
    twice = sorted({number for number in numbers if numbers.count(number) > 1}) if len(set(numbers)) < len(numbers) else []
    if twice:
        raise InvalidInput("%s names %s twice: %r" % (what, ", ".join(map(str, twice[:8])), str(text)[:80]))
    return numbers


def architecture(name: str) -> str:
    """The gfx name for one of madengine's aliases (mi300x -> gfx942); any other name is kept as it is, without blanks around it."""
    stripped = name.strip()
    return _ALIASES.get(stripped.lower(), stripped)
