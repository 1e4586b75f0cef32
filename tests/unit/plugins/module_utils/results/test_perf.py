# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser of logs: the reference's cases, a naive oracle with random borders of blocks, hostile bytes, memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import perf

# The expressions as the reference prints them; the parser uses its own, of the same language.
REFERENCE_PRIMARY = re.compile(
    r"performance:\s+([+\-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+\-]?[0-9]+)?)(?:,?\s*/[a-zA-Z]+\s*,?|,)?\s+([^\s,]+)"
)
REFERENCE_FALLBACK = re.compile(r"train_samples_per_second['\"\s:=]+([0-9][0-9.eE+-]*)")


@pytest.fixture
def parse(tmp_path: Any) -> Any:
    def run(data: Any, **scan: Any) -> Dict[str, Any]:
        path = tmp_path / "model.log"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return perf.parse(str(path), scan or None)

    return run


def metric_of(parsed: Dict[str, Any]) -> Optional[Tuple[str, str]]:
    return (parsed["metrics"][0]["text"], parsed["metrics"][0]["name"]) if parsed["metrics"] else None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("performance: 14164, tok/s", ("14164", "tok/s")),
        ("performance: 3.2e4 samples_per_second", ("3.2e4", "samples_per_second")),
        ("performance: .5 x", (".5", "x")),
        ("performance: 14164/s samples_per_second", ("14164", "samples_per_second")),
        ("performance: 14164.5/s, m", ("14164.5", "m")),
        ("performance: 123,/s metric", ("123", "metric")),
        ("performance: 123, /s metric", ("123", "metric")),
        ("performance: +1.5 m", ("+1.5", "m")),
        ("performance: -1.5 m", ("-1.5", "m")),
        ("performance: 1.23E+4 m", ("1.23E+4", "m")),
        ("performance: 1234.5 samples/sec", ("1234.5", "samples/sec")),
        ("performance: 123 _metric", ("123", "_metric")),
        ("xperformance:\t7  y, rest", ("7", "y")),
        ("performance: nan x", None),
        ("performance: 1e999 x", None),
        ("Performance: 5 x", None),
        ("performance:5 x", None),
        ("performance: 5", None),
        ("performance: 5\nx", None),
        ("performance: 5,\nperformance: 6 y", ("6", "y")),
        ("performance: nan x\nperformance: 6 y", ("6", "y")),
        ("performance: 1 a\nperformance: 2 b", ("1", "a")),
        ("a performance: oops performance: 4 c", ("4", "c")),
        ("\x1b[1mperformance:\x1b[0m \x1b[32m5\x1b[0m tok/s\x1b[0m", ("5", "tok/s")),
        (" 99%|#####\r100%|######\rperformance: 5 x\r\n", ("5", "x")),
        ("{'train_samples_per_second': 12.5, 'x': 1}", ("12.5", "samples_per_second")),
        ('"train_samples_per_second" = 12.', ("12", "samples_per_second")),
        ("train_samples_per_second", None),
        ("train_samples_per_second: 1\nperformance: 2 x", ("2", "x")),
        ("", None),
    ],
)
def test_metric_lines(parse: Any, line: str, expected: Optional[Tuple[str, str]]) -> None:
    assert metric_of(parse(line)) == expected
    assert metric_of(parse("before\n" + line + "\nafter\n")) == expected


@pytest.mark.parametrize("pattern", perf.DEFAULT_ERROR_PATTERNS)
def test_every_default_pattern(parse: Any, pattern: str) -> None:
    parsed = parse("one\ntwo %s three\nfour\n" % pattern)
    assert [(error["number"], error["line"]) for error in parsed["errors"]] == [(2, "two %s three" % pattern)]


@pytest.mark.parametrize(
    "line",
    [
        "FutureWarning: RuntimeError: x",
        "E20241122 10:00 generateRocpd.cpp:55 RuntimeError: x",
        "\x1b[31mE20241122 tool.cpp RuntimeError: x",
        "W20241122 simple_timer.cpp FAILED",
        "x [rocprofv3] FAILED",
        "+ grep -q 'RuntimeError:' log",
        "Found error pattern 'RuntimeError:' in log",
    ],
)
def test_benign_lines(parse: Any, line: str) -> None:
    assert parse(line + "\nperformance: 1 x\n")["errors"] == []


def test_a_benign_line_excuses_only_itself(parse: Any) -> None:
    parsed = parse("FutureWarning: RuntimeError: x\rRuntimeError: real\nFAILED\n")
    assert [(error["number"], error["line"]) for error in parsed["errors"]] == [(1, "RuntimeError: real"), (2, "FAILED")]


