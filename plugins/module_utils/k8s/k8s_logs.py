# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's log on disk, complete: followed while the pod runs, taken up where a stream broke, each line once.

The kubelet keeps only the newest 10 MiB of a container's log in one file, and a pod that is removed takes its log with it; so a log is followed
from the start. The file holds the lines with the time that the kubelet gave them: by it the place is found again, also by a process that comes later.
What the lines mean stands in k8s_frames.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import os
import re
import threading
import time
from typing import BinaryIO, Callable, Iterable, Iterator, List, Optional, Tuple

from .k8s_client import Api, ApiError, lines
from .k8s_frames import TAG

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_WHOLE = "%Y-%m-%dT%H:%M:%S"
_QUIET = 900.0  # seconds without a byte after which a followed log is opened again: a model may be silent
_ENDED_QUIET = 60.0  # the same once nothing can be silent any more
# Seconds before a log is asked for again that has ended, but not with the pod's last line: when the API server's own connection to the node breaks,
# it ends its answer as if all were well.
_SHORT = (1.0, 3.0)
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def stamp(line: bytes) -> bytes:
    """The time in front of a line, as UTC and in a form that sorts; b"" without one. A node writes it in its own time zone."""
    found = _STAMP.match(line)
    if not found:
        return b""
    whole, part, zone = found.groups()
    return (whole if zone == b"Z" else _utc(whole, zone)) + b"." + (part or b"").ljust(9, b"0")


@functools.lru_cache(maxsize=64)
def _utc(whole: bytes, zone: bytes) -> bytes:
    try:
        here = calendar.timegm(time.strptime(whole.decode("ascii"), _WHOLE))
    except ValueError:
        return whole
    ahead = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return time.strftime(_WHOLE, time.gmtime(here + (ahead if zone[:1] == b"-" else -ahead))).encode("ascii")


def text(line: bytes) -> bytes:
    """The line without its time."""
    found = _STAMP.match(line)
    return line[found.end() :] if found else line


def resume_point(path: str) -> Tuple[bytes, int]:
    """(time of the newest whole line, how many lines have it) of a file; a half line at its end is cut off."""
    try:
        stream = open(path, "r+b")
    except FileNotFoundError:
        return b"", 0
    with stream:
        size = stream.seek(0, os.SEEK_END)
        tail, start = b"", size
        while start > 0 and tail.count(b"\n") < 4096:
            start = max(0, start - (1 << 20))
            stream.seek(start)
            tail = stream.read(size - start)
        cut = tail.rfind(b"\n") + 1
        if cut < len(tail):
            stream.truncate(start + cut)
        stamps = [stamp(line) for line in tail[:cut].split(b"\n")[:-1]]
    known = [when for when in stamps if when]
    return (known[-1], known.count(known[-1])) if known else (b"", 0)


