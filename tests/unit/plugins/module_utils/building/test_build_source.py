# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build sources: described by content, kept inside the repository, packed and unpacked without loss."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import ImageError, InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.building import build_source


@pytest.fixture()
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "docker" / "common").mkdir(parents=True)
    (folder / "docker" / "x.Dockerfile").write_text(
        "ARG BASE_DOCKER=base:1\nFROM $BASE_DOCKER\nARG MAD_SECRETS_A\nARG my_git_PASSWORD\nARG PLAIN\n"
    )
    (folder / "docker" / "data").write_text("data")
    (folder / "docker" / "common" / "tool.sh").write_text("tool")
    return folder


def request(**more) -> dict:
    return {"model": "dir/m", "image": "ci-x", "dockerfile": "docker/x.Dockerfile", "dockercontext": "./docker", "build_args": {}, **more}


def test_description(repo: Path) -> None:
    source = build_source.describe(request(), str(repo))
    assert source["dockerfile"] == "docker/x.Dockerfile"
    assert source["context"] == "docker"
    assert source["images"] == ["base:1"]
    assert source["base"] == "base:1"
    assert source["arguments"] == ["BASE_DOCKER", "MAD_SECRETS_A", "PLAIN", "my_git_PASSWORD"]
    assert not source["needs_buildkit"]
    assert source["tools"] == ""


def test_an_argument_changes_the_base_and_not_the_hash(repo: Path) -> None:
    plain, given = (
        build_source.describe(request(), str(repo)),
        build_source.describe(request(build_args={"BASE_DOCKER": "other:2"}), str(repo)),
    )
    assert given["base"] == "other:2"
    assert given["hash"] == plain["hash"]


def test_the_hash_is_content(repo: Path) -> None:
    def now() -> str:
        return build_source.describe(request(), str(repo))["hash"]

    first = now()
    os.utime(repo / "docker" / "data", (1, 1))
    (repo / "docker" / "__pycache__").mkdir()
    (repo / "docker" / "__pycache__" / "x.pyc").write_text("cache")
    (repo / "elsewhere").write_text("not in the context")
    assert now() == first
    (repo / "docker" / ".dockerignore").write_text("noise\n")
    second = now()
    (repo / "docker" / "noise").write_text("noise")
    assert now() == second != first
    (repo / "docker" / "data").write_text("other")
    assert now() != second


def test_tools_count_when_a_dockerfile_asks_for_them(repo: Path) -> None:
    (repo / "docker" / "x.Dockerfile").write_text("FROM base:1\nCOPY --from=tools tool.sh /\n")
    first = build_source.describe(request(), str(repo))
    assert first["tools"] == "docker/common"
    assert first["needs_tools"]
    assert first["images"] == ["base:1"]
    (repo / "docker" / "common" / "tool.sh").write_text("another")
    assert build_source.describe(request(), str(repo))["hash"] != first["hash"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dockerfile": "../outside"}, "dockerfile '../outside' leads out of the repository"),
        ({"dockerfile": "/etc/passwd"}, "leads out of the repository"),
        ({"dockerfile": "docker/link"}, "dockerfile 'docker/link' leads out of the repository"),
        ({"dockercontext": ".."}, "dockercontext '..' leads out of the repository"),
        ({"dockercontext": "nowhere"}, "dockercontext 'nowhere' does not exist"),
        ({"dockercontext": "docker/data"}, "dockercontext docker/data is not a directory"),
        ({"dockerfile": "docker/none"}, "dockerfile 'docker/none' does not exist"),
        ({"dockerfile": "docker"}, "cannot be read"),
        ({"dockerfile": "docker/nofrom"}, "has no FROM that names an image"),
    ],
)
def test_what_is_refused_names_the_model(repo: Path, change: dict, words: str) -> None:
    (repo / "docker" / "nofrom").write_text("ARG X\nFROM $X\n")
    os.symlink("/etc/passwd", repo / "docker" / "link")
    with pytest.raises(InvalidInput, match=words) as caught:
        build_source.describe(request(**change), str(repo))
    assert "dir/m" in caught.value.message


@contextlib.contextmanager
def without_root(folder: Path) -> Iterator[None]:
    """Root reads everything: what a test must not be able to read needs somebody else's eyes."""
    if os.geteuid() != 0:
        yield
        return
    for parent in list(folder.parents)[:-1]:
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_cannot_be_read_is_named(repo: Path) -> None:
    (repo / "docker" / "data").chmod(0)
    with without_root(repo), pytest.raises(InvalidInput, match="docker/data cannot be read"):
        build_source.describe(request(), str(repo))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["MAD_SECRETS_A"]),
        ({"cred": "my_git"}, ["MAD_SECRETS_A", "my_git_PASSWORD"]),
        ({"secret_build": ["PLAIN", "absent"]}, ["MAD_SECRETS_A", "PLAIN"]),
    ],
)
def test_which_arguments_carry_credentials(repo: Path, more: dict, expected: list) -> None:
    wanted = request(**more)
    assert build_source.secret_arguments(wanted, build_source.describe(wanted, str(repo))) == expected


