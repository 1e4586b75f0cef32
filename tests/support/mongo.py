# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for MongoDB at the edge of its wire protocol (no server can be installed here): OP_MSG with pymongo's own BSON.

It knows what an upload needs: hello, SCRAM-SHA-256, createIndexes, insert, update with $set and $setOnInsert. What it does not know it
refuses, as a server does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socketserver
import struct
import threading
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
DUPLICATE = 11000
HELLO: dict[str, Any] = {
    **{"ismaster": True, "isWritablePrimary": True, "helloOk": True, "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000},
    **{"maxWriteBatchSize": 100000, "minWireVersion": 0, "maxWireVersion": 21, "readOnly": False, "ok": 1.0},
}
Document = dict[str, Any]


class Refused(Exception):
    """An answer with ok: 0."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Mongo:
    """A server on a loopback port. `collections` holds what was brought: {"db.collection": [document, ...]}."""

    def __init__(self, user: str = "", password: str = "", read_only: bool = False) -> None:
        self.user, self.password, self.read_only = user, password, read_only
        self.collections: dict[str, list[Document]] = {}
        self.indexes: dict[str, list[Document]] = {}
        self.commands: list[str] = []
        self.lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler(self), bind_and_activate=True)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Mongo:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """The variables that lead here."""
        login = {"MONGO_USER": self.user, "MONGO_PASSWORD": self.password} if self.user else {}
        return {"MONGO_HOST": "127.0.0.1", "MONGO_PORT": str(self.port), "MONGO_TIMEOUT_MS": "20000", **login}

    # -- commands ----------------------------------------------------------------------------------------------------------------

    def run(self, command: Document, session: Document) -> Document:
        """Answer one command."""
        name = next(iter(command))
        if name.lower() in ("hello", "ismaster"):
            return self._hello(command, session)
        self.commands.append(name)
        if name in ("ping", "endSessions"):
            return {"ok": 1.0}
        if name in ("saslStart", "saslContinue"):
            return self._sasl(name, command, session)
        if self.user and not session.get("user"):
            raise Refused(13, "command %s requires authentication" % name)
        if self.read_only:
            raise Refused(13, "not authorized on %s to execute command %s" % (command["$db"], name))
        known = {"createIndexes": self._create_indexes, "insert": self._insert, "update": self._update}
        if name not in known:
            raise Refused(59, "no such command: %s" % name)
        with self.lock:
            return {**known[name]("%s.%s" % (command["$db"], command[name]), command), "ok": 1.0}

    def _hello(self, command: Document, session: Document) -> Document:
        answer = dict(HELLO)
        if "saslSupportedMechs" in command:
            answer["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        if "speculativeAuthenticate" in command and command["speculativeAuthenticate"].get("mechanism") == "SCRAM-SHA-256":
            answer["speculativeAuthenticate"] = self._sasl("saslStart", command["speculativeAuthenticate"], session)
        return answer

    def _sasl(self, name: str, command: Document, session: Document) -> Document:
        text = bytes(command["payload"]).decode()
        if name == "saslStart":
            first = text.split(",", 2)[2]
            salt = base64.b64encode(os.urandom(16)).decode()
            nonce = dict(part.split("=", 1) for part in first.split(","))["r"] + os.urandom(9).hex()
            session.update(name=dict(part.split("=", 1) for part in first.split(","))["n"], salt=salt)
            session["first"] = [first, "r=%s,s=%s,i=4096" % (nonce, salt)]
            return {"conversationId": 1, "done": False, "payload": session["first"][1].encode(), "ok": 1.0}
        final, _comma, proof = text.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(session["salt"]), 4096)
        client, message = hmac.digest(salted, b"Client Key", "sha256"), ",".join([*session["first"], final]).encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        if session["name"] != self.user or base64.b64decode(proof) != bytes(a ^ b for a, b in zip(client, signature, strict=True)):
            raise Refused(18, "Authentication failed.")
        session["user"] = self.user
        proven = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))
        return {"conversationId": 1, "done": True, "payload": b"v=" + proven, "ok": 1.0}

    def _create_indexes(self, where: str, command: Document) -> Document:
        self.indexes.setdefault(where, []).extend(command["indexes"])
        return {}

    def _insert(self, where: str, command: Document) -> Document:
        errors, done = [], 0
        for place, document in enumerate(command["documents"]):
            if self._is_duplicate(where, document):
                errors.append({"index": place, "code": DUPLICATE, "errmsg": "E11000 duplicate key error"})
            else:
                self.collections.setdefault(where, []).append(document)
                done += 1
        return {"n": done, **({"writeErrors": errors} if errors else {})}

    def _is_duplicate(self, where: str, document: Document) -> bool:
        unique = [list(index["key"]) for index in self.indexes.get(where, []) if index.get("unique")]
        known = self.collections.get(where, [])
        return any(all(old.get(name) == document.get(name) for name in names) for names in unique for old in known)

    def _update(self, where: str, command: Document) -> Document:
        documents = self.collections.setdefault(where, [])
        answer: Document = {"n": 0, "nModified": 0, "upserted": []}
        for place, entry in enumerate(command["updates"]):
            unknown = set(entry["u"]) - {"$set", "$setOnInsert"}
            if unknown:
                raise Refused(9, "unknown modifier %s" % unknown)
            found = next((old for old in documents if all(old.get(name) == value for name, value in entry["q"].items())), None)
            if found is None and entry.get("upsert"):
                new = {"_id": bson.ObjectId(), **entry["q"], **entry["u"].get("$set", {}), **entry["u"].get("$setOnInsert", {})}
                documents.append(new)
                answer["upserted"].append({"index": place, "_id": new["_id"]})
            elif found is not None:
                changed = {**found, **entry["u"].get("$set", {})}
                answer["nModified"] += changed != found
                found.update(changed)
            answer["n"] += 1
        return answer if answer["upserted"] else {name: answer[name] for name in ("n", "nModified")}


def _handler(mongo: Mongo) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        """One connection."""

        def handle(self) -> None:
            session: Document = {}
            while True:
                head = self.rfile.read(16)
                if len(head) < 16:
                    return
                length, request, _to, code = struct.unpack("<iiii", head)
                command = _parsed(code, self.rfile.read(length - 16))
                try:
                    answer = mongo.run(command, session)
                except Refused as error:
                    answer = {"ok": 0.0, "errmsg": str(error), "code": error.code}
                self.wfile.write(_packed(code, request, bson.encode(answer)))

    return Handler


def _parsed(code: int, data: bytes) -> Document:
    if code == OP_QUERY:
        return dict(bson.decode(data[data.index(b"\0", 4) + 1 + 8 :]))
    assert code == OP_MSG, code
    command: Document = {}
    place = 4
    while place < len(data):
        kind, (size,) = data[place], struct.unpack_from("<i", data, place + 1)
        part = data[place + 1 : place + 1 + size]
        if kind == 0:
            command = {**dict(bson.decode(part)), **command}
        else:
            name, _nul, documents = part[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(documents)
        place += 1 + size
    return {key: command[key] for key in sorted(command, key=lambda key: key in ("documents", "updates"))}


def _packed(code: int, request: int, document: bytes) -> bytes:
    if code == OP_QUERY:
        body = struct.pack("<iqii", 8, 0, 0, 1) + document
        return struct.pack("<iiii", 16 + len(body), 0, request, OP_REPLY) + body
    body = struct.pack("<ib", 0, 0) + document
    return struct.pack("<iiii", 16 + len(body), 0, request, OP_MSG) + body
