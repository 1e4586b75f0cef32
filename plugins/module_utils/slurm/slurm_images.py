# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images for nodes: from a registry, or as one archive on the shared file system, which each node loads once under a lock.

The login node needs no engine for that. Where it has one that holds the image, the archive is made there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from typing import Any, Container, Dict, Iterator, Mapping, Optional, Tuple

from ..base import work_folder
from ..base.errors import ImageError, MadError
from ..containers.image_archive import file_name
from ..containers.image_engine import ImageEngine, last_line
from ..host import host_images, host_state
from ..host.host_images import Wish
from . import slurm_folder, slurm_runtimes

_SAVE_SECONDS = 6 * 3600.0


def archives_folder(work_dir: str) -> str:
    """Where archives of images lie for the nodes."""
    return os.path.join(work_dir, "images")


def archive_path(work_dir: str, digest: str) -> str:
    """The archive of an image, "" while there is none."""
    path = os.path.join(archives_folder(work_dir), file_name(digest)) if digest else ""
    return path if path and os.path.exists(path) else ""


class SharedImages(host_images.Images):
    """The images of one staging, made available to nodes by their ids; one that is only named has none yet."""

    def __init__(self, work_dir: str, archives: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(host_images.private_folder(work_dir), {}, archives)
        self.work_dir = work_dir

    def _ensure(self, wanted: Wish) -> Tuple[str, str]:
        digest = str(wanted["digest"])
        if not digest:
            return "", self._only_named(wanted)
        if archive_path(self.work_dir, digest):
            os.utime(archive_path(self.work_dir, digest))  # still in use: cleaning goes by age
            return digest, "present"
        if digest in self.archives:
            self._keep(wanted)
            return digest, "loaded"
        if wanted["registry_image"]:
            return digest, "registry"
        if self._saved(wanted):
            return digest, "saved"
        self.missing.append(digest)
        why = ": " + wanted["push_error"] if wanted["push_error"] else ""
        raise ImageError(
            "image %s (%s) is in no registry, and neither this login node nor the controller has it%s" % (wanted["name"], digest, why)
        )

    @staticmethod
    def _only_named(wanted: Wish) -> str:
        """How nodes get an image that has no id yet: an engine runs what it has or pulls under the name, and notes the id."""
        found = slurm_runtimes.source({"image": wanted}, {})
        if wanted["runtime"] not in slurm_runtimes.SANDBOXES:
            return "by name"
        if found.file(str(wanted["runtime"])):
            return "a file"
        if not found.pinned:
            raise ImageError("image %s: runtime %s needs it as name@sha256:..., as a file, or built" % (wanted["name"], wanted["runtime"]))
        return "registry"

    def _target(self, digest: str) -> str:
        work_folder.own_folder(archives_folder(self.work_dir), 0o711)
        return os.path.join(archives_folder(self.work_dir), file_name(digest))

    def _keep(self, wanted: Wish) -> None:
        """Put an archive that the controller brought where every node reads it."""
        path = self._archive(wanted)
        with self._placed(wanted) as scratch, open(path, "rb") as source, open(scratch, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())

    @contextlib.contextmanager
    def _placed(self, wanted: Wish) -> Iterator[str]:
        """A path to write an archive to: it is put in its place at the end, and goes when that fails."""
        target = self._target(str(wanted["digest"]))
        scratch = "%s.%s" % (target, secrets.token_hex(8))  # other login nodes may write the same one
        try:
            yield scratch
            os.replace(scratch, target)
        except OSError as error:
            raise ImageError("the archive of image %s cannot be written to %s: %s" % (wanted["name"], target, error.strerror)) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(scratch)

    def _holder(self, wanted: Wish) -> Optional[ImageEngine]:
        """The engine of this machine that holds the image; for Apptainer, which makes its own out of the archive, any."""
        runtime = str(wanted["runtime"])
        for name in (runtime,) if runtime in slurm_runtimes.ENGINES else slurm_runtimes.ENGINES:
            try:
                engine = self._engine(name)
                if engine.image(str(wanted["digest"])):
                    return engine
            except MadError:
                continue
        return None

    def _saved(self, wanted: Wish) -> bool:
        """Make the archive from this machine's engine, if it has one that holds exactly this image."""
        engine = self._holder(wanted)
        if engine is None:
            return False
        with self._placed(wanted) as scratch:
            code, output, errors = engine.call("save", "--output", scratch, str(wanted["digest"]), timeout=_SAVE_SECONDS)
            if code:
                raise ImageError("image %s cannot be saved to %s: %s" % (wanted["name"], scratch, last_line(errors or output)))
        return True


def images(job: Mapping[str, Any], credentials: Mapping[str, Any]) -> SharedImages:
    """As `host_steps.staged` wants it. The nodes pull, so the logins are kept for them."""
    slurm_folder.folder_of(job).save_logins(credentials)
    return SharedImages(host_state.work_dir(job), job.get("images") or {})


def old_archives(work_dir: str, limit: float, keep: Container[str], check: bool) -> Dict[str, float]:
    """Remove archives that were last used before `limit` and are not to be kept (file names); {path: when it was used}."""
    folder = archives_folder(work_dir)
    found: Dict[str, float] = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # gone by now, like what others were writing
            used = os.lstat(path).st_mtime
            if used < min(limit, time.time()) and name not in keep:
                if not check:
                    os.unlink(path)
                found[path] = used
    return found
