# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that no linter knows: header, first words, sizes of files and functions, one list of requirements, declared collections.

    python dev/check_source.py [ROOT]        prints one line for each violation, ends with 1 if there is any
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

HEADER = "\n".join(
    (
        "# Copyright (c) 2026, mad.engine contributors",
        "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
        "# SPDX-License-Identifier: GPL-3.0-or-later",
    )
)
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
COMMENTED = {".cfg", ".ini", ".sh", ".toml", ".yaml", ".yml"}
MOST_LINES = 500
MOST_FUNCTION_LINES = 80
# Golden files and fixtures hold what tools print; a changelog is generated.
EXEMPT = ("tests/fixtures/", "tests/unit/golden/", "changelogs/changelog.yaml", "plugins/plugin_utils/presets/")
TOOLS = ("test", "dev")  # extras of pyproject.toml that no plugin needs
# import name -> name on the package index, where they differ
DISTRIBUTIONS = {"ansible": "ansible-core", "jinja2": "ansible-core", "markupsafe": "ansible-core", "packaging": "ansible-core", "yaml": "ansible-core"}


def tracked(root: Path) -> list[Path]:
    """Return the files that git knows or would add, relative to the root."""
    argv = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    return sorted(Path(name) for name in names if name and (root / name).is_file() and not name.startswith(EXEMPT))


def first_lines(path: Path, count: int) -> str:
    """Return the start of a text."""
    with open(path, encoding="utf-8", errors="replace") as handle:
        return "".join(line for dummy, line in zip(range(count), handle, strict=False))


def needs_comment(root: Path, path: Path) -> bool:
    """Tell whether a file other than Python has to name its licence in a comment."""
    if path.suffix in COMMENTED or "Dockerfile" in path.name or path.name == "Makefile":
        return True
    return not path.suffix and first_lines(root / path, 1).startswith("#!")


def headers(root: Path, path: Path) -> Iterator[str]:
    """Every file says whose it is and how it may be used."""
    if path.suffix == ".py":
        start = first_lines(root / path, 6)
        if start.strip() and HEADER not in start:
            yield "the 3-line header is missing"
    elif needs_comment(root, path) and SPDX not in first_lines(root / path, 6):
        yield "the line '# %s' is missing" % SPDX


def python(root: Path, path: Path) -> Iterator[str]:
    """Python files: a docstring (or Ansible's documentation), the annotations import, and sizes a person can read."""
    if path.suffix != ".py":
        return
    text = (root / path).read_text("utf-8")
    tree = ast.parse(text)
    if not text.strip():
        return
    if not ast.get_docstring(tree) and "DOCUMENTATION" not in text:
        yield "no docstring says what lives here"
    if "from __future__ import annotations" not in text and any(not isinstance(node, ast.Expr) for node in tree.body):
        yield "'from __future__ import annotations' is missing"
    if text.count("\n") > MOST_LINES:
        yield "%d lines, at most %d" % (text.count("\n"), MOST_LINES)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MOST_FUNCTION_LINES:
                yield "%s() has %d lines, at most %d" % (node.name, size, MOST_FUNCTION_LINES)


def imports(text: str) -> set[str]:
    """Return the top-level packages a Python text imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def distribution(line: str) -> str:
    """Return the name in a requirement, in lower case."""
    return re.split(r"[<>=!~; \[]", line.strip(), maxsplit=1)[0].lower()


def requirements(root: Path, files: list[Path]) -> Iterator[str]:
    """What plugins import is declared once for pip and once for execution environments, and nothing else is."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [lines for name, lines in project.get("optional-dependencies", {}).items() if name not in TOOLS]
    declared = {distribution(line) for lines in (project["dependencies"], *extras) for line in lines}
    used = set()
    for path in files:
        if path.suffix == ".py" and path.parts[0] == "plugins":
            used |= {DISTRIBUTIONS.get(name, name).lower() for name in imports((root / path).read_text("utf-8"))}
    used -= {name.lower() for name in sys.stdlib_module_names} | {"ansible_collections"}
    for name in sorted(used - declared):
        yield "pyproject.toml: plugins import %s, which is not among the dependencies" % name
    for name in sorted(declared - used):
        yield "pyproject.toml: %s is a dependency that no plugin imports" % name
    lines = (root / "meta" / "ee-requirements.txt").read_text("utf-8").splitlines()
    shipped = {distribution(line) for line in lines if line and not line.startswith("#")}
    if shipped != declared - {"ansible-core"}:
        yield "meta/ee-requirements.txt: has %s, pyproject.toml has %s" % (sorted(shipped), sorted(declared - {"ansible-core"}))


def collections(root: Path, files: list[Path]) -> Iterator[str]:
    """Collections whose modules or plugins are used stand in galaxy.yml, and no others."""
    declared = set((yaml.safe_load((root / "galaxy.yml").read_text("utf-8")).get("dependencies")) or {})
    used = set()
    for path in files:
        if path.suffix == ".yml" and path.parts[0] in ("roles", "playbooks") and "files" not in path.parts:
            text = (root / path).read_text("utf-8")
            used |= set(re.findall(r"^[\s-]*([a-z_]+\.[a-z_0-9]+)\.[a-z_0-9]+:(?:\s|$)", text, re.MULTILINE))
    used -= {"ansible.builtin", "mad.engine"}
    for name in sorted(used ^ declared):
        yield "galaxy.yml: %s is %s" % (name, "used but not declared" if name in used else "declared but not used")


def violations(root: Path) -> list[str]:
    """Return all of them, one line each."""
    files = tracked(root)
    found = ["%s: %s" % (path, problem) for path in files for rule in (headers, python) for problem in rule(root, path)]
    return found + list(requirements(root, files)) + list(collections(root, files))


def main() -> None:
    """Print and judge."""
    found = violations(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found) or "source: clean")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
