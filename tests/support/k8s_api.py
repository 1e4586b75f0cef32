# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Kubernetes API server on loopback: what the official client, kubernetes.core and a browser-less person send to it.

Verbs, selectors, server-side apply, watches with versions, bookmarks and 410, pod logs, access reviews, tokens with rights, and faults on demand:
`faults.append(Fault("GET", "/log", cut=1000))`. `requests` is what was asked.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qs, unquote, urlsplit

from .k8s_asked import Asked, Fault, Logs, User
from .k8s_defaults import defaulted, discovery
from .k8s_store import KINDS, Object, Problem, Store, field_test, label_test, merge_patch, strategic

_PATH = re.compile(r"/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))(?:/namespaces/(?P<ns>[^/]+))?/(?P<rest>.+)\Z")
_NAMESPACE = re.compile(r"/api/v1/namespaces(?:/(?P<name>[^/]+))?\Z")
_BOOKMARK = 1.0  # seconds of silence after which a watch gets one
_SUBRESOURCES = ("status", "log", "eviction", "scale")


class Api:
    """The server. `url` is where it listens; `kubeconfig()` is what a client needs."""

    def __init__(self) -> None:
        self.store, self.logs = Store(), Logs()
        self.users: Dict[str, User] = {"admin": User("admin", [("*", "*")])}
        self.faults: List[Fault] = []
        self.requests: List[Asked] = []
        self.away = threading.Event()
        self.lock = threading.Lock()
        self.stopped = False
        self.restarts_in_place = True  # the feature gate ContainerRestartRules
        self._sockets: List[socket.socket] = []
        self._port = 0
        self._start()

    # -- the server ----------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        api = self

        class Handler(_Handler):
            server_api = api

        ThreadingHTTPServer.allow_reuse_address = True
        ThreadingHTTPServer.daemon_threads = True
        ThreadingHTTPServer.request_queue_size = 512
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return "http://127.0.0.1:%d" % self._port

    def stop(self) -> None:
        """End it for good."""
        self.stopped = True
        self.go_away()

    def go_away(self) -> None:
        """Nobody answers at the port any more; connections break."""
        self._server.shutdown()
        self._server.server_close()
        self.drop()

    def come_back(self) -> None:
        """Answer again at the same port, with everything that was known."""
        self._start()

    def drop(self) -> None:
        """Break every connection."""
        with self.lock:
            sockets, self._sockets = self._sockets, []
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def kubeconfig(self, token: str = "admin", namespace: str = "default") -> str:
        """Text of a kubeconfig file."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": {"server": self.url}}],
            "users": [{"name": token, "user": {"token": token}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": token, "namespace": namespace}}],
            "current-context": "stand-in",
        }
        return json.dumps(document)

    def count(self, method: str = "", path: str = "") -> int:
        """How many requests matched."""
        return sum(1 for asked in self.requests if asked.method.startswith(method) and re.search(path, asked.path))


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server_api: Api
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.server_api.lock:
            self.server_api._sockets.append(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            pass
        with self.server_api.lock:
            if self.connection in self.server_api._sockets:
                self.server_api._sockets.remove(self.connection)

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `requests` has them."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    # -- one request ---------------------------------------------------------------------------------------------------------------

    def _serve(self, method: str) -> None:
        parts = urlsplit(self.path)
        path, self.query = unquote(parts.path), {key: values[-1] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.raw = self.rfile.read(length) if length else b""
        self.cut = -1
        token = str(self.headers.get("Authorization") or "").rpartition(" ")[2]
        user = self.server_api.users.get(token)
        self.server_api.requests.append(Asked(method, path, parts.query, user.name if user else "", time.time()))
        try:
            for fault in list(self.server_api.faults):
                if fault.takes(method, path):
                    self._fault(fault)
                    break
            if user is None:
                raise Problem(401, "Unauthorized", "Unauthorized")
            self.user = user
            self._route(method, path)
        except Problem as problem:
            self._send(problem.code, problem.status(), problem.details.get("retryAfterSeconds"))

    def _fault(self, fault: Fault) -> None:
        if fault.code == 429:
            raise Problem(429, "TooManyRequests", "please try again later", {"retryAfterSeconds": fault.retry_after or 1})
        if fault.code:
            raise Problem(fault.code, "InternalError", "injected fault")
        self.cut = fault.cut
        if fault.cut < 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionError("injected")

    def _send(self, code: int, value: Any, retry_after: Optional[int] = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(value, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _route(self, method: str, path: str) -> None:
        answer = discovery(path) if method == "GET" else None
        if answer is not None:
            self._send(200, answer)
            return
        plural, namespace, name, sub = self._resource(path)
        verb = self._verb(method, name)
        self._allow(verb, plural + ("/" + sub if sub else ""), namespace)
        if method == "GET" and sub == "log":
            self._log(namespace, name)
        elif verb == "watch":
            self._watch(plural, namespace, name)
        elif verb == "list":
            self._list(plural, namespace)
        else:
            code, value = self._act(verb, plural, namespace, name, sub)
            self._send(code, value)

    def _resource(self, path: str) -> Tuple[str, str, str, str]:
        found = _NAMESPACE.match(path)
        if found:
            return "namespaces", "", found.group("name") or "", ""
        found = _PATH.match(path)
        parts = found.group("rest").split("/") if found else [""]
        plural = parts[0]
        if not found or plural not in KINDS or KINDS[plural][0] != self._group(found.group("group"), found.group("version")):
            raise Problem(404, "NotFound", "the server could not find the requested resource")
        return plural, found.group("ns") or "", "/".join(parts[1:2]), "/".join(parts[2:3])

    @staticmethod
    def _group(group: Optional[str], version: Optional[str]) -> str:
        return "%s/%s" % (group, version) if group else "v1"

    def _verb(self, method: str, name: str) -> str:
        if method == "GET":
            return "watch" if self.query.get("watch") in ("true", "1", "True") else ("get" if name else "list")
        if method == "DELETE":
            return "delete" if name else "deletecollection"
        return {"POST": "create", "PUT": "update", "PATCH": "patch"}[method]

    def _allow(self, verb: str, resource: str, namespace: str) -> None:
        if resource.startswith("selfsubject") or self.user.may(verb, resource):
            return
        plural = resource.split("/")[0]
        where = ' in the namespace "%s"' % namespace if namespace else " at the cluster scope"
        group = KINDS[plural][0].rpartition("/")[0]
        text = '%s is forbidden: User "%s" cannot %s resource "%s" in API group "%s"%s' % (
            plural,
            self.user.name,
            verb,
            resource,
            group,
            where,
        )
        raise Problem(403, "Forbidden", text, {"kind": plural, "group": group})

    # -- verbs ---------------------------------------------------------------------------------------------------------------------

    def _body(self) -> Object:
        if not self.raw:
            return {}
        try:
            value = json.loads(self.raw)
        except ValueError:
            import yaml  # of Ansible; only kubernetes.core sends real YAML

            value = yaml.safe_load(self.raw)
        return value if isinstance(value, dict) else {"patch": value}

    def _act(self, verb: str, plural: str, namespace: str, name: str, sub: str) -> Tuple[int, Object]:
        store = self.server_api.store
        if plural == "selfsubjectaccessreviews":
            return 201, self._review(self._body())
        if verb == "get":
            return 200, store.get(plural, namespace, name)
        if verb == "create" and sub == "eviction":
            store.update(plural, namespace, name, _evicted, status=False)
            return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 201}
        if verb == "create":
            body = self._body()
            given = str((body.get("metadata") or {}).get("namespace") or "")
            if given and namespace and given != namespace:
                raise Problem(400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request")
            if plural == "jobs" and not self.server_api.restarts_in_place:
                for container in body["spec"]["template"]["spec"]["containers"]:
                    container.pop("restartPolicyRules", None)  # as a server does with a field whose feature is off
            if self.query.get("dryRun") == "All":
                return 201, defaulted(plural, body)
            return 201, store.create(plural, namespace, defaulted(plural, body))
        if verb == "update":
            body = self._body()
            return 200, store.update(plural, namespace, name, lambda known: body, status=sub == "status")
        if verb == "patch":
            return self._patch(plural, namespace, name, sub)
        if verb == "delete":
            return 200, self._delete(plural, namespace, name, self._body())
        return 200, self._delete_collection(plural, namespace)

    def _patch(self, plural: str, namespace: str, name: str, sub: str) -> Tuple[int, Object]:
        kind, body, store = str(self.headers.get("Content-Type") or ""), self._body(), self.server_api.store
        if kind.startswith("application/apply-patch"):
            manager, force = self.query.get("fieldManager", ""), self.query.get("force") == "true"
            if not manager:
                raise Problem(
                    422, "Invalid", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
                )
            made, new = store.apply(plural, namespace, name, defaulted(plural, body), manager, force)
            return (201 if new else 200), made
        function: Callable[[Any, Any], Any] = strategic if "strategic" in kind else merge_patch
        if "json-patch" in kind:
            raise Problem(415, "UnsupportedMediaType", "JSON patches are not spoken here")
        manager = self.query.get("fieldManager") or str(self.headers.get("User-Agent") or "").partition("/")[0]

        def change(known: Any) -> Any:
            return managed(known, dict(function(known, body)), manager)

        return 200, store.update(plural, namespace, name, change, status=sub == "status")

    def _delete(self, plural: str, namespace: str, name: str, options: Object) -> Object:
        store = self.server_api.store
        policy = str(options.get("propagationPolicy") or self.query.get("propagationPolicy") or "Background")
        uid = str((options.get("preconditions") or {}).get("uid") or "")
        known = store.get(plural, namespace, name)
        if uid and known["metadata"]["uid"] != uid:
            raise Problem(409, "Conflict", "the UID in the precondition (%s) does not match" % uid)
        if (
            plural == "pods"
            and (known.get("spec") or {}).get("nodeName")
            and (known.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ):
            grace = options.get("gracePeriodSeconds")
            return store.update(plural, namespace, name, lambda value: _terminating(value, grace))
        gone = store.delete(plural, namespace, name, uid)
        if policy == "Orphan":
            for other in KINDS:
                for value in store.list(other, namespace):
                    if any(owner.get("uid") == gone["metadata"]["uid"] for owner in value["metadata"].get("ownerReferences") or []):
                        store.update(other, namespace, value["metadata"]["name"], _disowned)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": name, "uid": gone["metadata"]["uid"]}}

    def _delete_collection(self, plural: str, namespace: str) -> Object:
        for value in self._found(plural, namespace):
            self._delete(plural, value["metadata"].get("namespace", ""), value["metadata"]["name"], self._body())
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _review(self, body: Object) -> Object:
        asked = (body.get("spec") or {}).get("resourceAttributes") or {}
        resource = str(asked.get("resource", "")) + ("/" + asked["subresource"] if asked.get("subresource") else "")
        return dict(body, status={"allowed": self.user.may(str(asked.get("verb", "")), resource)})

    def _found(self, plural: str, namespace: str) -> List[Object]:
        return self.server_api.store.list(plural, namespace, self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))

    def _list(self, plural: str, namespace: str) -> None:
        store = self.server_api.store
        with store.changed:
            items, version = self._found(plural, namespace), store.version
        start, limit = int(self.query.get("continue") or 0), int(self.query.get("limit") or 0) or len(items)
        metadata: Object = {"resourceVersion": str(version)}
        if start + limit < len(items):
            metadata.update({"continue": str(start + limit), "remainingItemCount": len(items) - start - limit})
        group, kind, dummy = KINDS[plural]
        self._send(200, {"kind": kind + "List", "apiVersion": group, "metadata": metadata, "items": items[start : start + limit]})

    # -- streams -------------------------------------------------------------------------------------------------------------------

    def _begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.sent = 0

    def _chunk(self, data: bytes) -> None:
        if 0 <= self.cut < self.sent + len(data):  # the fault: the stream ends in the middle, without a word
            data = data[: self.cut - self.sent]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionError("injected")
        self.sent += len(data)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _watch(self, plural: str, namespace: str, name: str) -> None:
        store = self.server_api.store
        fields = self.query.get("fieldSelector", "") + (",metadata.name=" + name if name else "")
        label, field = label_test(self.query.get("labelSelector", "")), field_test(fields.strip(","))
        end = time.monotonic() + float(self.query.get("timeoutSeconds") or 1800)
        given = self.query.get("resourceVersion") or ""
        with store.changed:
            version = int(given) if given not in ("", "0") else store.version
            first = self._found(plural, namespace) if given in ("", "0") else []
            if version < store.oldest:
                raise Problem(410, "Expired", "too old resource version: %d (%d)" % (version, store.oldest))
        self._begin_stream("application/json")
        for value in first:
            self._event("ADDED", value)

        def matches(value: Optional[Object]) -> bool:
            return bool(
                value
                and (not namespace or value["metadata"].get("namespace") == namespace)
                and label(value["metadata"].get("labels") or {})
                and field(value)
            )

        quiet = time.monotonic()
        while time.monotonic() < end and not self.server_api.stopped:
            with store.changed:
                try:
                    changes = store.since(version, plural)
                except Problem as problem:
                    self._event("ERROR", problem.status())
                    break
                newest = store.version
                if not changes:
                    store.changed.wait(min(_BOOKMARK, max(0.0, end - time.monotonic())))
            for change in changes:
                after, before = matches(change.value) and change.kind != "DELETED", matches(change.before)
                if after or before:
                    self._event("MODIFIED" if after and before else "ADDED" if after else "DELETED", change.value)
                    quiet = time.monotonic()
            version = changes[-1].version if changes else max(version, newest)
            if self.query.get("allowWatchBookmarks") == "true" and time.monotonic() - quiet > _BOOKMARK:
                group, kind, dummy = KINDS[plural]
                self._event("BOOKMARK", {"kind": kind, "apiVersion": group, "metadata": {"resourceVersion": str(version)}})
                quiet = time.monotonic()
        self._end_stream()

    def _event(self, kind: str, value: Object) -> None:
        self._chunk(json.dumps({"type": kind, "object": value}).encode() + b"\n")

    def _log(self, namespace: str, name: str) -> None:
        store, query = self.server_api.store, self.query
        pod = store.get("pods", namespace, name)
        containers = [entry["name"] for entry in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]]
        container = query.get("container") or containers[-1]
        if container not in containers:
            raise Problem(400, "BadRequest", "container %s is not valid for pod %s" % (container, name))
        lines, complete = self.server_api.logs.read(pod, container, query.get("previous") == "true")
        skip = 0 if "tailLines" not in query else max(0, len(lines) - int(query["tailLines"]))
        left = int(query["limitBytes"]) if "limitBytes" in query else -1
        since = query.get("sinceTime", "")
        self._begin_stream("text/plain")
        while True:
            text = b"".join(self._line(when, line) for when, line in lines[skip:] if not since or when >= since.rstrip("Z"))
            skip = len(lines)
            if left >= 0:
                text, left = text[:left], max(0, left - len(text))
            for start in range(0, len(text), 65536):
                self._chunk(text[start : start + 65536])
            if complete or query.get("follow") not in ("true", "True") or left == 0 or self.server_api.stopped:
                break
            time.sleep(0.05)
            lines, complete = self.server_api.logs.read(pod, container, False)
        self._end_stream()

    def _line(self, when: str, line: bytes) -> bytes:
        return when.encode() + b"Z " + line if self.query.get("timestamps") == "true" else line


def managed(known: Object, wanted: Object, manager: str) -> Object:
    """The object with a note of who set `spec.unschedulable` last: the one field whose owner anybody asks about here."""
    before, after = ((value.get("spec") or {}).get("unschedulable") for value in (known, wanted))
    if before != after:
        owned = [{"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}] if after is not None else []
        wanted["metadata"] = dict(wanted["metadata"], managedFields=owned)
    return wanted


def _terminating(value: Object, grace: Optional[int]) -> None:
    seconds = value["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else int(grace)
    if "deletionTimestamp" not in value["metadata"]:
        value["metadata"].update(deletionTimestamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), deletionGracePeriodSeconds=seconds)


def _evicted(value: Object) -> None:
    _terminating(value, None)
    value["metadata"].setdefault("annotations", {})["stand-in/disruption"] = "EvictionByEvictionAPI"


def _disowned(value: Object) -> None:
    value["metadata"].pop("ownerReferences", None)
