# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one parser of logs: metrics and error patterns in one pass over any bytes, in constant memory.

What a line is: it ends at a line feed or a carriage return (each state of a progress bar is a line of its own); line numbers count
line feeds only, as editors do. Invalid UTF-8, NUL bytes and terminal colours are allowed anywhere. A line of more than LONGEST bytes
is looked at in pieces of that size which overlap by OVERLAP bytes: no pattern and no metric is missed, but a benign text excuses only
the piece it stands in.

Formats: `performance: <number>[,][ /unit ,] <metric>` (the first one counts), else `train_samples_per_second`, as MAD models print them;
number and metric stand on one line, within REACH bytes after the keyword.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..base.errors import InvalidInput, MadError
from .metrics import metric, number
from .perf_csv import parse_results

__all__ = ["DEFAULT_BENIGN", "DEFAULT_ERROR_PATTERNS", "make_scan", "parse", "parse_results", "parse_run"]

# Plain substrings of a line that mean an error (madengine's list; `log_error_patterns` replaces it).
DEFAULT_ERROR_PATTERNS = (
    "OutOfMemoryError",
    "HIP out of memory",
    "CUDA out of memory",
    "RuntimeError:",
    "AssertionError:",
    "ValueError:",
    "SystemExit",
    "failed (exitcode:",
    "Traceback (most recent call last)",
    "FAILED",
    "Exception:",
    "ImportError:",
    "ModuleNotFoundError:",
)
# Plain substrings that excuse their line (madengine's list; `log_error_benign_patterns` adds to it).
DEFAULT_BENIGN = (
    "Failed to establish connection to the metrics exporter agent",
    "RpcError: Running out of retries to initialize the metrics agent",
    "Metrics will not be exported",
    "FutureWarning",
    "Opened result file:",
    "SQLite3 generation ::",
    "rocpd_op:",
    "rpd_tracer:",
)
# Regular expressions that excuse their line: the profilers' own chatter, and shell traces of a scan for errors (before the pattern).
_BENIGN_REGEX = re.compile(
    rb"\AE[0-9]{8}.*generateRocpd\.cpp|\AW[0-9]{8}.*simple_timer\.cpp|\AW[0-9]{8}.*generateRocpd\.cpp|\AE[0-9]{8}.*tool\.cpp|\[rocprofv3\]"
)
_SCAN_TRACE = (b"grep -q", b"Found error pattern")

PRIMARY = re.compile(
    r"performance:\s+([+\-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+\-]?[0-9]+)?)(?:,?\s*/[a-zA-Z]+\s*,?|,)?\s+([^\s,]+)"
)
FALLBACK = re.compile(r"train_samples_per_second['\"\s:=]+([0-9][0-9.eE+-]*)")
_PRIMARY_KEY, _FALLBACK_KEY = b"performance:", b"train_samples_per_second"

BLOCK = 1 << 18
LONGEST = 1 << 20
OVERLAP = 1 << 12
REACH = 512
MAX_ERRORS = 100
EXCERPT_LINES = 50
EXCERPT_BYTES = 1 << 16
LINE_CHARACTERS = 300

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = {code: "\ufffd" for code in [*range(32), *range(127, 160)] if code not in (9,)}


def make_scan(card: Mapping[str, Any], context: Mapping[str, Any]) -> Dict[str, Any]:
    """`{"enabled", "patterns", "benign"}` from a card and a context: patterns of the context, else of the card, else the defaults;
    benign texts of all three together. InvalidInput names the key that is not what it should be."""
    enabled = context.get("log_error_pattern_scan", card.get("log_error_pattern_scan", True))
    patterns = _texts(context, "log_error_patterns") or _texts(card, "log_error_patterns") or list(DEFAULT_ERROR_PATTERNS)
    benign = [*DEFAULT_BENIGN, *_texts(card, "log_error_benign_patterns"), *_texts(context, "log_error_benign_patterns")]
    return {"enabled": _is_true(enabled), "patterns": patterns, "benign": list(dict.fromkeys(benign))}


