# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a build reads from the model repository: described by content, packed into one archive, unpacked on the build host."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tarfile
import tempfile
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from ..base.canonical import hash_file, hash_tree, hash_value, walk_files
from ..base.errors import ImageError, InvalidInput, MadError
from ..containers import archives
from . import dockerfile_text
from .dockerfiles import context_filter

TOOLS = "docker/common"  # given to Dockerfiles as the build context `tools`
_TOOLS_NAME = "tools"
_SECRET_START = "MAD_SECRETS"


def describe(request: Mapping[str, Any], repo: str, known: Optional[Dict[Tuple[str, str], str]] = None) -> Dict[str, Any]:
    """The source of one build request.

    {"dockerfile", "context", "tools": "docker/common" or "", "hash": content of all of it, "images": external images in order,
    "base": what the last stage stands on, "arguments": [declared ARG names], "needs_buildkit", "needs_tools"}. Paths are relative to `repo`
    and stay inside it; anything else is InvalidInput with the model's name. `known` remembers hashes of contexts between calls.
    """
    what = "model %s" % request["model"]
    dockerfile = _inside(repo, request["dockerfile"], what + ": dockerfile")
    context = _inside(repo, request.get("dockercontext") or "./docker", what + ": dockercontext")
    if not os.path.isdir(os.path.join(repo, context)):
        raise InvalidInput("%s: dockercontext %s is not a directory of the repository" % (what, context))
    facts = dockerfile_text.read(_text(os.path.join(repo, dockerfile), what), request.get("build_args", {}))
    if not facts.base:
        raise InvalidInput("%s: %s has no FROM that names an image (has BASE_DOCKER a value?)" % (what, dockerfile))
    uses_tools = _TOOLS_NAME in facts.contexts or _TOOLS_NAME in facts.images
    tools = TOOLS if uses_tools and os.path.isdir(os.path.join(repo, TOOLS)) else ""
    paths = {"dockerfile": dockerfile, "context": context, "tools": tools}
    try:
        content = [hash_file(os.path.join(repo, dockerfile)), _context_hash(repo, paths, {} if known is None else known)]
    except OSError as error:
        raise InvalidInput("%s: %s cannot be read: %s" % (what, error.filename, error.strerror)) from error
    return dict(
        paths,
        hash=hash_value([paths, content]),
        images=[name for name in dict.fromkeys([*facts.images, *facts.contexts]) if not (tools and name == _TOOLS_NAME)],
        base=facts.base,
        arguments=sorted(facts.arguments),
        needs_buildkit=facts.needs_buildkit,
        needs_tools=bool(tools),
    )


def secret_arguments(request: Mapping[str, Any], source: Mapping[str, Any]) -> List[str]:
    """ARG names of the Dockerfile that carry a credential: what the plan calls secret, fields of the card's `cred`, MAD_SECRETS*."""
    secret, cred = set(request.get("secret_build", ())), request.get("cred", "")
    starts = (_SECRET_START, cred + "_") if cred else (_SECRET_START,)
    return [name for name in source["arguments"] if name in secret or name.startswith(starts)]


def _inside(repo: str, path: str, what: str) -> str:
    """A path relative to the repository, normalised; it must exist and stay inside, links followed."""
    relative = posixpath.normpath(path)
    full, root = os.path.realpath(os.path.join(repo, relative)), os.path.realpath(repo)
    if os.path.isabs(path) or relative.startswith("../") or relative == ".." or not (full + os.sep).startswith(root + os.sep):
        raise InvalidInput("%s %r leads out of the repository %s" % (what, path, repo))
    if not os.path.exists(full):
        raise InvalidInput("%s %r does not exist in %s" % (what, path, repo))
    return relative


def _text(path: str, what: str) -> str:
    """A Dockerfile's text; bytes that are no UTF-8 are kept as they can be, the engine reads the file itself."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError as error:
        raise InvalidInput("%s: %s cannot be read: %s" % (what, path, error.strerror)) from error


def _context_hash(repo: str, paths: Mapping[str, str], known: Dict[Tuple[str, str], str]) -> List[str]:
    """Content of the context after .dockerignore, and of the tools."""
    own_ignore = paths["dockerfile"] if os.path.exists(os.path.join(repo, paths["dockerfile"] + ".dockerignore")) else ""
    key = (paths["context"], own_ignore)
    if key not in known:
        context = os.path.join(repo, paths["context"])
        known[key] = hash_tree(context, context_filter(context, os.path.join(repo, paths["dockerfile"])))
    return [known[key], hash_tree(os.path.join(repo, paths["tools"])) if paths["tools"] else ""]


def files_of(source: Mapping[str, Any], repo: str) -> Iterator[str]:
    """Relative paths of everything a build reads: the Dockerfile, ignore files, the context after .dockerignore, the tools."""
    dockerfile, context, tools = source["dockerfile"], source["context"], source["tools"]
    for name in (dockerfile, dockerfile + ".dockerignore", posixpath.normpath(posixpath.join(context, ".dockerignore"))):
        if os.path.isfile(os.path.join(repo, name)):
            yield name
    folder = os.path.join(repo, context)
    for name in walk_files(folder, context_filter(folder, os.path.join(repo, dockerfile))):
        yield posixpath.normpath(posixpath.join(context, name))
    for name in walk_files(os.path.join(repo, tools)) if tools else ():
        yield posixpath.join(tools, name)


def archive_id(sources: Iterable[Mapping[str, Any]]) -> str:
    """The name of an archive: content of the sources in it. The same sources need not be sent again."""
    return hash_value(sorted({source["hash"] for source in sources}))


def pack(sources: Iterable[Mapping[str, Any]], repo: str, path: str) -> None:
    """One compressed archive of what all these sources need: bytes, links and executable bits, as nobody's."""
    sources = list(sources)
    names = sorted({name for source in sources for name in files_of(source, repo)})
    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted({source["context"] for source in sources}):  # also one without any file
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            if folder != ".":
                archive.addfile(info)
        for name in names:
            full = os.path.join(repo, name)
            if os.path.islink(full):
                archives.add_link(archive, os.readlink(full), name)
            else:
                archives.add_file(archive, full, name)  # sockets and pipes stay out: no engine puts them into an image


def unpack(path: str, folder: str) -> None:
    """Unpack an archive of ours as `folder`, all of it or nothing: beside it first, then one rename. Of two at once, either will do."""
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".unpack-", dir=parent)
    try:
        with open(path, "rb") as stream:
            archives.unpack(stream, temporary, links=True)
        with contextlib.suppress(OSError):
            os.rename(temporary, folder)
    except (OSError, EOFError, tarfile.TarError, MadError) as error:
        raise ImageError("the build sources cannot be unpacked to %s: %s" % (folder, getattr(error, "strerror", None) or error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not os.path.isdir(folder):
        raise ImageError("the build sources were unpacked, but %s cannot be made" % folder)
