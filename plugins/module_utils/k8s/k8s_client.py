# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Kubernetes API for a whole campaign: plain dicts in and out, few requests, and errors that say what to do.

The official client (package `kubernetes`) finds the cluster, keeps tokens fresh and speaks TLS; its generated classes are left out, because
turning thousands of objects into them costs more than everything else here.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlencode

from ..base.errors import MadError

MANAGER = "mad.engine"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# Resource -> its path in the API; all but nodes lie in a namespace.
GROUPS = {
    "jobs": "/apis/batch/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
    "secrets": "/api/v1",
    "configmaps": "/api/v1",
    "events": "/api/v1",
    "persistentvolumeclaims": "/api/v1",
    "deployments": "/apis/apps/v1",
    "nodes": "/api/v1",
    "workloads": "/apis/kueue.x-k8s.io/v1beta1",  # where there is Kueue
}
KINDS = {
    "Job": "jobs",
    "Pod": "pods",
    "Service": "services",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Deployment": "deployments",
}
_LATER = (429, 500, 502, 503, 504)  # what the API server says when asking again helps
_TIMEOUT = 60.0  # seconds for an answer
_FRESH = 5.0  # seconds for which what the client says of credentials is kept: asking it costs more than a request, and 401 asks it again
PATIENCE = 600.0  # seconds of asking again before a request is given up
_RIGHT = re.compile(r"\bcannot [a-z]+ (resource\b|path\b)")  # how RBAC says no
QUOTA = "exceeded quota"
_HINT = (
    "pip install 'mad-engine[k8s]' or pip install kubernetes, into the Python that Ansible uses on this host (ansible_python_interpreter)"
)


class ApiError(MadError):
    """The API server said no. `status` is HTTP's, `reason` Kubernetes' word for it."""

    def __init__(self, message: str, status: int, reason: str = "", failure_class: str = "infra") -> None:
        super().__init__(message, failure_class)
        self.status, self.reason = status, reason


class Connection(NamedTuple):
    """How a cluster is reached. Empty texts: what kubectl would take."""

    kubeconfig: str = ""
    context: str = ""
    in_cluster: bool = False
    namespace: str = "default"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Connection:
        """Out of a campaign's settings."""
        return cls(**{name: settings[name] for name in cls._fields if settings.get(name)})


def _configuration(connection: Connection) -> Any:
    """The client's configuration; MadError says what is missing."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MadError("the Python package kubernetes is not installed on this host (%s): %s" % (error, _HINT)) from error
    load: Any = config
    configuration = client.Configuration()
    paths = kubeconfigs(connection.kubeconfig)
    inside = connection.in_cluster or not (connection.kubeconfig or any(map(os.path.exists, paths)))
    try:
        if inside:
            load.load_incluster_config(client_configuration=configuration)
        else:
            good, current = _merged(paths)
            context = connection.context or current or None
            load.load_kube_config(config_file=os.pathsep.join(good), context=context, client_configuration=configuration)
    except Exception as error:  # noqa: BLE001 the client raises its own and YAML's, JSON's and the file system's errors
        wanted = "the service account of this pod" if inside else os.pathsep.join(paths)
        raise MadError("the cluster cannot be reached through %s: %s; give k8s.kubeconfig and k8s.context" % (wanted, error)) from error
    configuration.connection_pool_maxsize = 64
    configuration.retries = False  # we ask again ourselves, and count it
    return configuration


def kubeconfigs(given: str) -> List[str]:
    """The files that are meant: the given ones, else those of KUBECONFIG, else kubectl's own."""
    names = [os.path.expanduser(name) for name in (given or os.environ.get("KUBECONFIG", "")).split(os.pathsep) if name]
    if names and (given or any(map(os.path.exists, names))):
        return names
    return [os.path.expanduser("~/.kube/config")]


def _merged(paths: List[str]) -> Tuple[List[str], str]:
    """(files that the client is to merge, the context that they mean), as kubectl sees it: of several, those that are absent or empty do not count,
    and the first that names a context wins. The client itself stumbles over an empty one, and would take the last one's context.
    """
    import yaml  # of the client

    if len(paths) == 1:
        return paths, ""
    documents = []
    for path in filter(os.path.exists, paths):
        with open(path, encoding="utf-8") as stream:
            documents.append((path, yaml.safe_load(stream)))
    current = [str(found["current-context"]) for dummy, found in documents if isinstance(found, dict) and found.get("current-context")]
    return [path for path, found in documents if found] or paths, next(iter(current), "")