def _is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() not in ("false", "no", "off", "0")


def _texts(layer: Mapping[str, Any], key: str) -> List[str]:
    values = layer.get(key) or []
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) and re.match(r"[^\r\n]+\Z", value) for value in values):
        raise InvalidInput("%s must be a list of texts of one line each, not %r" % (key, values))
    return list(values)


def parse(path: str, scan: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """Read a log once.

    `scan` is what make_scan gives (None: the defaults). Returns {"metrics": [] or [the first metric], "errors": [{"pattern", "line",
    "number"}], "excerpt": [last lines], "bytes", "lines", "notes": [...]}: at most one error per line, MAX_ERRORS in all, lines cut to
    LINE_CHARACTERS. MadError when the log cannot be read.
    """
    scanner = _Scanner(scan or {})
    try:
        with open(path, "rb", buffering=0) as stream:
            for data, end, safe in _blocks(stream):
                scanner.look_at(data, end, safe)
            excerpt = _excerpt(stream)
    except OSError as error:
        raise MadError("the log %s cannot be read: %s" % (path, error.strerror)) from error
    return {**scanner.answer(), "excerpt": excerpt}


def parse_run(run: Mapping[str, Any], log_path: str, results_path: str = "", inside: str = "") -> Dict[str, Any]:
    """Everything status.decide and make_record want to know about a run's output; never raises for what the model left behind.

    As parse(); in addition "problem": null or {"class", "reason"}. With `multiple_results` in the run the metrics come from the CSV at
    `results_path` only ("" : it was not found); the path must lead to a file below `inside`, if given.
    """
    try:
        parsed = parse(log_path, run.get("scan"))
    except MadError as error:
        parsed = {"metrics": [], "errors": [], "excerpt": [], "bytes": 0, "lines": 0, "notes": []}
        return {**parsed, "problem": {"class": error.failure_class, "reason": error.message}}
    parsed["problem"] = None
    if run.get("multiple_results"):
        parsed["metrics"] = []
        try:
            parsed["metrics"] = parse_results(results_path, str(run.get("model", "")), str(run["multiple_results"]), inside)
        except MadError as error:
            parsed["problem"] = {"class": error.failure_class, "reason": error.message}
    return parsed


def _blocks(stream: BinaryIO) -> Iterator[Tuple[bytearray, int, int]]:
    """(buffer, end, safe): whole lines up to `end`; of a piece of an overlong line, what begins at or after `safe` comes again."""
    buffer = bytearray(LONGEST + BLOCK)
    view = memoryview(buffer)
    kept = 0
    while True:
        count = stream.readinto(view[kept : kept + BLOCK]) or 0  # type: ignore[attr-defined]
        filled = kept + count
        if not count:
            if filled:
                yield buffer, filled, filled
            return
        end = buffer.rfind(b"\n", kept, filled) + 1 or buffer.rfind(b"\r", kept, filled) + 1
        if end:
            yield buffer, end, end
        elif filled >= LONGEST:
            end = filled - OVERLAP
            yield buffer, filled, end
        kept = filled - end
        buffer[:kept] = buffer[end:filled]


class _Scanner:
    """What was found so far. Blocks come in order; a line is looked at closely only when a needle was found in its block."""

    def __init__(self, scan: Mapping[str, Any]) -> None:
        enabled = _is_true(scan.get("enabled", True))
        patterns = _texts(scan, "patterns") or list(DEFAULT_ERROR_PATTERNS)
        self.patterns = [pattern.encode("utf-8", "surrogateescape") for pattern in patterns] if enabled else []
        benign = dict.fromkeys([*DEFAULT_BENIGN, *_texts(scan, "benign")])
        self.benign = [text.encode("utf-8", "surrogateescape") for text in benign]
        self.groups = _known_groups(tuple(self.patterns))
        self.errors: List[Dict[str, Any]] = []
        self.notes: List[str] = []
        self.primary: Optional[Dict[str, Any]] = None
        self.fallback: Optional[Dict[str, Any]] = None
        self.line_feeds = 0
        self.bytes = 0
        self.repeated = 0
        self.open_line = False

    def look_at(self, data: bytearray, end: int, safe: int) -> None:
        lines = self._candidates(data, end)
        if lines:
            self._judge(data, lines)
        if self.primary is None:
            self.primary = _first_metric(data, end, safe, _PRIMARY_KEY, _primary)
            if self.primary is None and self.fallback is None:
                self.fallback = _first_metric(data, end, safe, _FALLBACK_KEY, _fallback)
        self.line_feeds += data.count(b"\n", 0, end)
        self.bytes += end - self.repeated
        self.repeated = end - safe
        self.open_line = data[end - 1] != 10

    def _candidates(self, data: bytearray, end: int) -> Dict[Tuple[int, int], int]:
        """{(start, stop) of a line: number of the first pattern in it}, for all lines that hold a pattern."""
        lines: Dict[Tuple[int, int], int] = {}
        for needle, members in self.groups:
            if data.find(needle, 0, end) >= 0:
                for member in members:
                    _collect(data, end, self.patterns[member], member, lines)
        return lines

    def _judge(self, data: bytearray, lines: Mapping[Tuple[int, int], int]) -> None:
        line_number, counted = self.line_feeds + 1, 0
        for start, stop in sorted(lines):
            line_number += data.count(b"\n", counted, start)
            counted = start
            if self.errors and self.errors[-1]["number"] == line_number:
                continue
            line, pattern = bytes(data[start:stop]), self.patterns[lines[start, stop]]
            if not self._is_benign(line, pattern):
                self.errors.append({"pattern": _decode(pattern), "line": _shown(line, line.find(pattern)), "number": line_number})
                if len(self.errors) == MAX_ERRORS:
                    self.groups = []
                    self.notes.append("only the first %d lines with an error pattern are kept" % MAX_ERRORS)
                    return

    def _is_benign(self, line: bytes, pattern: bytes) -> bool:
        if b"\x1b" in line:
            line = _ANSI.sub(b"", line)
        if _first_in(self.benign, line) or ((b".cpp" in line or b"[" in line) and _BENIGN_REGEX.search(line)):
            return True
        return bool(_first_in(_SCAN_TRACE, line[: max(line.find(pattern), 0)]))

    def answer(self) -> Dict[str, Any]:
        found = self.primary or self.fallback
        return {
            "metrics": [found] if found else [],
            "errors": self.errors,
            "bytes": self.bytes,
            "lines": self.line_feeds + self.open_line,
            "notes": self.notes,
        }


def _collect(data: bytearray, end: int, pattern: bytes, member: int, lines: Dict[Tuple[int, int], int]) -> None:
    position = data.find(pattern, 0, end)
    while position >= 0:
        line = _line_at(data, position, end)
        lines[line] = min(member, lines.get(line, member))
        position = data.find(pattern, max(line[1], position + 1), end)


def _first_in(texts: Iterable[bytes], line: bytes) -> bytes:
    """The first of the texts that the line holds, b"" when none is."""
    for text in texts:  # a plain loop: half the time of next() or any() over a generator, and some logs come here for every line
        if text in line:
            return text
    return b""


def _line_at(data: bytearray, position: int, end: int) -> Tuple[int, int]:
    """(start, stop) of the line around a position, without its end mark."""
    start = data.rfind(b"\n", 0, position) + 1
    return data.rfind(b"\r", start, position) + 1 or start, _line_stop(data, position, end)


def _line_stop(data: bytearray, position: int, end: int) -> int:
    stop = data.find(b"\n", position, end)
    stop = end if stop < 0 else stop
    carriage = data.find(b"\r", position, stop)
    return stop if carriage < 0 else carriage


def _first_metric(
    data: bytearray, end: int, safe: int, key: bytes, read: Callable[[str], Optional[Dict[str, Any]]]
) -> Optional[Dict[str, Any]]:
    """The first metric that `read` makes of the text behind a keyword that begins before `safe`."""
    position = data.find(key, 0, end)
    while 0 <= position < safe:
        stop = _line_stop(data, position, min(end, position + REACH))
        found = read(_decode(_ANSI.sub(b"", bytes(data[position:stop]))))
        if found:
            return found
        position = data.find(key, position + 1, end)
    return None


def _primary(text: str) -> Optional[Dict[str, Any]]:
    match = PRIMARY.match(text)
    if not match or number(match.group(1)) is None:
        return None
    return metric(match.group(2).translate(_CONTROL), match.group(1))


def _fallback(text: str) -> Optional[Dict[str, Any]]:
    match = FALLBACK.match(text)
    digits = match.group(1).rstrip(".eE+-") if match else ""
    return metric("samples_per_second", digits) if number(digits) is not None else None


def groups(patterns: Sequence[bytes]) -> List[Tuple[bytes, List[int]]]:
    """(needle, numbers of the patterns that hold it): a block without the needle holds none of them."""
    needles = cover(patterns)
    owners = [next(number for number, needle in enumerate(needles) if needle in pattern) for pattern in patterns]
    return [(needle, [member for member, owner in enumerate(owners) if owner == number]) for number, needle in enumerate(needles)]


_known_groups = functools.lru_cache(maxsize=32)(groups)  # the runs of a campaign are nearly all looked at for the same patterns


def cover(patterns: Sequence[bytes]) -> List[bytes]:
    """Few needles such that every pattern holds one: texts of 5 and more bytes shared by several patterns, else the pattern itself.

    Looking for a needle costs a pass over the block, so sharing is what makes thirteen patterns cost seven passes.
    """
    needles: List[bytes] = []
    left = list(dict.fromkeys(patterns))
    while left:
        shares: Dict[bytes, int] = {}
        for pattern in left:
            for part in {pattern[i : i + size] for size in range(5, 17) for i in range(len(pattern) - size + 1)}:
                shares[part] = shares.get(part, 0) + 1
        best = max(shares, key=lambda part: (shares[part], len(part), part), default=b"")
        if shares.get(best, 0) < 2:
            return needles + left
        needles.append(best)
        left = [pattern for pattern in left if best not in pattern]
    return needles


def _decode(data: bytes) -> str:
    """Bytes of a log as text; it never fails."""
    return data.decode("utf-8", "replace")


def clean(line: bytes) -> str:
    """A line of a log as text that is safe to show anywhere: no colours, no control characters, no invalid bytes."""
    return _decode(_ANSI.sub(b"", line)).translate(_CONTROL)


def _shown(line: bytes, position: int) -> str:
    """At most LINE_CHARACTERS of a line, around a position in it."""
    if len(line) > 4 * LINE_CHARACTERS:
        start = max(0, position - LINE_CHARACTERS // 2)
        line = (b"..." if start else b"") + line[start : start + 4 * LINE_CHARACTERS]
    return _cut(clean(line))


def _cut(text: str) -> str:
    text = text.rstrip()
    return text if len(text) <= LINE_CHARACTERS else text[: LINE_CHARACTERS - 3] + "..."


def _excerpt(stream: BinaryIO) -> List[str]:
    """The last EXCERPT_LINES lines within the last EXCERPT_BYTES bytes, as a terminal would show them."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - EXCERPT_BYTES)
    stream.seek(start)
    lines = stream.read(EXCERPT_BYTES).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    if start and len(lines) > 1:
        lines.pop(0)  # its beginning is not here
    return [_cut(clean(line.rstrip(b"\r").rpartition(b"\r")[2])) for line in lines[-EXCERPT_LINES:]]
