# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives between controller and host: nothing leaves its folder, no link is followed."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.containers import archives


def packed(fill: Callable[[tarfile.TarFile], Any]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        fill(archive)
    return io.BytesIO(stream.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> Callable[[tarfile.TarFile], None]:
    def fill(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info, io.BytesIO(b""))

    return fill


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "run.sh").write_text("x")
    (tmp_path / "in" / "run.sh").chmod(0o4751)

    def fill(archive: tarfile.TarFile) -> None:
        archives.add_bytes(archive, b"first", "stage.json", 0o600)
        assert archives.add_file(archive, str(tmp_path / "in" / "run.sh"), "a/run.sh") == 1
        archives.add_link(archive, "run.sh", "a/link")

    stream = packed(fill)
    assert archives.read_first(stream, "stage.json") == b"first"
    stream.seek(0)
    assert archives.unpack(stream, str(tmp_path / "out"), links=True) == ["stage.json", "a/run.sh"]
    assert os.stat(tmp_path / "out" / "a" / "run.sh").st_mode & 0o7777 == 0o755
    assert os.readlink(tmp_path / "out" / "a" / "link") == "run.sh"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..", ".", "a/../.."])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MadError, match="leaves its folder"):
        archives.unpack(packed(member(name)), str(tmp_path / "out"), links=True)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("kind", "links"), [(tarfile.SYMTYPE, False), (tarfile.LNKTYPE, True), (tarfile.FIFOTYPE, True), (tarfile.CHRTYPE, True)]
)
def test_kinds_that_are_refused(tmp_path: Path, kind: bytes, links: bool) -> None:
    with pytest.raises(MadError, match="neither a file nor a folder"):
        archives.unpack(packed(member("x", kind, "y")), str(tmp_path / "out"), links=links)


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """A link to a folder outside, then a file below it."""
    (tmp_path / "victim").mkdir()

    def fill(archive: tarfile.TarFile) -> None:
        archives.add_link(archive, str(tmp_path / "victim"), "a")
        archives.add_bytes(archive, b"evil", "a/x")

    with pytest.raises((MadError, OSError)):
        archives.unpack(packed(fill), str(tmp_path / "out"), links=True)
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"not an archive", b"\x1f\x8b" + b"x" * 50])
def test_rubbish_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(MadError, match="cannot be unpacked|does not begin"):
        archives.unpack(io.BytesIO(data), str(tmp_path / "out"), links=False)
        archives.read_first(io.BytesIO(data), "stage.json")


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    data = packed(lambda archive: archives.add_bytes(archive, os.urandom(100000), "x")).getvalue()
    with pytest.raises(MadError):
        archives.unpack(io.BytesIO(data[: len(data) // 2]), str(tmp_path / "out"), links=False)


def test_links_and_pipes_are_not_packed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    results = []
    packed(lambda archive: results.extend(archives.add_file(archive, str(tmp_path / name), "x") for name in ("link", "pipe", "nothing")))
    assert results == [-1, -1, -1]


def test_a_small_archive_with_a_huge_file_fills_no_disk(tmp_path: Path) -> None:
    """What the archive holds is counted, not what whoever sent it said."""
    stream = packed(lambda archive: archives.add_bytes(archive, b"\0" * (3 << 20), "x"))
    assert len(stream.getvalue()) < 100000
    with pytest.raises(MadError, match="more than the 1 MiB that there is room for; 'x'"):
        archives.unpack(stream, str(tmp_path / "out"), links=False, limit=1 << 20)
    assert not (tmp_path / "out" / "x").exists()
    stream.seek(0)
    assert archives.unpack(stream, str(tmp_path / "out"), links=False, limit=3 << 20) == ["x"]


@pytest.mark.parametrize("names", [("x", "x"), ("x", "x/y"), ("x/y", "x")])
def test_a_name_twice_is_an_error(tmp_path: Path, names: Any) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        for name in names:
            archives.add_bytes(archive, b"1", name)

    with pytest.raises(MadError, match="holds a name twice: [xy]"):
        archives.unpack(packed(fill), str(tmp_path / "out"), links=False)