class Tee:
    """Shows the model's output in a file as it comes, and knows the line after which nothing comes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.mark = b""
        self.ended = False
        self._model: Optional[BinaryIO] = None

    def feed(self, found: Iterable[bytes]) -> None:
        """The next lines, without their times; whoever looks at the file sees them at once."""
        for line in found:
            if not self.mark:
                if line.startswith(TAG):
                    self.mark = b" ".join(line.split(b" ", 2)[:2]) + b" "
            elif line.startswith(self.mark):
                self._ours(line[len(self.mark) :])
            elif self._model:
                self._model.write(line)
        if self._model:
            self._model.flush()

    def _ours(self, said: bytes) -> None:
        if said.startswith(b"begin model"):
            self._model = open(self.path, "wb")
        elif said.startswith(b"end model"):
            self.close()
        elif said.startswith(b"bye "):
            self.ended = True

    def close(self) -> None:
        """No more lines."""
        if self._model:
            with contextlib.suppress(OSError):  # of a full disk: the file is only for those who look on, the end makes it anew from the log
                self._model.close()
            self._model = None


class LogReader:
    """Brings one container's log into a file until the container has ended and everything is here; `run()` takes a thread as long.

    `patience()` is None while the container runs, then for how many seconds it is worth asking for its log; `done` is set at the end, and then
    `problem` is "" or what is missing. What `tee` knows as the last line saves the second request that would tell that nothing more comes.
    """

    def __init__(self, api: Api, pod: str, container: str, path: str, patience: Callable[[], Optional[float]], tee: Tee) -> None:
        self.api, self.pod, self.container, self.path = api, pod, container, path
        self.patience, self.tee = patience, tee
        self.done, self.stopped = threading.Event(), threading.Event()
        self.problem = ""
        self._came = False  # anything new in this stream
        self.over: Callable[[], None] = lambda: None  # told at the end
        self.replaced: Callable[[], bool] = lambda: False  # whether the container was started again since

    def run(self) -> None:
        """Follow, and take up again."""
        try:
            self._feed_known()
            if not self.tee.ended:
                self._until_the_end()
        finally:
            self.tee.close()
            self.done.set()
            self.over()

    def _feed_known(self) -> None:
        """What an earlier process has brought already."""
        resume_point(self.path)
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as stream:
            self.tee.feed(map(text, stream))

    def _until_the_end(self) -> None:
        fruitless, since, short = 0, 0.0, 0
        while not self.stopped.is_set():
            patience = self.patience()  # before the request: only then is the end of the stream the end of the log
            came, again = self._try(patience is not None)
            if self.tee.ended or not again:
                return
            if patience is not None and not self.problem:
                if short == len(_SHORT):
                    return
                self.stopped.wait(_SHORT[short])
                short += 1
                continue
            fruitless = 0 if came else fruitless + 1
            since = since if fruitless > 1 else time.monotonic()
            if patience is not None and fruitless and time.monotonic() - since >= patience:
                return
            self.stopped.wait(_PAUSES[min(fruitless, len(_PAUSES) - 1)])

    def _try(self, was_ended: bool) -> Tuple[bool, bool]:
        """One stream: (whether anything new came, whether another try makes sense)."""
        self._came = False
        try:
            self._follow(was_ended)
            self.problem = ""
        except ApiError as error:
            self.problem = error.message
            return self._came, not (error.status in (401, 403) or (error.status == 404 and was_ended))
        except Exception as error:  # noqa: BLE001 urllib3 has many ways to say that a stream broke; what came is kept
            self.problem = "the stream broke: %s" % (str(error) or type(error).__name__)
        return self._came, True

    def _follow(self, was_ended: bool) -> None:
        """One stream, of a container that has ended to its end, so that the connection can serve again."""
        when, count = resume_point(self.path)
        query = {"container": self.container, "follow": "true", "timestamps": "true"}
        if self.replaced():
            query["previous"] = "true"
        if when:
            query["sinceTime"] = when[:19].decode("ascii") + "Z"  # whole seconds are what the server looks at
        response = self.api.open("GET", self.api.path("pods", self.pod, "log"), query, read=_ENDED_QUIET if was_ended else _QUIET)
        try:
            with open(self.path, "ab", buffering=0) as stream:
                for found in _new(lines(response), when, count):
                    stream.write(b"".join(found))
                    self._came = True
                    self.tee.feed(map(text, found))
                    if (self.tee.ended and not was_ended) or self.stopped.is_set():
                        break
        finally:
            response.close()


def _new(found: Iterator[List[bytes]], when: bytes, count: int) -> Iterator[List[bytes]]:
    """Lines after the point; those of the same moment are counted off."""
    behind, begun = not when, False
    for lines_of_chunk in found:
        if behind:
            yield lines_of_chunk
            continue
        new = []
        for line in lines_of_chunk:
            mine = stamp(line)
            begun = begun or bool(mine)
            if not begun or (mine and mine < when):  # the first may be the rest of a long line that began before the second that we asked for
                continue
            if mine == when and count > 0:
                count -= 1
                continue
            behind = behind or mine > when
            new.append(line)
        if new:
            yield new
