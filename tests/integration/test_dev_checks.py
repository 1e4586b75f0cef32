# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dev/check_source.py and dev/check_arguments.py find what they are there for, and nothing in clean files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = """\
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
CLEAN = HEADER + '"""What lives here."""\n\nfrom __future__ import annotations\n\nimport yaml\n'
SPDX = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
SPEC = SPDX + """\
argument_specs:
  main:
    options:
      one_name: {type: str, default: x}
      one_need: {type: str, required: true}
"""


@pytest.fixture()
def tree(tmp_path: Path) -> Path:
    """Give a small collection that is clean."""
    files = {
        "pyproject.toml": SPDX + '[project]\ndependencies = ["ansible-core>=2.19"]\n',
        "galaxy.yml": SPDX + "dependencies: {}\n",
        "meta/ee-requirements.txt": SPDX,
        "plugins/module_utils/a.py": CLEAN,
        "roles/one/tasks/main.yml": SPDX + "- name: Say\n  ansible.builtin.debug:\n    msg: x\n",
        "roles/one/defaults/main.yml": SPDX + "one_name: x\n",
        "roles/one/meta/argument_specs.yml": SPEC,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    return tmp_path


def check(name: str, tree: Path) -> str:
    """Run a check; return its lines, "" when it is content."""
    done = subprocess.run([sys.executable, str(ROOT / "dev" / name), str(tree)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout if done.returncode else ""


def test_a_clean_tree_is_clean(tree: Path) -> None:
    """No false alarms."""
    assert check("check_source.py", tree) == ""
    assert check("check_arguments.py", tree) == ""


LONG = CLEAN + "\n\ndef long():\n" + "    print()\n" * 81


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("plugins/a.py", '"""x"""\nfrom __future__ import annotations\n', "header"),
        ("plugins/a.py", HEADER + "from __future__ import annotations\nimport os\n", "docstring"),
        ("plugins/a.py", HEADER + '"""x"""\nimport os\n', "annotations"),
        ("plugins/a.py", LONG, "long() has 82 lines"),
        ("plugins/a.py", CLEAN + "x = 1\n" * 500, "lines, at most 500"),
        ("plugins/a.py", CLEAN + "import requests\n", "requests"),
        ("roles/one/tasks/b.yml", "- name: x\n", "SPDX"),
        ("dev/tool", "#!/bin/sh\n", "SPDX"),
        ("docker/x.Dockerfile", "FROM x\n", "SPDX"),
        ("roles/one/tasks/b.yml", SPDX + "- name: x\n  community.docker.docker_image:\n", "community.docker is used but not declared"),
        ("galaxy.yml", SPDX + 'dependencies: {ansible.posix: ">=1.5.0"}\n', "ansible.posix is declared but not used"),
        ("meta/ee-requirements.txt", SPDX + "docker>=7\n", "ee-requirements"),
        ("pyproject.toml", SPDX + '[project]\ndependencies = ["ansible-core", "rich>=1"]\n', "rich is a dependency that no plugin imports"),
    ],
)
def test_a_violation_is_named(tree: Path, name: str, text: str, words: str) -> None:
    """The file and the rule stand in one line."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    lines = [line for line in check("check_source.py", tree).splitlines() if words in line]
    assert len(lines) == 1, check("check_source.py", tree)
    assert lines[0].startswith(name) or lines[0].startswith(("galaxy.yml", "pyproject.toml", "meta/"))


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ("one_name: y\n", "one_name: defaults/main.yml says 'y'"),
        ("one_name: x\none_more: 1\n", "one_more is in defaults/main.yml and not"),
        ("{}\n", "one_name has a documented default"),
        ("one_name: x\none_need: z\n", "one_need is required and has a default"),
    ],
)
def test_arguments_that_differ_are_named(tree: Path, defaults: str, words: str) -> None:
    """Defaults and documentation agree, or the variable is named."""
    (tree / "roles/one/defaults/main.yml").write_text(SPDX + defaults)
    assert words in check("check_arguments.py", tree)


def test_a_role_without_documentation_is_named(tree: Path) -> None:
    """Every role describes its arguments."""
    shutil.rmtree(tree / "roles/one/meta")
    assert "describes nothing" in check("check_arguments.py", tree)
