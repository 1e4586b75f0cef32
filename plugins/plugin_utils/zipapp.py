# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core as one file for hosts: a zipapp of a program (the supervisor, or a target's own) and of what it imports, the same bytes for the same sources."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile

from ansible_collections.mad.engine.plugins.module_utils.base import errors

PACKAGE = "mad_core"
SUPERVISOR = "host.supervisor"
_DEPTH = 2  # a module of the core is a file in a folder
_TIME = (1980, 1, 1, 0, 0, 0)  # zip's first moment: times must not change the hash
# Every poll of every host asks for the core's hash, each in a process of its own: Python's own parser would cost it a fifth of a second.
_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n]*))", re.MULTILINE)
_COMMENT = re.compile(r"#[^\n]*")
_NAME = re.compile(r"(\w+)(?:[ \t]+as[ \t]+\w+)?")
_MAIN = """\
import sys

from %s.%s import run_program

sys.exit(run_program(sys.argv[1:]))
"""


def imported(module: str, source: bytes, path: str) -> set[str]:
    """Modules of the core that a module imports, as "folder.name"; only relative imports inside the core are allowed there."""
    found: set[str] = set()
    for dots, named, in_parentheses, in_line in _IMPORT.findall(source.decode("utf-8")):
        parents = module.split(".")[: -len(dots)]
        if len(parents) + len(dots) != module.count(".") + 1:
            raise errors.MadError("%s imports from outside the core" % path)
        base = parents + (named.split(".") if named else [])
        names = _NAME.findall(_COMMENT.sub("", in_parentheses or in_line))
        found |= {".".join(base)} if len(base) == _DEPTH else {".".join([*base, name]) for name in names}
    return found


def sources(program: str = SUPERVISOR) -> dict[str, bytes]:
    """{module, as "folder.name": source} of a program and of everything it needs."""
    core = os.path.dirname(os.path.dirname(os.path.abspath(errors.__file__)))
    found: dict[str, bytes] = {}
    todo = [program]
    while todo:
        module = todo.pop()
        path = os.path.join(core, *module.split(".")) + ".py"
        if module not in found:
            with open(path, "rb") as stream:
                found[module] = stream.read()
            todo += sorted(imported(module, found[module], path))
    return found


def build(program: str = SUPERVISOR) -> tuple[str, bytes]:
    """(sha256, bytes) of the zipapp of a program: the module, as "folder.name", that has `run_program`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        modules = sources(program)
        entries = {"__main__.py": (_MAIN % (PACKAGE, program)).encode(), PACKAGE + "/__init__.py": b""}
        entries.update({"%s/%s/__init__.py" % (PACKAGE, module.partition(".")[0]): b"" for module in modules})
        entries.update({"%s/%s.py" % (PACKAGE, module.replace(".", "/")): source for module, source in modules.items()})
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, entries[name])
    data = stream.getvalue()
    return hashlib.sha256(data).hexdigest(), data
