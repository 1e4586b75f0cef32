# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core as one file for hosts: a zipapp of the supervisor and of what it imports, the same bytes for the same sources."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import zipfile

from ansible_collections.mad.engine.plugins.module_utils import errors, supervisor

PACKAGE = "mad_core"
_TIME = (1980, 1, 1, 0, 0, 0)  # zip's first moment: times must not change the hash
_MAIN = (
    """\
import sys

from %s.supervisor import run_program

sys.exit(run_program(sys.argv[1:]))
"""
    % PACKAGE
)


def _imported(source: bytes, path: str) -> set[str]:
    """Modules of the core that a module imports; only `from . import x` and `from .x import y` are allowed there."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.partition(".")[0]} if node.module else {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            raise errors.MadError("%s imports from outside the core" % path)
    return found


def sources() -> dict[str, bytes]:
    """{module name: source} of the supervisor and of everything it needs."""
    folder = os.path.dirname(os.path.abspath(supervisor.__file__))
    found: dict[str, bytes] = {}
    todo = ["supervisor"]
    while todo:
        name = todo.pop()
        path = os.path.join(folder, name + ".py")
        if name not in found and os.path.exists(path):
            with open(path, "rb") as stream:
                found[name] = stream.read()
            todo += sorted(_imported(found[name], path))
    return found


def build() -> tuple[str, bytes]:
    """(sha256, bytes) of the zipapp."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        entries = {"__main__.py": _MAIN.encode(), PACKAGE + "/__init__.py": b""}
        entries.update({"%s/%s.py" % (PACKAGE, name): source for name, source in sources().items()})
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, entries[name])
    data = stream.getvalue()
    return hashlib.sha256(data).hexdigest(), data
