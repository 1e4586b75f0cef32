# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kept answers: used as long as nothing they depend on has changed, and never trusted further than that."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.models import discovery, discovery_cache

COUNTED = """
import os
from madengine.utils.discover_models import CustomModel
descriptor = os.open(COUNTER, os.O_WRONLY | os.O_APPEND)
os.write(descriptor, b"x")
HEAD
def list_models():
    return [CustomModel(name="m", args=str(VALUE), scripts="run.sh")]
"""


class Repo:
    """A repository with one custom directory that counts how often it is run."""

    def __init__(self, base: Path) -> None:
        self.root = base / "repo"
        self.cache = base / "cache"
        self.counter = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else base) / ("mad-test-%d-%s" % (os.getpid(), base.name))
        self.counter.write_bytes(b"")
        (self.root / "scripts" / "d").mkdir(parents=True)
        (self.root / "models.json").write_text("[]")
        self.code("VALUE = 1")

    def code(self, head: str) -> None:
        """Write get_models_json.py; `head` sets VALUE."""
        (self.root / "scripts/d/get_models_json.py").write_text(COUNTED.replace("COUNTER", repr(str(self.counter))).replace("HEAD", head))

    def value(self) -> str:
        """What discovery says VALUE is."""
        found = discovery.discover(str(self.root), "d/m", cache_dir=str(self.cache))
        args: str = found["models"][0]["args"]
        return args

    def runs(self) -> int:
        """How often the code ran since the last question."""
        count = self.counter.stat().st_size
        self.counter.write_bytes(b"")
        return count

    def entries(self) -> list[Path]:
        """The files of the cache."""
        return sorted(self.cache.iterdir())


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A counting repository. The counter is below /dev, which the code may look at freely, or else its content never changes."""
    made = Repo(tmp_path)
    yield made
    made.counter.unlink()


def same(repo: Repo, value: str) -> None:
    """The kept answer is used, and it is this one."""
    assert repo.value() == value
    assert repo.runs() == 0


def run_again(repo: Repo, value: str) -> None:
    """The code is run once more and says this; after that its answer is kept."""
    assert repo.value() == value
    assert repo.runs() == 1


def test_an_answer_is_kept(repo: Repo) -> None:
    """Also over another time stamp and over a copy of the repository somewhere else."""
    run_again(repo, "1")
    same(repo, "1")
    os.utime(repo.root / "scripts/d/get_models_json.py", (1, 1))
    same(repo, "1")
    moved = repo.root.with_name("copy")
    shutil.copytree(repo.root, moved)
    repo.root = moved
    same(repo, "1")


def test_without_a_folder_nothing_is_kept(repo: Repo) -> None:
    """The default of the core."""
    for _round in range(2):
        discovery.discover(str(repo.root), "d/m")
        assert repo.runs() == 1
    assert not repo.cache.exists()


def test_files_of_the_directory_count(repo: Repo) -> None:
    """Content, names and modes, at any depth; bytecode and version control don't."""
    run_again(repo, "1")
    repo.code("VALUE = 2")
    run_again(repo, "2")
    (repo.root / "scripts/d/deep").mkdir()
    (repo.root / "scripts/d/deep/file").write_text("a")
    run_again(repo, "2")
    (repo.root / "scripts/d/deep/file").chmod(0o755)
    run_again(repo, "2")
    (repo.root / "scripts/d/__pycache__").mkdir()
    (repo.root / "scripts/d/__pycache__/x.pyc").write_text("a")
    same(repo, "2")
    repo.code("VALUE = 1")
    (repo.root / "scripts/d/deep/file").unlink()
    same(repo, "1")


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_files_elsewhere_count_if_they_were_read(repo: Repo, where: str, tmp_path: Path) -> None:
    """In the repository or not, there or not yet there."""
    file = (repo.root if where == "inside" else tmp_path) / "sizes.txt"
    name = "sizes.txt" if where == "inside" else str(file)
    repo.code("VALUE = 0\ntry:\n    VALUE = open(%r).read()\nexcept OSError:\n    pass" % name)
    run_again(repo, "0")
    same(repo, "0")
    file.write_text("5")
    run_again(repo, "5")
    same(repo, "5")
    file.write_text("6")
    run_again(repo, "6")
    (repo.root / "models.json").write_text("[ ]")
    same(repo, "6")


