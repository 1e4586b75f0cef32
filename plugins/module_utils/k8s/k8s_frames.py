# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a pod taken apart: the model's own output, and the files that the pod's script printed behind it.

Lines of ours begin with `mad.engine/1 <word> `; the pod chose the word by chance and said it in its first line, before anything else ran
there, and again in its termination message. What the model prints can never be such a line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import posixpath
import re
import zlib
from typing import Any, BinaryIO, Callable, Dict, List, NamedTuple, Optional

from ..base.errors import MadError

TAG = b"mad.engine/1 "
LARGEST = 1 << 30  # bytes of one file that came home
_HELLO = re.compile(rb"mad\.engine/1 ([0-9a-f-]{36}) hello ")
_BYE = re.compile(r"mad\.engine/1 ([0-9a-f-]{36}) bye ")
_BLOCK = 1 << 18


class Brought(NamedTuple):
    """What a log held. `files` are names below the folder; `hello`, `node` and `bye` are the words of these lines, {} for none."""

    nonce: str
    hello: Dict[str, str]
    node: Dict[str, str]
    bye: Dict[str, str]
    model_bytes: int
    model_complete: bool  # the bytes are those that the pod printed
    files: List[str]
    notes: List[str]


def words(text: str) -> Dict[str, str]:
    """`name=value` words."""
    return dict(word.partition("=")[::2] for word in text.split() if "=" in word)


