# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser without a screen: Chromium, told what to do over the two pipes of its DevTools protocol. No driver is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from . import components

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
SECONDS = 120.0


class BrowserProblem(AssertionError):
    """The page threw, or the browser does not answer."""


class Browser:
    """One browser with one page. What the page complains about is kept in `errors`, what it asked the network for in `requests`."""

    def __init__(self) -> None:
        self.profile = tempfile.mkdtemp(prefix="mad-browser-")
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number, self._rest, self._answers = 0, b"", {}  # type: int, bytes, dict[int, dict[str, Any]]
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()

        # The browser wants its pipes as descriptors 3 and 4.
        pipes = 'exec "$@" 3</dev/fd/%d 4>/dev/fd/%d' % (theirs_in, theirs_out)
        argv = ["/bin/sh", "-c", pipes, "sh", components.which("chromium") or "chromium", *FLAGS, "--user-data-dir=" + self.profile]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen([*argv, "about:blank"], pass_fds=(theirs_in, theirs_out), stdin=null, stdout=null, stderr=null)
        os.close(theirs_in)
        os.close(theirs_out)
        target = self.call("Target.createTarget", {"url": "about:blank"}, session="")["targetId"]
        self._session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True}, session="")["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove what it kept."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self.profile, ignore_errors=True)

    # -- the protocol --------------------------------------------------------------------------------------------------------------

    def call(self, method: str, parameters: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """One call and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if session != "":
            message["sessionId"] = self._session
        _write(self._to, json.dumps(message).encode() + b"\0")
        wanted = self._number
        self._until(lambda: wanted in self._answers, method)
        answer = self._answers.pop(wanted)
        if "error" in answer:
            raise BrowserProblem("%s: %s" % (method, answer["error"].get("message")))
        return dict(answer["result"])

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise BrowserProblem("no answer to %s within %.0f s" % (what, SECONDS))
            data = os.read(self._from, 1 << 20)
            if not data:
                raise BrowserProblem("the browser is gone (%s)" % what)
            *messages, self._rest = (self._rest + data).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        method, told = message.get("method"), message.get("params") or {}
        if method == "Runtime.exceptionThrown":
            found = told["exceptionDetails"]
            self.errors.append(str((found.get("exception") or {}).get("description") or found.get("text")))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    # -- what a person does --------------------------------------------------------------------------------------------------------

    def size(self, width: int, height: int = 900, dark: bool = False) -> None:
        """A window of this many CSS pixels, of a person who prefers light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path: str | Path, fragment: str = "") -> None:
        """Open a file, from its beginning, as if it were new."""
        self._navigate("about:blank")
        self._navigate(Path(path).absolute().as_uri() + ("#" + fragment if fragment else ""))
        self.settle()

    def _navigate(self, url: str) -> None:
        self.call("Page.navigate", {"url": url})
        there = "document.readyState === 'complete' && location.href.split('#')[0] === %s" % json.dumps(url.split("#")[0])
        deadline = time.monotonic() + SECONDS
        while not self._true(there):
            if time.monotonic() > deadline:
                raise BrowserProblem("%s did not open within %.0f s" % (url, SECONDS))
            time.sleep(0.02)

    def _true(self, script: str) -> bool:
        try:
            return bool(self.run(script))
        except BrowserProblem:  # between two pages there is none
            return False

    def settle(self) -> None:
        """Wait until the page has drawn and unpacked what it shows."""
        self.run("(async () => { for (let i = 0; i < 600 && document.querySelector('[aria-busy]'); i++) await new Promise(r => setTimeout(r, 50));"
                 " await new Promise(r => setTimeout(r, 60)); })()")  # fmt: skip

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True})
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserProblem(str((details.get("exception") or {}).get("description") or details.get("text")))
        return found["result"].get("value")

    def go(self, fragment: str) -> None:
        """Change the fragment, as a click on a link does."""
        self.run("(async () => { location.hash = %s; await new Promise(r => setTimeout(r, 30)); })()" % json.dumps(fragment))
        self.settle()

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return str(self.run("(document.querySelector(%s) || {}).innerText || ''" % json.dumps(selector)))

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Escape": 27}
        for _press in range(times):
            for kind in ("keyDown", "keyUp"):
                text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
                event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": codes[key], **text}
                self.call("Input.dispatchKeyEvent", event)

    def screenshot(self, path: str | Path, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        Path(path).write_bytes(base64.b64decode(found["data"]))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