def test_imports_from_elsewhere_count(repo: Repo, tmp_path: Path) -> None:
    """A module shared by several directories."""
    shared = repo.root / "scripts" / "common"
    shared.mkdir()
    (shared / "shared_sizes.py").write_text("SIZE = 1\n")
    repo.code("import sys; sys.path.insert(0, 'scripts/common'); from shared_sizes import SIZE as VALUE")
    run_again(repo, "1")
    same(repo, "1")
    (shared / "shared_sizes.py").write_text("SIZE = 2\n")
    run_again(repo, "2")


@pytest.mark.parametrize("ask", ["os.path.exists(F)", "__import__('pathlib').Path(F).is_file()", "os.access(F, os.R_OK)", "os.path.isdir(F)"])
def test_files_count_that_were_only_asked_for(repo: Repo, ask: str, tmp_path: Path) -> None:
    """A model is listed where its configuration is there; what stands in it is read by nobody, so it may be large."""
    file = tmp_path / "asked for"
    repo.code("import os; F = %r; VALUE = %s" % (str(file), ask))
    run_again(repo, "False")
    same(repo, "False")
    if "isdir" in ask:
        file.mkdir()
    else:
        file.write_text("one")
    run_again(repo, "True")
    same(repo, "True")
    os.utime(file, (1, 1))
    same(repo, "True")


def test_listings_count(repo: Repo) -> None:
    """A directory elsewhere that was listed."""
    repo.code("VALUE = len(os.listdir('scripts'))")
    run_again(repo, "1")
    same(repo, "1")
    (repo.root / "scripts/e").mkdir()
    run_again(repo, "2")


@pytest.mark.parametrize(
    "read",
    ["os.environ['MAD_TEST_SIZE']", "os.environ.get('MAD_TEST_SIZE')", "os.getenv('MAD_TEST_SIZE')", "dict(os.environ)['MAD_TEST_SIZE']"],
)
def test_environment_variables_count_if_they_were_read(repo: Repo, monkeypatch: pytest.MonkeyPatch, read: str) -> None:
    """Their values are kept as hashes only."""
    repo.code("VALUE = " + read)
    monkeypatch.setenv("MAD_TEST_SIZE", "secret-one")
    run_again(repo, "secret-one")
    if not read.startswith("dict"):
        monkeypatch.setenv("MAD_TEST_OTHER", "x")
    same(repo, "secret-one")
    monkeypatch.setenv("MAD_TEST_SIZE", "secret-two")
    run_again(repo, "secret-two")
    assert all("variables" in json.loads(entry.read_text()) for entry in repo.entries())
    variables = [json.loads(entry.read_text())["variables"]["MAD_TEST_SIZE"] for entry in repo.entries()]
    assert not any("secret" in value for value in variables)


