# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a metric is: its dict, how its number is read, and the declared table that says which direction is better."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Mapping, Optional

HIGHER, LOWER, UNKNOWN = "higher", "lower", ""
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
# What spreadsheets and pandas write for "nothing", lower case; also numbers nobody can believe.
_NOTHING = frozenset(
    ("", "nan", "-nan", "+nan", "none", "null", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan")
    + ("inf", "-inf", "+inf", "infinity", "-infinity", "+infinity")
)

# Things that one wants many of per second.
_COUNTED = frozenset(
    "sample samples token tokens tok toks image images img imgs request requests req reqs query queries sequence sequences seq seqs "
    "frame frames step steps iteration iterations iter iters it its item items example examples sentence sentences word words char chars "
    "op ops operation operations hash hashes row rows record records file files batch batches episode episodes inference inferences "
    "fsyncs syncs writes reads calls messages packets events jobs tasks transactions "
    "audio_seconds atom_steps cells particles lookups updates edges points rays pixels "
    "b byte bytes kb mb gb tb kib mib gib tib kbit mbit gbit bit bits kbps mbps gbps "
    "flop flops kflop mflop mflops gflop gflops tflop tflops pflop pflops".split()
)
_SECOND = frozenset(("s", "sec", "secs", "second", "seconds"))
_PART = frozenset(("gpu", "gpus", "device", "node", "chip", "accelerator", "user", "rank", "worker", "core", "cpu", "gcd"))
_TIME = frozenset(
    "s sec secs second seconds ms msec msecs millisecond milliseconds us usec usecs microsecond microseconds ns nsec nanosecond "
    "nanoseconds min mins minute minutes h hour hours".split()
)
# Whole names. A name that stands nowhere here has no direction: reports say so, they do not guess.
_NAMES: Mapping[str, str] = {
    **dict.fromkeys("throughput bandwidth qps rps tps fps iops gops tops gflops tflops pflops flops mfu hfu".split(), HIGHER),
    **dict.fromkeys("gbps mbps kbps busbw algbw".split(), HIGHER),
    **dict.fromkeys("accuracy precision recall f1 f1_score bleu rouge map auc top1 top5 goodput speedup efficiency".split(), HIGHER),
    **dict.fromkeys("latency time duration elapsed ttft tpot itl e2el response_time step_time".split(), LOWER),
    **dict.fromkeys("loss perplexity ppl wer cer error_rate".split(), LOWER),
    **dict.fromkeys(_TIME, LOWER),
}
_SPLIT = re.compile(r"/|_per_|(?<=[a-z])p(?=s\Z)")


def number(text: str) -> Optional[float]:
    """The finite number a text is, else None."""
    if not NUMBER.match(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def is_nothing(text: str) -> bool:
    """Whether a cell stands for no result: empty, a word for a missing value, or a number that is not finite."""
    lowered = text.strip().lower()
    return lowered in _NOTHING or bool(NUMBER.match(lowered) and not math.isfinite(float(lowered)))


def better(unit: str) -> str:
    """"higher", "lower", or "" when the table does not know the unit or metric name."""
    name = re.sub(r"[\s-]+", "_", unit.strip().lower())
    if name in _NAMES:
        return _NAMES[name]
    parts = [part.strip("_") for part in _SPLIT.split(name)]
    while len(parts) > 1 and parts[-1] in _PART:
        parts.pop()
    if len(parts) == 1:
        return _NAMES.get(parts[0], UNKNOWN)
    if parts[0] in _TIME and len(parts) == 2:
        return LOWER  # a time per thing
    return HIGHER if parts[0] in _COUNTED and len(parts) == 2 and parts[1] in _SECOND else UNKNOWN


def metric(name: str, text: str, row: str = "", extra: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
    """The dict of one metric. `name` is what stands behind the number and is its unit too, as MAD models print it."""
    text = "" if is_nothing(text) else text.strip()
    return {
        "name": name or "performance",
        "value": number(text) if text else None,
        "text": text,
        "unit": name,
        "better": better(name),
        "row": row,
        "extra": dict(extra or {}),
    }