class Api:
    """A connection that may be used by several threads. Every method asks again while the server is away, up to `patience` seconds."""

    def __init__(self, connection: Connection, patience: float = PATIENCE) -> None:
        self.connection, self.patience = connection, patience
        self.namespace = connection.namespace or "default"
        self._lock = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        from kubernetes import client
        from urllib3.util import Retry, parse_url

        self._configuration = _configuration(self.connection)
        pools = client.ApiClient(self._configuration).rest_client.pool_manager
        host = self._configuration.host
        # Without a proxy all requests go to one pool of connections, which takes paths; to look for it again with each request costs a lot.
        direct = pools.proxy is None
        self._pool: Any = pools.connection_from_url(host) if direct else pools
        self._retries = Retry.from_int(False, redirect=False)
        self._timeouts: Dict[Tuple[float, float], Any] = {}
        self._prefix: str = (parse_url(host).path or "") if direct else host
        self._credentials: Dict[str, str] = {}
        self._asked = 0.0

    # -- one request -------------------------------------------------------------------------------------------------------------

    def path(self, resource: str, name: str = "", sub: str = "", namespace: str = "") -> str:
        """The path of a resource, an object or a subresource."""
        base = GROUPS[resource]
        where = "" if resource == "nodes" else "/namespaces/" + quote(namespace or self.namespace, safe="")
        return base + where + "/" + resource + ("/" + quote(name, safe="") if name else "") + ("/" + sub if sub else "")

    def _headers(self, kind: str) -> Dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": MANAGER}
        if kind:
            headers["Content-Type"] = kind
        with self._lock:  # the hook that renews a token is not made for several threads
            if not self._asked or time.monotonic() - self._asked > _FRESH:
                entries = self._configuration.auth_settings().values()
                self._credentials = {entry["key"]: entry["value"] for entry in entries if entry.get("in") == "header" and entry.get("value")}
                self._asked = time.monotonic()
            headers.update(self._credentials)
        return headers

    def _send(self, method: str, path: str, query: Mapping[str, Any], body: Any, kind: str, timeout: Tuple[float, float]) -> Any:
        url = self._prefix.rstrip("/") + path + ("?" + urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode("utf-8")
        return self._pool.request(
            method,
            url,
            body=data,
            headers=self._headers(kind if data else ""),
            timeout=self._timeout(timeout),
            retries=self._retries,
            preload_content=False,
            redirect=False,
        )

    def _timeout(self, seconds: Tuple[float, float]) -> Any:
        """The same few over and over; urllib3 takes a copy of each for its request."""
        from urllib3 import Timeout

        if seconds not in self._timeouts:
            self._timeouts[seconds] = Timeout(connect=seconds[0], read=seconds[1])
        return self._timeouts[seconds]

    def open(
        self, method: str, path: str, query: Mapping[str, Any], body: Any = None, kind: str = "application/json", read: float = _TIMEOUT
    ) -> Any:
        """A response that is good, unread; ApiError for a refusal, OSError-like errors of urllib3 become ApiError with status 0."""
        from urllib3.exceptions import HTTPError

        renewed = False
        while True:
            try:
                response = self._send(method, path, query, body, kind, (10.0, read))
            except (HTTPError, OSError) as error:
                raise ApiError("the API server %s does not answer: %s" % (self._configuration.host, _short(error)), 0) from error
            if response.status < 300:
                return response
            problem = _problem(response, method, path, self.namespace)
            if response.status == 401 and not renewed:
                renewed = True
                self._renew()
                continue
            raise problem

    def call(
        self,
        method: str,
        path: str,
        query: Optional[Mapping[str, Any]] = None,
        body: Any = None,
        kind: str = "application/json",
        wanted: bool = True,
    ) -> Dict[str, Any]:
        """A request and its JSON, {} where it is not `wanted` (to parse thousands of objects costs); asked again while the server is away or busy."""
        from urllib3.exceptions import HTTPError

        deadline, pause = time.monotonic() + self.patience, 0.5
        while True:
            try:
                response = self.open(method, path, query or {}, body, kind)
                try:
                    data = response.data
                finally:
                    response.release_conn()
                found = json.loads(data) if wanted else {}
                return found if isinstance(found, dict) else {}
            except (HTTPError, ValueError, OSError) as error:
                problem = ApiError("the API server's answer broke off: %s" % _short(error), 0)
            except ApiError as error:
                if error.status and error.status not in _LATER:
                    raise
                problem = error
            pause = _wait(problem, pause, deadline)

    # -- verbs -------------------------------------------------------------------------------------------------------------------

    def get(self, resource: str, name: str) -> Dict[str, Any]:
        """One object."""
        return self.call("GET", self.path(resource, name))

    def find(self, resource: str, name: str) -> Optional[Dict[str, Any]]:
        """One object, None when it is absent."""
        try:
            return self.get(resource, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, resource: str, labels: str = "", fields: str = "", limit: int = 500) -> Tuple[List[Dict[str, Any]], str]:
        """(objects, version of the list), page by page."""
        query: Dict[str, Any] = {"limit": limit}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        found: List[Dict[str, Any]] = []
        while True:
            answer = self.call("GET", self.path(resource), query)
            found += answer.get("items") or []
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion") or "")
            query["continue"] = metadata["continue"]

    def create(self, document: Mapping[str, Any], dry_run: bool = False) -> Dict[str, Any]:
        """A new object; ApiError 409 when its name is taken."""
        namespace = str((document.get("metadata") or {}).get("namespace") or "")
        query = {"fieldManager": MANAGER, "dryRun": "All"} if dry_run else {"fieldManager": MANAGER}
        return self.call("POST", self.path(KINDS[document["kind"]], namespace=namespace), query, document)

    def apply(self, document: Mapping[str, Any], force: bool = True, dry_run: bool = False) -> None:
        """Server-side apply: made, or changed to this."""
        metadata = document["metadata"]
        path = self.path(KINDS[document["kind"]], metadata["name"], namespace=str(metadata.get("namespace") or ""))
        query = {"fieldManager": MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        self.call("PATCH", path, query, document, APPLY, wanted=False)

    def patch(self, resource: str, name: str, change: Mapping[str, Any], wanted: bool = False) -> Dict[str, Any]:
        """A merge patch; what came of it where it is `wanted`."""
        return self.call("PATCH", self.path(resource, name), {"fieldManager": MANAGER}, change, MERGE, wanted)

    def delete(self, resource: str, name: str, uid: str = "", policy: str = "Background") -> bool:
        """Remove an object, and by `policy` what it owns; with `uid` exactly that one. False when it was gone."""
        options: Dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self.call("DELETE", self.path(resource, name), {}, options, wanted=False)
        except ApiError as error:
            if error.status == 404 or (uid and error.status == 409):
                return False
            raise
        return True

    def may(self, verb: str, resource: str) -> bool:
        """Whether these credentials have a right (a subresource is `pods/log`)."""
        name, dummy, sub = resource.partition("/")
        group = GROUPS[name].split("/")[2] if GROUPS[name].startswith("/apis/") else ""
        asked = {"verb": verb, "group": group, "resource": name, "subresource": sub}
        if name != "nodes":
            asked["namespace"] = self.namespace
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, review)
        return bool((answer.get("status") or {}).get("allowed"))


def lines(response: Any) -> Iterator[List[bytes]]:
    """Whole lines of a stream as they come, in lists of those that came together; the last one with or without its end.

    What breaks the stream is urllib3's error.
    """
    rest: List[bytes] = []  # of a line whose end has not come; progress bars make lines of megabytes
    for chunk in response.stream(None, decode_content=True):
        whole, end, half = chunk.rpartition(b"\n")
        if end:
            yield [line + b"\n" for line in b"".join([*rest, whole]).split(b"\n")]
            rest = []
        if half:
            rest.append(half)
    if rest:
        yield [b"".join(rest)]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _wait(problem: ApiError, pause: float, deadline: float) -> float:
    """Sleep before the next try; raise when there is to be none. Returns the next pause."""
    wanted = max(pause, getattr(problem, "retry_after", 0.0))
    if time.monotonic() + wanted > deadline:
        raise problem
    time.sleep(wanted)
    return min(pause * 2, 15.0)


def _problem(response: Any, method: str, path: str, namespace: str) -> ApiError:
    """What a refusal means to a person."""
    try:
        status = json.loads(response.data)
    except Exception:  # noqa: BLE001 whatever a proxy sent instead of a Status: only its code counts
        status = {}
    finally:
        response.release_conn()
    status = status if isinstance(status, dict) else {}
    words = str(status.get("message") or "HTTP status %d" % response.status)
    code, reason = int(response.status), str(status.get("reason") or "")
    refused = code == 403 and bool(status) and not _RIGHT.search(words)  # by a quota, a policy, a webhook of the cluster
    if code == 403 and not refused:
        words += "; give the service account this right (docs/kubernetes.md lists the rules), namespace %s" % namespace
    elif code == 401:
        words = "the API server does not accept the credentials (401): %s" % words
    problem = ApiError(
        "%s %s: %s" % (method, path, words) if code not in (401, 403) else words,
        code,
        reason,
        "placement" if refused and QUOTA in words else "invalid" if code in (400, 422) or refused else "infra",
    )
    after = str(response.headers.get("Retry-After") or "")
    problem.retry_after = min(float(after), 60.0) if after.isdecimal() else 0.0  # type: ignore[attr-defined]
    return problem