def test_a_word_of_the_scan_behind_the_pattern_excuses_nothing(parse: Any) -> None:
    assert len(parse("RuntimeError: could not grep -q x")["errors"]) == 1


def test_own_patterns_replace_and_own_benign_texts_add(parse: Any) -> None:
    log = "RuntimeError: x\nkaputt\nkaputt but known\n"
    parsed = parse(log, patterns=["kaputt"], benign=["known"])
    assert [error["line"] for error in parsed["errors"]] == ["kaputt"]
    assert parse(log, enabled=False)["errors"] == []


def test_any_bytes(parse: Any) -> None:
    parsed = parse(b"\xff\xfe\0 RuntimeError: \x00\xc3 \x1b]0;title\x07b\nperformance: 5 tok\xff/s\n")
    assert parsed["errors"][0]["line"] == "\ufffd\ufffd\ufffd RuntimeError: \ufffd\ufffd b"
    assert metric_of(parsed) == ("5", "tok\ufffd/s")


def test_excerpt_is_what_a_terminal_shows_last(parse: Any) -> None:
    parsed = parse("".join("line %d\n" % number for number in range(200)) + "10%\r20%\r30%\r\n\x1b[1mend\x1b[0m")
    assert parsed["excerpt"][-2:] == ["30%", "end"]
    assert len(parsed["excerpt"]) == 50
    assert parsed["lines"] == 202
    assert parse("")["excerpt"] == []
    assert max(map(len, parse("x" * 100000)["excerpt"])) == 300


def test_error_lines_are_cut_around_the_pattern(parse: Any) -> None:
    text = parse("a" * 5000 + "RuntimeError: boom" + "b" * 5000)["errors"][0]["line"]
    assert len(text) == 300
    assert "RuntimeError: boom" in text


def test_errors_are_bounded_and_say_so(parse: Any) -> None:
    parsed = parse("FAILED\n" * 5000 + "performance: 3 x\n")
    assert len(parsed["errors"]) == perf.MAX_ERRORS
    assert parsed["notes"] == ["only the first 100 lines with an error pattern are kept"]
    assert metric_of(parsed) == ("3", "x")
    assert parsed["lines"] == 5001


def test_a_missing_log_is_an_error_that_names_it(tmp_path: Any) -> None:
    with pytest.raises(MadError, match="gone.log cannot be read"):
        perf.parse(str(tmp_path / "gone.log"))


# -- against a naive reader --------------------------------------------------------------------------------------------------


def is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def naive(data: bytes, patterns: List[str], benign: List[str]) -> Dict[str, Any]:
    """The definition, line by line, without any cleverness."""
    primary: Optional[Tuple[str, str]] = None
    fallback: Optional[Tuple[str, str]] = None
    errors = []
    for number, line in enumerate(data.split(b"\n"), 1):
        found = False
        for part in line.split(b"\r"):
            text = part.decode("utf-8", "replace")
            match = REFERENCE_PRIMARY.search(text)
            if match and primary is None:
                primary = (match.group(1), match.group(2))
            for match in REFERENCE_FALLBACK.finditer(text):
                digits = match.group(1).rstrip(".eE+-")
                if fallback is None and is_number(digits):
                    fallback = (digits, "samples_per_second")
            pattern = next((pattern for pattern in patterns if pattern in text), None)
            if not found and pattern and not any(word in text for word in [*perf.DEFAULT_BENIGN, *benign]):
                errors.append((number, pattern))
                found = True
    return {"metric": primary or fallback, "errors": errors, "lines": data.count(b"\n") + (data[-1:] not in (b"", b"\n"))}


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b" ", b"x", b"performance: ", b"performance:", b"12", b".5e3", b",", b"/s", b" tok/s", b"\xff"),
        *(b"RuntimeError:", b"Runtime", b"Error:", b"FAILED", b"FAIL", b"FutureWarning", b"CUDA out of memory", b"kaputt", b"ok"),
        *(b"train_samples_per_second': 7.5", b"train_samples_per_second", b"= 8", b"Traceback (most recent call last)", "\u00fc".encode()),
    ]
)


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=60), block=st.integers(1, 97), own=st.booleans())
def test_same_as_the_naive_reader_wherever_blocks_end(tmp_path_factory: Any, pieces: List[bytes], block: int, own: bool) -> None:
    data = b"".join(pieces)
    path = tmp_path_factory.mktemp("log") / "model.log"
    path.write_bytes(data)
    patterns = ["kaputt", "FAILED", "RuntimeError:"] if own else list(perf.DEFAULT_ERROR_PATTERNS)
    expected = naive(data, patterns, ["ok"] if own else [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perf, "BLOCK", block)
        parsed = perf.parse(str(path), {"patterns": patterns, "benign": ["ok"] if own else []})
    assert metric_of(parsed) == expected["metric"]
    assert [(error["number"], error["pattern"]) for error in parsed["errors"]] == expected["errors"]
    assert (parsed["lines"], parsed["bytes"]) == (expected["lines"], len(data))


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 5000), block=st.integers(50, 700), what=st.sampled_from([b"CUDA out of memory", b"performance: 12.5 tok/s"]))
def test_nothing_is_missed_in_a_line_longer_than_the_window(tmp_path_factory: Any, place: int, block: int, what: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "model.log"
    path.write_bytes(b"-" * place + what + b" " + b"-" * (5000 - place))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perf, "BLOCK", block)
        patch.setattr(perf, "LONGEST", 700)
        patch.setattr(perf, "OVERLAP", 100)
        patch.setattr(perf, "REACH", 60)
        parsed = perf.parse(str(path))
    assert parsed["bytes"] == 5001 + len(what)
    if what.startswith(b"perf"):
        assert metric_of(parsed) == ("12.5", "tok/s")
    else:
        assert [error["number"] for error in parsed["errors"]] == [1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12))