def plain(word: str) -> str:
    """A text that the pod wrote as one word (base64); "" when it is none."""
    try:
        return base64.b64decode(word, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def termination(message: str) -> Dict[str, str]:
    """The words of a termination message of ours with `nonce` among them; {} for any other message."""
    match = _BYE.match(message or "")
    return dict(words(message[match.end() :].splitlines()[0] if message[match.end() :] else ""), nonce=match.group(1)) if match else {}


def split(log: str, folder: str, nonce: str = "", plain: Optional[Callable[[bytes], bytes]] = None) -> Brought:
    """Take the log at `log` apart: `folder`/model.log, and every file that it brings below `folder` (made if need be).

    `nonce`: from the termination message, for a log whose first line is lost. `plain` makes of a line what the pod printed.
    MadError when the log cannot be read or the folder not written.
    Nothing that a pod printed leads out of the folder; a file whose bytes are not those that were sent is left out, with a note.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with open(log, "rb") as stream, open(os.path.join(folder, "model.log"), "wb") as model:
            return _Splitter(stream, model, folder, nonce).run(plain)
    except OSError as error:
        raise MadError("the pod's log %s cannot be taken apart: %s" % (log, error)) from error


class _File:
    """A file on its way out of the log."""

    def __init__(self, said: Dict[str, str], path: str) -> None:
        self.said, self.path = said, path
        self.stream = open(path, "wb")
        self.digest, self.size, self.broken = hashlib.sha256(), 0, False
        self.packed: Any = zlib.decompressobj(31) if said.get("encoding") == "gzip" else None

    def take(self, line: bytes) -> None:
        """One line of base64."""
        try:
            data = base64.b64decode(line.strip(), validate=True)
            data = self.packed.decompress(data, LARGEST - self.size + 1) if self.packed else data
        except (binascii.Error, zlib.error, ValueError):
            self.broken = True
            return
        self.size += len(data)
        self.broken = self.broken or self.size > LARGEST
        if not self.broken:
            self.digest.update(data)
            self.stream.write(data)

    def close(self) -> bool:
        """Whether it is what was sent; what is not is removed."""
        self.stream.close()
        good = not self.broken and self.said.get("bytes") == str(self.size) and self.said.get("sha256") == self.digest.hexdigest()
        if not good:
            os.unlink(self.path)
        return good


class _Splitter:
    """Reads lines; of the model's output, which may hold lines of any length, pieces."""

    def __init__(self, stream: BinaryIO, model: BinaryIO, folder: str, nonce: str) -> None:
        self.stream, self.model, self.folder = stream, model, folder
        self.nonce = nonce.encode("ascii", "replace")
        self.hello: Dict[str, str] = {}
        self.node: Dict[str, str] = {}
        self.bye: Dict[str, str] = {}
        self.files: List[str] = []
        self.notes: List[str] = []
        self.in_model = bool(nonce)  # a log without its first line begins in the middle of the model's output, or is empty
        self.printed = 0
        self.digest = hashlib.sha256()
        self.held = b""  # a line feed that may be ours: the pod puts one before the end of the output
        self.complete = False
        self.file: Optional[_File] = None

    def run(self, plain: Optional[Callable[[bytes], bytes]]) -> Brought:
        fresh = True  # at the beginning of a line
        while True:
            line = self.stream.readline(_BLOCK)
            if not line:
                break
            self._line(plain(line) if plain and fresh else line, fresh)
            fresh = line.endswith(b"\n")
        if self.in_model:
            self._model(self.held)
        if self.file:
            self.file.broken = True
            self._end_file()
        return Brought(
            self.nonce.decode("ascii", "replace"), self.hello, self.node, self.bye, self.printed, self.complete, self.files, self.notes
        )

    def _line(self, line: bytes, fresh: bool) -> None:
        if fresh and line.startswith(TAG):
            match = _HELLO.match(line) if not self.hello else None
            if match and (not self.nonce or match.group(1) == self.nonce):
                self.nonce, self.in_model = match.group(1), False
            if self.nonce and line.startswith(TAG + self.nonce + b" "):
                self._ours(line[len(TAG) + len(self.nonce) + 1 :].decode("utf-8", "replace").strip())
                return
        if self.file:
            self.file.take(line)
        elif self.in_model:
            self._model(self.held)
            self.held = b"\n" if line.endswith(b"\n") else b""
            self._model(line[:-1] if self.held else line)

    def _model(self, data: bytes) -> None:
        self.model.write(data)
        self.digest.update(data)
        self.printed += len(data)

    def _ours(self, text: str) -> None:
        kind, dummy, rest = text.partition(" ")
        said = words(rest)
        if kind == "hello":
            self.hello = said
        elif kind == "node":
            self.node = {name: plain(value) if name in ("name", "gpu") else value for name, value in said.items()}
        elif kind == "begin":
            self.in_model, self.held = True, b""
        elif text.startswith("end model"):
            self.in_model = False  # the line feed that is held is the pod's own
            self.complete = said.get("bytes") == str(self.printed) and said.get("sha256") == self.digest.hexdigest()
            if not self.complete:
                self.notes.append("of the model's output %s bytes were printed and %d came" % (said.get("bytes"), self.printed))
        elif kind == "file":
            self._begin_file(said)
        elif text == "end file":
            self._end_file()
        elif kind == "left":
            self.notes.append(
                "%s was not brought out: its %s bytes are above k8s.artifacts_limit" % (plain(said.get("name", "")), said.get("bytes"))
            )
        elif kind == "note":
            self.notes.append(plain(rest.strip()))
        elif kind == "bye":
            self.bye = dict(said, reason=plain(said.get("reason", "")))

    def _begin_file(self, said: Dict[str, str]) -> None:
        self._end_file()
        name = posixpath.normpath(plain(said.get("name", "")) or ".")
        folder, base = posixpath.split(name)
        if name.startswith(("/", "..")) or folder not in ("", "artifacts") or base in ("", ".", "..", "model.log") or "\0" in name:
            self.notes.append("the pod's log brings a file with the name %r; it was left out" % name[:200])
            return
        os.makedirs(os.path.join(self.folder, folder), exist_ok=True)
        path = os.path.join(self.folder, *name.split("/"))
        if os.path.lexists(path):
            os.unlink(path)
        self.file = _File(dict(said, name=name), path)

    def _end_file(self) -> None:
        if not self.file:
            return
        name = self.file.said["name"]
        if self.file.close():
            self.files.append(name)
        else:
            self.notes.append("%s did not come whole; it was left out" % name)
        self.file = None
