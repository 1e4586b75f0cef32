# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod reads: the model repository's paths as one archive, cut into ConfigMaps."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers import archives

from . import stage

PIECE = 512 << 10  # bytes of one piece of the archive
CONFIG_MAP = 900 << 10  # bytes of one ConfigMap; the API server takes 1 MiB
_BUFFER = 1 << 18  # tarfile writes small pieces, each of which is a call of the packer
MOST = 32 << 20  # of a run's archive: what etcd would have to hold


def pack(repo: str, paths: t.Iterable[str]) -> bytes:
    """A tar.gz of these paths of a repository, as they lie there, over our own scripts/common; equal trees give equal bytes."""
    raw = io.BytesIO()
    tree = stage.tree_of(repo, paths)
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0) as packed, io.BufferedWriter(packed, _BUFFER) as buffered:
        with tarfile.open(fileobj=buffered, mode="w") as archive:
            for name in sorted(tree):
                _add(archive, tree[name], name)
    data = raw.getvalue()
    if len(data) > MOST:
        raise InvalidInput(
            "%s in the model repository: packed %.1f MB, and at most %d MB can travel in ConfigMaps; put the repository on a claim "
            "(k8s.scripts_from: pvc) or into the image (k8s.scripts_from: image)" % (", ".join(sorted(paths)), len(data) / 1e6, MOST >> 20)
        )
    return data


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    if os.path.islink(path):
        archives.add_link(archive, os.readlink(path), name)
        return
    try:
        with open(path, "rb") as stream:
            archives.add_bytes(archive, stream.read(), name, 0o644 | (os.fstat(stream.fileno()).st_mode & 0o111))
    except OSError as error:
        raise InvalidInput("%s cannot be staged: %s" % (path, error.strerror)) from error


def pieces(archive: bytes) -> dict[str, bytes]:
    """{tree.000: bytes, ...}: in the order of their names they are the archive."""
    return {"tree.%03d" % number: archive[start : start + PIECE] for number, start in enumerate(range(0, len(archive), PIECE))}


def spread(files: t.Mapping[str, bytes]) -> list[dict[str, bytes]]:
    """Files over as few ConfigMaps as it takes, each of them below the limit."""
    found: list[dict[str, bytes]] = []
    sizes: list[int] = []
    for name, data in files.items():
        if len(data) > CONFIG_MAP:
            raise InvalidInput(
                "%s has %d bytes, and at most %d fit into a ConfigMap; put large values into files" % (name, len(data), CONFIG_MAP)
            )
        place = next((index for index, size in enumerate(sizes) if size + len(data) <= CONFIG_MAP), len(found))
        if place == len(found):
            found.append({})
            sizes.append(0)
        found[place][name] = data
        sizes[place] += len(data)
    return found