def test_every_pattern_holds_a_needle(patterns: List[bytes]) -> None:
    needles = perf.cover(patterns)
    assert all(any(needle in pattern for needle in needles) for pattern in patterns)
    assert len(needles) <= len(set(patterns))


def test_the_defaults_need_few_passes() -> None:
    assert len(perf.cover([pattern.encode() for pattern in perf.DEFAULT_ERROR_PATTERNS])) == 7


MEASURE = """
import sys
from ansible_collections.mad.engine.plugins.module_utils.results import perf
parsed = perf.parse(sys.argv[1])
# Not ru_maxrss: a process inherits that of the one that started it.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(parsed["bytes"], len(parsed["errors"]), int(peak) // 1024)
"""


@pytest.mark.parametrize("unit", [b"x" * 1000, b"100%|####| \r", b"RuntimeError: x\n", b"FutureWarning FAILED\n", b"performance: 1 "])
def test_memory_stays_small(tmp_path: Any, unit: bytes) -> None:
    path = tmp_path / "big.log"
    with open(path, "wb") as stream:
        for _count in range(4 if b"FutureWarning" in unit else 40):
            stream.write(unit * ((1 << 20) // len(unit)))
    answer = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, env=dict(os.environ)).stdout
    size, _errors, megabytes = map(int, answer.split())
    assert size == path.stat().st_size
    assert megabytes < 64


# -- what to scan for ----------------------------------------------------------------------------------------------------------


def test_make_scan_layers() -> None:
    assert perf.make_scan({}, {})["patterns"] == list(perf.DEFAULT_ERROR_PATTERNS)
    card = {"log_error_patterns": ["card"], "log_error_benign_patterns": ["a", "b"]}
    context = {"log_error_patterns": ["context"], "log_error_benign_patterns": ["b", "c"], "log_error_pattern_scan": "false"}
    assert perf.make_scan(card, {})["patterns"] == ["card"]
    scan = perf.make_scan(card, context)
    assert scan == {"enabled": False, "patterns": ["context"], "benign": [*perf.DEFAULT_BENIGN, "a", "b", "c"]}
    assert perf.make_scan({"log_error_pattern_scan": False}, {"log_error_pattern_scan": True})["enabled"] is True


@pytest.mark.parametrize("value", [[""], [1], {"a": 1}, 7, ["two\nlines"]])
def test_bad_patterns_are_named(value: Any) -> None:
    with pytest.raises(InvalidInput, match="log_error_patterns"):
        perf.make_scan({"log_error_patterns": value}, {})


def test_parse_run_never_raises_for_what_the_model_left(tmp_path: Any) -> None:
    log = tmp_path / "model.log"
    log.write_text("performance: 5 x\n")
    run = {"model": "m", "multiple_results": "perf.csv", "scan": {}}
    parsed = perf.parse_run(run, str(log), str(tmp_path / "perf.csv"))
    assert parsed["metrics"] == []
    assert parsed["problem"]["class"] == "no_metric"
    (tmp_path / "perf.csv").write_text("model,performance,metric\na,1,x\n")
    parsed = perf.parse_run(run, str(log), str(tmp_path / "perf.csv"))
    assert (parsed["problem"], parsed["metrics"][0]["text"]) == (None, "1")
    assert perf.parse_run({"scan": {}}, str(tmp_path / "no.log"))["problem"]["class"] == "infra"
