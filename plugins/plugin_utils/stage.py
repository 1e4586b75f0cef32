# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes to a host: the core, the paths of the repository that its runs need, the resolved runs; one archive, made on the controller."""

from __future__ import annotations

import functools
import json
import os
import tarfile
import typing as t

from ansible_collections.mad.engine.plugins.module_utils.base import canonical
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers import archives
from ansible_collections.mad.engine.plugins.module_utils.host import driver

from . import zipapp


def common_files() -> str:
    """Our own scripts/common, which lies below the repository's (whose files win)."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.join(here, "roles", "local", "files", "common")


def tree_of(repo: str, paths: t.Iterable[str]) -> dict[str, str]:
    """{name in the tree: path on the controller} of everything that is staged. A path that is absent is InvalidInput, except scripts/common."""
    found: dict[str, str] = {}
    real = os.path.realpath(repo)
    for path in sorted({driver.relative(path, "stage") for path in paths} | {driver.COMMON}):
        source = os.path.join(repo, path)
        if os.path.commonpath([os.path.realpath(source), real]) != real:
            raise InvalidInput("%s in the model repository %s is a link that leads out of it; nothing of the controller goes to hosts" % (path, repo))
        if os.path.lexists(source):
            found.update({"/".join(filter(None, (path, name))): file for name, file in canonical.files_of(source, repo).items()})
        elif path != driver.COMMON:
            raise InvalidInput("%s does not exist in the model repository %s" % (path, repo))
    for name, source in _own().items():
        found.setdefault(name, source)
    return found


@functools.lru_cache(maxsize=1)
def _own() -> dict[str, str]:
    """{name in the tree: path} of our own files, which do not change while we run."""
    own = common_files()
    return {driver.COMMON + "/" + name: os.path.join(own, name) for name in canonical.walk_files(own)}


def tree_hash(tree: t.Mapping[str, str]) -> str:
    """Content hash of a tree: it names the folder on the host."""
    return canonical.hash_value([[name, canonical.hash_tree(tree[name])] for name in sorted(tree)])[:16]


class Stage(t.NamedTuple):
    """What a host is given."""

    document: dict[str, t.Any]  # stage.json: runs, facts, secrets, credentials, core, tree
    tree: dict[str, str]
    core: bytes


def prepare(repo: str, stage_paths: t.Iterable[str], document: t.Mapping[str, t.Any], program: str = zipapp.SUPERVISOR) -> Stage:
    """Name the parts by their content; `document` brings runs, facts, secrets and credentials; `program` is what the host runs."""
    tree = tree_of(repo, stage_paths)
    core_hash, core = zipapp.build(program)
    return Stage(dict(document, core=core_hash, tree=tree_hash(tree)), tree, core)


def write(stage: Stage, path: str) -> int:
    """Write the archive (mode 0600: it holds secrets); returns its bytes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz", compresslevel=3) as archive:
        archives.add_bytes(archive, json.dumps(stage.document).encode(), "stage.json", 0o600)
        archives.add_bytes(archive, stage.core, "core.pyz")
        for name in sorted(stage.tree):
            _add(archive, stage.tree[name], "tree/" + name)
    return os.path.getsize(path)


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    if os.path.islink(path):
        archives.add_link(archive, os.readlink(path), name)
    elif archives.add_file(archive, path, name) < 0:
        raise InvalidInput("%s cannot be staged: it is not a readable file" % path)
