# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requirements check: every import is declared, requirement files agree with each other, known-bad versions are refused.

Run it as `python -m training_engine.requirements_check FOLDER`; exit 0 or 1, every fault with its fix. Needs `packaging`.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

# Distribution -> (versions that must never be installed, why).
DENIED: Mapping[str, tuple[str, str]] = {
    "lightning": ("==2.6.2,==2.6.3", "these releases carried malware"),
    "torchserve": (">=0", "archived without security fixes since 2025-08; use the FastAPI server"),
}
LOCK = "requirements.lock"
# Extras that only those who change the project install.
DEVELOPERS = ("test", "bench", "notebook", "interop", "models")
# torch comes with the image or from the index of its build: no one hash fits all.
UNLOCKED = ("torch",)
# Import name -> distribution, where they differ.
DISTRIBUTION: Mapping[str, str] = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python",
                                   "mlflow": "mlflow-skinny"}


def parse_lines(text: str, origin: str, problems: list[str]) -> dict[str, Requirement]:
    """The requirements of a requirements file by canonical name; comments, options, hashes and continuations are understood."""
    out: dict[str, Requirement] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        plain = re.sub(r"(?:^|\s)#.*", "", line).split(" --hash", 1)[0].strip()
        if not plain or plain.startswith("-"):
            continue
        try:
            requirement = Requirement(plain)
        except InvalidRequirement as error:
            problems.append(f"{origin}: {plain!r} is not a requirement ({error}); write it like name>=1.2")
            continue
        out[canonicalize_name(requirement.name)] = requirement
    return out


def compatible(first: Requirement, second: Requirement) -> bool:
    """Whether some version can satisfy both. Exact pins are checked against the other side; ranges by the versions they mention."""
    specs = SpecifierSet(f"{first.specifier},{second.specifier}" if str(first.specifier) and str(second.specifier)
                         else str(first.specifier or second.specifier))
    mentioned = [Version(spec.version.removesuffix(".*")) for spec in specs if spec.operator != "==="]
    candidates = {Version("0"), *mentioned, *(_neighbour(version, by) for version in mentioned for by in (-1, 1))}
    return not mentioned or any(specs.contains(version, prereleases=True) for version in candidates)


def _neighbour(version: Version, by: int) -> Version:
    parts = [*version.release, 0, 0, 0][:4]
    if by > 0:
        parts[3] += 1
        return Version(".".join(map(str, parts)))
    for index in range(3, -1, -1):
        if parts[index]:
            return Version(".".join(map(str, [*parts[:index], parts[index] - 1, *[999] * (3 - index)])))
    return Version("0")


def check_agreement(files: Mapping[str, str], *, subsets: Iterable[tuple[str, str]] = ()) -> list[str]:
    """The faults between requirement files (name -> text). subsets: pairs (small, large): every name of small must be in large."""
    problems: list[str] = []
    parsed = {name: parse_lines(text, name, problems) for name, text in files.items()}
    names = list(parsed)
    for number, first in enumerate(names):
        for second in names[number + 1:]:
            for package in sorted(set(parsed[first]) & set(parsed[second])):
                one, two = parsed[first][package], parsed[second][package]
                if not compatible(one, two):
                    problems.append(f"{package}: {first} wants {one.specifier}, {second} wants {two.specifier}; no version satisfies both. "
                                    f"Fix: set both to {two.specifier}")
    for small, large in subsets:
        for package in sorted(set(parsed[small]) - set(parsed[large])):
            problems.append(f"{package}: in {small}, missing from {large}. Fix: add '{parsed[small][package]}' to {large}")
    return problems + [problem for name, found in parsed.items() for problem in check_denied(found.values(), name)]


def check_denied(requirements: Iterable[Requirement], origin: str) -> list[str]:
    """Requirements that allow, by an exact pin, a version of the deny list, or ask for a denied package at all."""
    out = []
    for requirement in requirements:
        versions, why = DENIED.get(canonicalize_name(requirement.name), ("", ""))
        pins = [spec.version for spec in requirement.specifier if spec.operator == "=="]
        for denied in filter(None, versions.split(",")):
            if denied == ">=0" or any(SpecifierSet(denied).contains(pin) for pin in pins):
                out.append(f"{requirement}: {origin} asks for {requirement.name} {denied}, {why}. Fix: choose another")
    return out


