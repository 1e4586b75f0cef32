# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zipapp and the staged tree: the same bytes for the same sources, nothing outside the core, the repository's files win."""

from __future__ import annotations

import ast
import glob
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.plugin_utils import stage, zipapp


def interpreters() -> list[str]:
    """Every Python from 3.8 on that lies on this machine."""
    found = {os.path.realpath(path) for path in glob.glob("/usr/bin/python3.[0-9]*") + glob.glob("/root/.pyenv/versions/3.*/bin/python3")}
    named = {}
    for path in sorted(found):
        if os.access(path, os.X_OK) and not path.endswith("config"):
            done = subprocess.run(
                [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
            )
            version = tuple(int(word) for word in done.stdout.strip().split(".")) if done.returncode == 0 else (0, 0)
            if version >= (3, 8):
                named.setdefault(version, path)
    return [named[version] for version in sorted(named)]


@pytest.mark.parametrize("python", interpreters())
def test_every_python_runs_it(python: str, tmp_path: Path) -> None:
    path = tmp_path / "core.pyz"
    path.write_bytes(zipapp.build()[1])
    done = subprocess.run([python, "-I", "-B", "-W", "error", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "usage: supervise FOLDER [DESCRIPTOR]\n")


def test_same_sources_same_bytes() -> None:
    assert zipapp.build() == zipapp.build()


def test_it_holds_what_the_supervisor_needs_and_no_more() -> None:
    names = {module.rpartition(".")[2] for module in zipapp.sources()}
    assert {"supervisor", "keeper", "bodies", "driver", "engine", "perf", "record", "status"} <= names
    assert not {"discovery", "plan", "campaign", "host_steps", "builder"} & names


def imports_by_python(module: str, source: bytes) -> set[str]:
    """The relative imports of a module of the core, as Python's own parser sees them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*module.split(".")[: -node.level], *filter(None, (node.module or "").split("."))]
            found |= {".".join(base)} if len(base) == 2 else {".".join([*base, name.name]) for name in node.names}
    return found


def test_the_imports_of_every_module_of_the_core_are_found() -> None:
    """They are looked for by their look, which is quick; Python's parser says the same of each."""
    core = Path(zipapp.errors.__file__).parent.parent
    paths = [path for path in sorted(core.glob("*/*.py")) if path.name != "__init__.py"]
    assert len(paths) > 100
    for path in paths:
        module = "%s.%s" % (path.parent.name, path.stem)
        assert zipapp.imported(module, path.read_bytes(), str(path)) == imports_by_python(module, path.read_bytes()), path


def test_an_import_from_outside_the_core_is_refused() -> None:
    with pytest.raises(MadError, match="x.py imports from outside the core"):
        zipapp.imported("host.x", b"from ...plugin_utils import y\n", "x.py")


@pytest.mark.parametrize("link", ["scripts/m", "scripts"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, link: str) -> None:
    """A folder of the controller must not travel because a repository points there."""
    repo, outside = tmp_path / "repo", tmp_path / "outside"
    (outside / "m").mkdir(parents=True)
    (outside / "id_rsa").write_text("private")
    (repo / "scripts").parent.mkdir(parents=True)
    if link != "scripts":
        (repo / "scripts").mkdir()
    (repo / link).symlink_to(outside)
    with pytest.raises(InvalidInput, match="leads out of it"):
        stage.tree_of(str(repo), ["scripts/m"])


def test_repository_wins_over_our_common(tmp_path: Path) -> None:
    (tmp_path / "scripts" / "common").mkdir(parents=True)
    (tmp_path / "scripts" / "common" / "test_echo.sh").write_text("mine")
    (tmp_path / "scripts" / "m").mkdir()
    (tmp_path / "scripts" / "m" / "run.sh").write_text("x")
    (tmp_path / "scripts" / "m" / ".git").mkdir()
    (tmp_path / "scripts" / "m" / ".git" / "config").write_text("secret")
    tree = stage.tree_of(str(tmp_path), ["scripts/m"])
    assert Path(tree["scripts/common/test_echo.sh"]).read_text() == "mine"
    assert "scripts/common/pre_scripts/pre_test.sh" in tree and "scripts/m/run.sh" in tree
    assert not [name for name in tree if ".git" in name]


def test_tree_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.sh").write_text("x")
    first = stage.tree_hash(stage.tree_of(str(tmp_path), ["m"]))
    os.utime(tmp_path / "m" / "run.sh", (1, 1))
    assert stage.tree_hash(stage.tree_of(str(tmp_path), ["m"])) == first
    (tmp_path / "m" / "run.sh").chmod(0o755)
    assert stage.tree_hash(stage.tree_of(str(tmp_path), ["m"])) != first


def test_what_is_not_there_or_outside_is_refused(tmp_path: Path) -> None:
    for path in ("scripts/nothing", "../x", "/etc"):
        with pytest.raises(InvalidInput):
            stage.tree_of(str(tmp_path), [path])


def test_archive_is_private_and_begins_with_the_document(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a\nb").write_text("x")
    (tmp_path / "m" / "link").symlink_to("a")
    made = stage.prepare(str(tmp_path), ["m"], {"runs": [], "secrets": {"1": {"T": "v"}}})
    stage.write(made, str(tmp_path / "s.tar.gz"))
    assert os.stat(tmp_path / "s.tar.gz").st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "s.tar.gz") as archive:
        names = archive.getnames()
    assert names[:2] == ["stage.json", "core.pyz"] and {"tree/m/a\nb", "tree/m/link"} <= set(names)


def test_links_to_elsewhere_in_the_repository_become_what_they_lead_to(tmp_path: Path) -> None:
    """As with madengine, which copies scripts with cp -L: the folder travels without what lies beside it."""
    for name in ("scripts/shared/run.sh", "scripts/shared/deep/data.txt", "scripts/one/own.txt", "pre.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    one = tmp_path / "scripts/one"
    links = {
        **{"run.sh": "../shared/run.sh", "data": "../shared/deep", "near": "own.txt", "up": "..", "all": "../..", "lost": "absent"},
        **{"hosts": "/opt/data", "absolute.sh": str(tmp_path / "scripts/shared/run.sh")},
    }
    for name, target in links.items():
        (one / name).symlink_to(target)
    (tmp_path / "scripts/shared/deep/back").symlink_to("../../one")
    (tmp_path / "scripts/pre.sh").symlink_to("../pre.sh")
    stage.write(stage.prepare(str(tmp_path), ["scripts/one", "scripts/pre.sh"], {}), str(tmp_path / "stage.tar.gz"))
    with tarfile.open(tmp_path / "stage.tar.gz") as archive:
        found = {member.name.partition("tree/scripts/")[2]: member.linkname or _content(archive, member) for member in archive.getmembers()}
    assert {name: text for name, text in found.items() if name and not name.startswith("common/")} == {
        **{"one/run.sh": "scripts/shared/run.sh", "one/absolute.sh": "scripts/shared/run.sh", "one/data/data.txt": "scripts/shared/deep/data.txt"},
        **{"one/own.txt": "scripts/one/own.txt", "one/near": "own.txt", "one/up": "..", "one/all": "../..", "one/lost": "absent"},
        **{"one/hosts": "/opt/data", "one/data/back": "../../one", "pre.sh": "pre.sh"},
    }


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    return stream.read().decode("utf-8", "replace") if stream and member.name.startswith("tree/") else ""