def test_a_variable_that_is_unset_counts_too(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting it later changes the answer."""
    monkeypatch.delenv("MAD_TEST_SIZE", raising=False)
    repo.code("VALUE = 'MAD_TEST_SIZE' in os.environ")
    run_again(repo, "False")
    same(repo, "False")
    monkeypatch.setenv("MAD_TEST_SIZE", "")
    run_again(repo, "True")


@pytest.mark.parametrize(
    "asks",
    [
        "import subprocess; subprocess.run(['true'])",
        "os.system('true')",
        "import socket; s = socket.socket(); s.connect_ex(('127.0.0.1', 1))",
        "os.fork() or os._exit(0)",
        "import sqlite3; sqlite3.connect(':memory:')",
    ],
)
def test_what_asks_others_is_never_kept(repo: Repo, asks: str) -> None:
    """Other programs, other processes, the network, databases."""
    repo.code("VALUE = 1\n" + asks)
    run_again(repo, "1")
    run_again(repo, "1")
    assert not repo.cache.exists() or repo.entries() == []


def test_another_python_asks_again(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packages may differ."""
    run_again(repo, "1")
    monkeypatch.setattr(discovery_cache.sys, "version", sys.version + " (another)")
    run_again(repo, "1")
    monkeypatch.setattr(discovery_cache, "PROTOCOL", -1)
    run_again(repo, "1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"protocol": 1}',
        b'{"protocol": 1, "models": [{}], "paths": {}, "variables": {}}',
        b"[" * 100_000,
    ]
    + [
        json.dumps({"protocol": 1, "models": models, "paths": paths, "variables": {}}).encode()
        for models, paths in ((5, {}), ([5], {}), ([], []))
    ],
)
def test_a_corrupt_entry_is_ignored(repo: Repo, content: bytes) -> None:
    """And replaced."""
    run_again(repo, "1")
    (entry,) = repo.entries()
    good = entry.read_bytes()
    entry.write_bytes(content)
    run_again(repo, "1")
    assert entry.read_bytes() == good


def test_an_answer_about_some_models_is_kept_by_itself(repo: Repo) -> None:
    """A computed card is kept for the models that were asked for."""
    lazy = "VALUE = 1\nclass C(CustomModel):\n    def update_model(self):\n        self.args = self.name\n"
    repo.code(lazy)
    path = repo.root / "scripts/d/get_models_json.py"
    path.write_text(path.read_text().replace('[CustomModel(name="m"', "[C(name='n'), C(name=\"m\""))
    assert repo.value() == "d/m"
    assert repo.runs() == 2
    same(repo, "d/m")
    discovery.discover(str(repo.root), "d/n", cache_dir=str(repo.cache))
    assert repo.runs() == 1


def test_a_folder_that_cannot_be_written(repo: Repo) -> None:
    """Costs time and a warning, not the answer."""
    repo.cache.write_text("a file where a folder should be")
    for _round in range(2):
        found = discovery.discover(str(repo.root), "d/m", cache_dir=str(repo.cache))
        assert repo.runs() == 1
        assert found["models"][0]["args"] == "1"
        assert "cannot be kept in %s" % repo.cache in found["warnings"][0]


def test_an_unreadable_file_in_the_directory(repo: Repo) -> None:
    """Then only running the code can tell."""
    (repo.root / "scripts/d/loop").symlink_to("loop")
    run_again(repo, "1")
    same(repo, "1")
    (repo.root / "scripts/d/loop").unlink()
    os.mkfifo(repo.root / "scripts/d/pipe")
    run_again(repo, "1")
    same(repo, "1")


def test_old_entries_go(repo: Repo) -> None:
    """A month after their last use; nothing else in the folder is touched."""
    run_again(repo, "1")
    (old,) = repo.entries()
    foreign = repo.cache / "notes.json"
    foreign.write_text("mine")
    for path in (old, foreign):
        os.utime(path, (1, 1))
    repo.code("VALUE = 2")
    run_again(repo, "2")
    assert not old.exists()
    assert foreign.exists()
    (kept,) = [path for path in repo.entries() if path != foreign]
    os.utime(kept, (1, 1))
    same(repo, "2")
    assert kept.stat().st_mtime > time.time() - 60


def test_nobody_else_reads_the_cache(repo: Repo) -> None:
    """Cards may hold private things."""
    run_again(repo, "1")
    assert repo.cache.stat().st_mode & 0o777 == 0o700
    assert all(entry.stat().st_mode & 0o777 == 0o600 for entry in repo.entries())


def test_an_answer_that_changed_while_it_was_made(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not kept: nobody knows which files it belongs to."""
    repo.code("VALUE = 1\nopen('scripts/d/made', 'w').write(str(os.getpid()))")
    run_again(repo, "1")
    assert not repo.cache.exists()
