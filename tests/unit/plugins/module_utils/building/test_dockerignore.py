# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's ignore rules; tests/integration/test_dockerignore.py asks a real engine the same questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.canonical import hash_tree, walk_files
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import dockerignore

CASES = json.loads((Path(__file__).parents[4] / "fixtures" / "dockerignore_cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["ignore"]))
def test_rules(case: dict) -> None:
    rules = dockerignore.rules("\n".join(case["ignore"]), ".dockerignore")
    assert [path for path in case["files"] if not dockerignore.excluded(path, rules)] == case["kept"]


@pytest.mark.parametrize("line", ["!", "! ", "[a", "[]"])
def test_a_bad_line_names_file_and_line(line: str) -> None:
    with pytest.raises(InvalidInput, match="x/.dockerignore:2"):
        dockerignore.rules("# fine\n%s\n" % line, "x/.dockerignore")


def tree(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def kept(context: Path, dockerfile: Path) -> list:
    return list(walk_files(str(context), dockerignore.context_filter(str(context), str(dockerfile))))


def test_the_dockerfile_s_own_ignore_file_comes_first(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "b.txt", "x.Dockerfile")
    (tmp_path / ".dockerignore").write_text("a.txt\n.dockerignore\n*.Dockerfile*\n")
    assert kept(tmp_path, tmp_path / "x.Dockerfile") == ["b.txt"]
    (tmp_path / "x.Dockerfile.dockerignore").write_text("*\n!a.txt\n")
    assert kept(tmp_path, tmp_path / "x.Dockerfile") == ["a.txt"]


def test_our_results_are_never_part_of_a_context(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt", "out/deep/readme", "runs/plan.json")
    before = hash_tree(str(tmp_path), dockerignore.context_filter(str(tmp_path), str(tmp_path / "x")))
    tree(
        tmp_path, "out/results/c1/plan.json", "out/results/c1/runs/0/result.json", "out/results/history.db", "out/results/last-summary.json"
    )
    assert kept(tmp_path, tmp_path / "x") == ["a.txt", "out/deep/readme", "runs/plan.json"]
    assert hash_tree(str(tmp_path), dockerignore.context_filter(str(tmp_path), str(tmp_path / "x"))) == before


def test_without_an_ignore_file_everything_counts(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b/c")
    assert kept(tmp_path, tmp_path / "x") == ["a", "b/c"]