def test_packed_and_unpacked_is_the_same(repo: Path, tmp_path: Path) -> None:
    context = repo / "docker"
    (context / "sub dir").mkdir()
    (context / "sub dir" / 'ünï "q" $(x)\nline').write_bytes(b"\x00\xff")
    (context / "run.sh").write_text("#!/bin/sh\n")
    (context / "run.sh").chmod(0o750)
    os.symlink("../../outside", context / "sub dir" / "link")
    os.symlink("sub dir", context / "folderlink")
    os.link(context / "data", context / "hardlink")
    (context / ".dockerignore").write_text("ignored\n")
    (context / "ignored").write_text("x")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(context)  # socket paths end at 107 characters
        listener.bind("socket")
        os.chdir(here)
        source = build_source.describe(request(), str(repo))
        build_source.pack([source, source], str(repo), str(tmp_path / "a.tar.gz"))
    build_source.unpack(str(tmp_path / "a.tar.gz"), str(tmp_path / "out" / "x"))
    out = tmp_path / "out" / "x" / "docker"
    (context / "socket").unlink()
    assert build_source.describe(request(), str(tmp_path / "out" / "x"))["hash"] == build_source.describe(request(), str(repo))["hash"]
    assert (out / "sub dir" / 'ünï "q" $(x)\nline').read_bytes() == b"\x00\xff"
    assert os.access(out / "run.sh", os.X_OK)
    assert not os.access(out / "data", os.X_OK) or os.stat(out / "data").st_mode & 0o111 == 0
    assert os.readlink(out / "sub dir" / "link") == "../../outside"
    assert (out / "hardlink").read_text() == "data"
    assert not (out / "ignored").exists()
    assert not (out / "socket").exists()


def test_an_empty_context_is_a_folder(repo: Path, tmp_path: Path) -> None:
    (repo / "empty").mkdir()
    source = build_source.describe(request(dockercontext="empty"), str(repo))
    build_source.pack([source], str(repo), str(tmp_path / "a.tar.gz"))
    build_source.unpack(str(tmp_path / "a.tar.gz"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "empty").is_dir()
    assert (tmp_path / "out" / "docker" / "x.Dockerfile").is_file()


def test_the_whole_repository_as_context(repo: Path, tmp_path: Path) -> None:
    source = build_source.describe(request(dockercontext="."), str(repo))
    (repo / ".git").mkdir()
    (repo / ".git" / "config").write_text("x")
    build_source.pack([source], str(repo), str(tmp_path / "a.tar.gz"))
    build_source.unpack(str(tmp_path / "a.tar.gz"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "docker" / "data").read_text() == "data"
    assert not (tmp_path / "out" / ".git").exists()


def test_archive_ids_are_those_of_the_contents(repo: Path) -> None:
    one = build_source.describe(request(), str(repo))
    (repo / "docker" / "data").write_text("other")
    two = build_source.describe(request(), str(repo))
    assert build_source.archive_id([one, two]) == build_source.archive_id([two, one, one])
    assert build_source.archive_id([one]) != build_source.archive_id([two])


def test_of_two_that_unpack_at_once_both_are_served(repo: Path, tmp_path: Path) -> None:
    source = build_source.describe(request(), str(repo))
    build_source.pack([source], str(repo), str(tmp_path / "a.tar.gz"))
    for _time in range(2):
        build_source.unpack(str(tmp_path / "a.tar.gz"), str(tmp_path / "out" / "x"))
    assert os.listdir(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "escape"])
def test_a_broken_archive_leaves_nothing(repo: Path, tmp_path: Path, damage: str) -> None:
    archive = tmp_path / "a.tar.gz"
    (repo / "docker" / "big").write_bytes(os.urandom(200000))
    build_source.pack([build_source.describe(request(), str(repo))], str(repo), str(archive))
    if damage == "truncated":
        archive.write_bytes(archive.read_bytes()[:50000])
    elif damage == "garbage":
        archive.write_bytes(b"garbage")
    else:
        with tarfile.open(archive, "w:gz") as stream:
            stream.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(ImageError, match="cannot be unpacked"):
        build_source.unpack(str(archive), str(tmp_path / "out" / "x"))
    assert os.listdir(tmp_path / "out") == []
    assert not (tmp_path / "evil").exists()
