# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images on the shared file system of a cluster."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import Iterator

from ansible_collections.mad.engine.plugins.module_utils.containers.image_archive import file_name
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_images
from ansible_collections.mad.engine.tests.support.records import make_run

DIGESTS = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]
LIMIT = 100_000


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """A file system that takes no large file any more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_an_archive_that_does_not_fit_is_one_image_s_error(tmp_path: Path) -> None:
    """The others are kept, and nothing half-written stays."""
    archives = {}
    for digest, size in zip(DIGESTS, (2 * LIMIT, 10)):
        path = tmp_path / digest[-1]
        path.write_bytes(b"x" * size)
        archives[digest] = {"path": str(path)}
    (tmp_path / "work").mkdir()
    images = slurm_images.SharedImages(str(tmp_path / "work"), archives)
    names = ["ci-large", "ci-small"]
    with small_files():
        images.ensure([make_run(1, image={"name": name, "digest": digest}) for name, digest in zip(names, DIGESTS)])
    large, small = list(images.answers.values())
    assert small["how"] == "loaded" and "image ci-large cannot be written to" in large["error"] and "File too large" in large["error"]
    assert os.listdir(slurm_images.archives_folder(str(tmp_path / "work"))) == [file_name(DIGESTS[1])]


def test_archives_that_nothing_used_lately_go(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("kept", "old", "gone"):
        (folder / name).write_text("")
        os.utime(str(folder / name), (1, 1))
    (folder / "fresh").write_text("")
    (folder / "a folder").mkdir()
    os.utime(str(folder / "a folder"), (1, 1))
    assert set(slurm_images.old_archives(str(tmp_path), 100, ["kept"], True)) == {str(folder / name) for name in ("a folder", "gone", "old")}
    (folder / "gone").unlink()
    assert slurm_images.old_archives(str(tmp_path), 100, ["kept"], False) == {str(folder / "old"): 1}
    assert sorted(os.listdir(str(folder))) == ["a folder", "fresh", "kept"]