def imports_of(source: str) -> set[str]:
    """The top-level names that a module imports absolutely, wherever in the file, apart from TYPE_CHECKING blocks."""
    out: set[str] = set()
    skipped: set[int] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(inner) for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            out |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            out.add(node.module.split(".")[0])
    return out


def check_imports(sources: Mapping[str, str], declared: Iterable[str], *, own: Iterable[str] = (), exempt: Iterable[str] = ()) -> list[str]:
    """Imports (file -> source) whose distribution is neither declared, nor the standard library, nor one's own, nor exempt."""
    known = {canonicalize_name(name) for name in declared}
    free = {*sys.stdlib_module_names, *own, *exempt}
    out = []
    for name, source in sources.items():
        for module in sorted(imports_of(source) - free):
            package = canonicalize_name(DISTRIBUTION.get(module, module))
            if package not in known:
                out.append(f"{name}: import {module} is not declared. Fix: add '{package}' to the dependencies or an extra")
    return out


def _locked_groups(project: Mapping[str, Any]) -> list[str]:
    """The requirements that a lock has to cover: all but those of the extras for developers."""
    extras = project.get("optional-dependencies", {})
    return [*project.get("dependencies", []), *(line for name, lines in extras.items() if name not in DEVELOPERS for line in lines)]


def check_lock(text: str, wanted: Iterable[str], origin: str) -> list[str]:
    """A lock pins each wanted distribution (but UNLOCKED) to a version that is allowed, and every pin has a sha256."""
    problems: list[str] = []
    pins: dict[str, list[Requirement]] = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        plain = re.sub(r"(?:^|\s)#.*", "", entry).strip()
        for requirement in parse_lines(plain, origin, problems).values():
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
            if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", plain) or {spec.operator for spec in requirement.specifier} != {"=="}:
                problems.append(f"{origin}: {requirement} is not an exact version with a sha256. Fix: make the lock anew")
    problems += check_denied([pin for found in pins.values() for pin in found], origin)
    for line in wanted:
        requirement = Requirement(line)
        found = pins.get(canonicalize_name(requirement.name), [])
        wrong = [str(pin) for pin in found if not all(requirement.specifier.contains(spec.version) for spec in pin.specifier)]
        if requirement.name not in UNLOCKED and (wrong or not found):
            problems.append(f"{origin}: {requirement} has {wrong[0] if wrong else 'no pin'}. Fix: make the lock anew")
    return problems


def check_folder(folder: Path) -> list[str]:
    """All checks on a project: its pyproject.toml, its packages, its requirements*.txt."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    problems: list[str] = []
    groups = {"pyproject.toml": project.get("dependencies", []),
              **{f"pyproject.toml [{name}]": lines for name, lines in project.get("optional-dependencies", {}).items()}}
    texts = {name: "\n".join(lines) for name, lines in groups.items()}
    texts.update({path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("requirements*.txt"))})
    declared = {name for text in texts.values() for name in parse_lines(text, "", [])}
    packages = sorted(path.parent for path in folder.glob("*/__init__.py") if path.parent.name != "tests")
    sources = {str(path.relative_to(folder)): path.read_text(encoding="utf-8")
               for package in packages for path in sorted(package.rglob("*.py"))}
    problems += check_agreement(texts)
    if (folder / LOCK).is_file():
        problems += check_lock((folder / LOCK).read_text(encoding="utf-8"), _locked_groups(project), LOCK)
    return problems + check_imports(sources, declared, own=[package.name for package in packages])


def main(arguments: list[str]) -> int:
    """The command: 0 in order, 1 with every fault and its fix."""
    try:
        problems = check_folder(Path(arguments[0] if arguments else "."))
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        problems = [f"pyproject.toml cannot be read: {error}"]
    for problem in problems:
        print(problem)
    print("requirements in order" if not problems else f"{len(problems)} fault(s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
