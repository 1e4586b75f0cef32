# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One watch for all objects of a kind that a campaign has: listed once, then followed; resumed where it broke, listed anew when it is too old."""

from __future__ import annotations

import itertools
import json
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from .k8s_client import Api, ApiError, lines

_ROUND = 290  # seconds after which the server ends a watch, and it is opened again from where it was
_QUIET = 330.0  # seconds of silence (bookmarks come every minute) after which the connection counts as dead
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
_IN_VAIN = 10  # failures in a row after which a watch begins with a list

Object = Dict[str, Any]


class News(NamedTuple):
    """What a feed tells. `listed`: everything there is; else one object, which is `gone` or as it is now. `error`: the feed cannot go on."""

    resource: str
    listed: Optional[List[Object]] = None
    object: Optional[Object] = None
    gone: bool = False
    error: Optional[ApiError] = None
    asked: float = 0.0  # since when `listed` is true, by the monotonic clock


class Feed(threading.Thread):
    """Tells `tell` every change until `stop()`. A refusal (403, 401) ends it, with its error; everything else is tried again."""

    def __init__(self, api: Api, resource: str, labels: str, tell: Callable[[News], None], fields: str = "") -> None:
        super().__init__(daemon=True, name="watch-" + resource)
        self.api, self.resource, self.labels, self.fields, self.tell = api, resource, labels, fields, tell
        self.version = ""
        self.trouble = ""  # what is wrong now, "" when it works
        self._end = threading.Event()
        self._failures = 0

    def stop(self) -> None:
        """No more news; a request that is under way is not waited for."""
        self._end.set()

    def run(self) -> None:
        """List, watch, and again."""
        while not self._end.is_set():
            try:
                if not self.version:
                    asked = time.monotonic()
                    found, self.version = self.api.list(self.resource, self.labels, self.fields)
                    self.tell(News(self.resource, listed=found, asked=asked))
                self._watch()
                self._failures, self.trouble = 0, ""
            except ApiError as error:
                if not self._go_on(error):
                    return
            except Exception as error:  # noqa: BLE001 urllib3 has many ways to say that a connection broke; the next one tells
                self._stumble(str(error) or type(error).__name__)

    def _go_on(self, error: ApiError) -> bool:
        """Whether there is any point in another try."""
        if error.status == 410:
            self.version = ""
            if self._failures:  # not for the first time since anything came
                self._stumble(error.message)
            self._failures = max(self._failures, 1)
            return True
        if error.status in (401, 403, 404):
            self.tell(News(self.resource, error=error))
            return False
        self._stumble(error.message)
        return True

    def _stumble(self, words: str) -> None:
        self.trouble = words
        self._end.wait(_PAUSES[min(self._failures, len(_PAUSES) - 1)])
        self._failures += 1
        if self._failures > _IN_VAIN:  # a cluster that was restored from a backup may never know our version again
            self.version = ""

    def _watch(self) -> None:
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": _ROUND, "resourceVersion": self.version}
        if self.labels:
            query["labelSelector"] = self.labels
        if self.fields:
            query["fieldSelector"] = self.fields
        began = time.monotonic()
        response = self.api.open("GET", self.api.path(self.resource), query, read=_QUIET)
        try:
            for line in itertools.chain.from_iterable(lines(response)):
                if self._end.is_set():
                    return
                self._take(json.loads(line))
        except ValueError as error:  # the last line of a stream that was cut
            raise ApiError("the watch broke off in the middle of a line: %s" % error, 0) from error
        finally:
            response.close()
        if time.monotonic() - began < 1.0:
            self._stumble("the server ends the watch at once")

    def _take(self, event: Object) -> None:
        kind, value = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            code = int(value.get("code") or 0)
            raise ApiError("watch of %s: %s" % (self.resource, value.get("message")), code, str(value.get("reason") or ""))
        self.version = str((value.get("metadata") or {}).get("resourceVersion") or self.version)
        self._failures, self.trouble = 0, ""
        if kind != "BOOKMARK":
            self.tell(News(self.resource, object=value, gone=kind == "DELETED"))
