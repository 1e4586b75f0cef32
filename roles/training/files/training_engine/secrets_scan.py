# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret scan: over bundles, checkpoints, logs and configurations, and as a pre-commit hook. It prints where, and never what.

Run it as `python -m training_engine.secrets_scan PATH...`; exit 1 when something is found.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

OVERLAP = 512  # bytes kept of the piece before, so that a secret across two pieces is found
PIECE = 1 << 20
FORBIDDEN_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl")  # weights as pickles: they do not belong into version control or bundles

_RULES: dict[str, re.Pattern[bytes]] = {name: re.compile(pattern) for name, pattern in {
    "private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})",
    "Hugging Face token": rb"\bhf_[A-Za-z0-9]{30,}\b",
    "Slack token": rb"\bxox[abposr]-[A-Za-z0-9-]{10,}",
    "Google key": rb"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])",
    "JSON web token": rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "model provider key": rb"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}",
    "credentials in a URL": rb"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"<>{}$]{1,64}:[^\s/@'\"<>{}$]{3,128}@",
}.items()}
# A name that says secret, and a value that looks like one: long, and without the regularity of words and paths.
_NAMED = re.compile(rb"(?i)\b([a-z0-9_-]{0,40}(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?)"
                    rb"[\"']?\s{0,3}[:=]\s{0,3}[\"']?([^\s\"',;}{)(]{8,200})")
# Expressions of programs: attributes, subscripts, plain names.
_CODE = re.compile(rb"^[A-Za-z_]\w*(?:[.\[]|$)")
SKIPPED = {".git", ".mypy_cache", ".ruff_cache", ".hypothesis", "__pycache__"}
_INNOCENT = re.compile(rb"(?i)^(?:\$\{?|<|\*{3,}|x{4,}|none|null|true|false|changeme|example|your[_-]|placeholder|os\.environ|getenv)")


@dataclass(frozen=True)
class Finding:
    """path and line (1-based; 0 in binary files) of a secret, and the rule that found it. The secret itself is not kept."""

    path: Path
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def scan_bytes(data: bytes) -> Iterator[tuple[int, str]]:
    """(offset, rule) of every finding in some bytes."""
    for rule, pattern in _RULES.items():
        for match in pattern.finditer(data):
            yield match.start(), rule
    for match in _NAMED.finditer(data):
        if _looks_secret(match[2]):
            yield match.start(2), f"value of {match[1].decode('ascii', 'replace').lower()}"


def _looks_secret(value: bytes) -> bool:
    code = _CODE.match(value) and not re.search(rb"\d\w*$", value)
    if _INNOCENT.match(value) or code or value.count(b"/") > 3 or value.count(b".") > 3:
        return False
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    mixed = sum(bool(re.search(kind, value)) for kind in (rb"[a-z]", rb"[A-Z]", rb"[0-9]", rb"[^A-Za-z0-9]"))
    return entropy >= 2.7 and mixed >= 2


def scan_file(path: Path) -> list[Finding]:
    """The findings in one file of any size; binary files as well (headers of checkpoints are text)."""
    found: dict[tuple[int, str], None] = {}
    lines = before = 0
    tail = b""
    binary = False
    with open(path, "rb") as stream:
        while piece := stream.read(PIECE):
            binary = binary or b"\0" in piece[:4096]
            data = tail + piece
            for offset, rule in scan_bytes(data):
                found[(0 if binary else before + data.count(b"\n", 0, offset) + 1), rule] = None
            lines += piece.count(b"\n")
            tail = data[-OVERLAP:]
            before = lines - tail.count(b"\n")
    return [Finding(path, line, rule) for line, rule in found]


def scan(paths: Iterable[Path], *, forbid_weights: bool = False) -> list[Finding]:
    """The findings in files and folders. forbid_weights: also report pickled weights. Links are not followed."""
    out: list[Finding] = []
    for path in _files(paths):
        out += scan_file(path)
        if forbid_weights and path.suffix in FORBIDDEN_SUFFIXES:
            out.append(Finding(path, 0, "pickled weights: they can run code and do not belong here; use safetensors"))
    return out


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (inner for inner in sorted(path.rglob("*"))
                        if inner.is_file() and not inner.is_symlink() and not SKIPPED & set(inner.relative_to(path).parts))
        else:
            yield path


def main(arguments: list[str]) -> int:
    """The command: 0 clean, 1 findings, 2 a path that cannot be read."""
    try:
        findings = scan([Path(argument) for argument in arguments], forbid_weights=True)
    except OSError as error:
        print(f"cannot be scanned: {error}", file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} finding(s): remove the value, revoke it where it came from, and read docs/training/security.md")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
