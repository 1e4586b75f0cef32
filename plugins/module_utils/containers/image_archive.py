# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as archives, for hosts without a common registry: saved once, named by the image's id, verified by their own checksum."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from typing import IO, Any, Dict, Optional, Tuple, cast

from ..base import files
from ..base.canonical import hash_file
from ..base.errors import ImageError, InvalidInput
from .image_engine import ImageEngine, normal_id

_CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_MARGIN = 256 << 20  # bytes that must stay free beside an archive


def file_name(digest: str) -> str:
    """`<64 hex digits>.tar` for an image id; anything else is refused: the name becomes a path on the controller."""
    match = _DIGEST.match(digest)
    if not match:
        raise InvalidInput("%r is not an image id (sha256:<64 hex digits>)" % digest[:100])
    return match.group(1) + ".tar"


def check_space(folder: str, wanted: int, what: str) -> None:
    """ImageError unless `wanted` bytes and a margin are free where `folder` is."""
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize
    if free < wanted + _MARGIN:
        raise ImageError("%s needs %d MB in %s, where only %d MB are free" % (what, (wanted + _MARGIN) >> 20, folder, free >> 20))


def save(engine: ImageEngine, image: str, digest: str, folder: str) -> Dict[str, Any]:
    """Save an image into `folder` unless it lies there already: {"digest", "path", "bytes", "sha256", "changed"}.

    The checksum is made while writing and kept beside the archive. ImageError when the name no longer means this image, when space is
    short, or when the engine fails; nothing half written stays.
    """
    path = os.path.join(folder, file_name(digest))
    known = _known(path, digest)
    if known:
        os.utime(path)  # its age is that of its last use
        return dict(known, path=path, changed=False)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = engine.image(image)
    if not found or normal_id(found["Id"]) != digest:
        raise ImageError("image %s on the build host is no longer %s: somebody built or removed it meanwhile" % (image, digest))
    check_space(folder, int(found.get("Size") or 0), "the archive of image %s" % image)
    written = _write(engine, _saved_name(engine, image), path)
    document = {"digest": digest, "bytes": written[0], "sha256": written[1]}
    files.write_json(path + ".json", document, 0o600)
    return dict(document, path=path, changed=True)


def _known(path: str, digest: str) -> Optional[Dict[str, Any]]:
    """What stands beside an archive that is complete."""
    try:
        document = files.read_json(path + ".json", "the archive's checksum")
        if document["digest"] == digest and document["bytes"] == os.path.getsize(path):
            return dict(document)
    except (InvalidInput, OSError, KeyError, TypeError):
        pass
    return None


def _saved_name(engine: ImageEngine, image: str) -> str:
    """The name to save under. podman would write localhost/ before it; with this one docker and podman read the same name back."""
    if engine.kind != "podman" or "/" in image:
        return image
    name = "docker.io/library/" + image
    engine.call("tag", image, name)
    return name


def _write(engine: ImageEngine, image: str, path: str) -> Tuple[int, str]:
    """(bytes, sha256) of what `save` printed, moved into place when it is complete."""
    descriptor, temporary = tempfile.mkstemp(prefix=".save-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as stream, tempfile.TemporaryFile() as errors:
            written = _stream(engine, image, stream, errors)
            os.fchmod(stream.fileno(), 0o600)
        os.replace(temporary, path)
    except OSError as error:
        raise ImageError("image %s cannot be saved to %s: %s" % (image, path, error.strerror)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return written


def _stream(engine: ImageEngine, image: str, stream: IO[bytes], errors: IO[bytes]) -> Tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # ended below in every case
        engine.argv("save", image), env=engine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
    )
    pipe = cast(IO[bytes], process.stdout)
    try:
        for chunk in iter(lambda: pipe.read(_CHUNK), b""):
            digest.update(chunk)
            stream.write(chunk)
            size += len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
        code = process.wait()
    finally:
        process.kill()
        pipe.close()
        process.wait()
    if code:
        errors.seek(0)
        raise ImageError("%s cannot save image %s: %s" % (engine.kind, image, errors.read(2000).decode("utf-8", "replace").strip()))
    return size, digest.hexdigest()


def reuse(path: str, campaigns: str) -> bool:
    """Give `path` the archive of the same name that another campaign below `campaigns` has (a hard link: no bytes are copied)."""
    with contextlib.suppress(OSError):
        for name in os.listdir(campaigns):
            if _link(os.path.join(campaigns, name, "images", os.path.basename(path)), path):
                return True
    return False


def _link(other: str, path: str) -> bool:
    """The archive last: where it stands, its checksum stands. One that somebody else links at the same time is as good."""
    if other == path or not os.path.isfile(other) or not os.path.isfile(other + ".json"):
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for ending in (".json", ""):
        with contextlib.suppress(FileExistsError):
            os.link(other + ending, path + ending)
    return True


def accept(temporary: str, path: str, archive: Dict[str, Any]) -> None:
    """Move a fetched archive (beside `path`) into place when it is what the build host wrote; ImageError otherwise."""
    size = os.path.getsize(temporary)
    if size != archive["bytes"] or hash_file(temporary) != archive["sha256"]:
        raise ImageError(
            "the archive of %s was damaged on its way: %d bytes arrived, %d were sent" % (archive["digest"], size, archive["bytes"])
        )
    files.write_json(path + ".json", {name: archive[name] for name in ("digest", "bytes", "sha256")})
    os.replace(temporary, path)
