# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build logs: their names, and commands whose output goes line by line into one, with secrets masked."""

from __future__ import annotations

import collections
import contextlib
import os
import posixpath
import re
import signal
import subprocess
import threading
from types import TracebackType
from typing import IO, Callable, Deque, Iterable, List, Mapping, Optional, Sequence, Set, Type, cast

from ..base.errors import ImageError
from ..base.secret_names import mask

TAIL_LINES = 20  # how many last lines of a log go into an error
_LONGEST_IN_ERRORS = 500
# What docker's client says before every classic build, and we ourselves: it explains no failure.
_NOISE = (
    "mad.engine: docker build ",
    "mad.engine: podman build ",
    "DEPRECATED: The legacy builder",
    "BuildKit is currently disabled; enable it",
    "environment-variable.",
    "Install the buildx component",
    "https://docs.docker.com/go/buildx/",
)
_CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]")
_LONGEST_LINE = 64 * 1024  # progress bars without newlines must not fill the memory


def base_name(dockerfile: str) -> str:
    """The last part of a Dockerfile's path without `.Dockerfile`."""
    name = posixpath.basename(dockerfile)
    return name[: -len(".Dockerfile")] if name.endswith(".Dockerfile") else name


def log_name(model: str, dockerfile: str, architecture: str = "") -> str:
    """`<model with / as _>_<Dockerfile base>[_<arch>].build.live.log`; the architecture keeps the logs of several apart."""
    parts = [model.replace("/", "_"), base_name(dockerfile)] + ([architecture] if architecture else [])
    return "_".join(parts).replace("/", "_") + ".build.live.log"


class Commands:
    """The commands that are running now, so that all of them end when the module has to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def start(self, argv: Sequence[str], environment: Mapping[str, str], folder: Optional[str] = None) -> subprocess.Popen[bytes]:
        """Start a command with output and errors in one pipe. After stop() nothing starts any more."""
        with self._lock:
            if self.stopped:
                raise ImageError("stopped before %s was started" % os.path.basename(argv[0]))
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # a group of its own: the client and its plugins end together
                list(argv),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def finished(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a command that was waited for."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Ask every running command to end (the engine's client then cancels what it asked for)."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                signal_group(process, signal.SIGTERM)


class BuildLog:
    """A log file that is written as lines come. `on_line` sees every line, masked."""

    def __init__(
        self, path: str, secrets: Iterable[str] = (), on_line: Optional[Callable[[str], None]] = None, append: bool = False
    ) -> None:
        self.path = path
        self._secrets = secret_lines(secrets)
        self._on_line = on_line
        self._last: Deque[str] = collections.deque(maxlen=TAIL_LINES)
        # Unbuffered: what a full disk did not take must not be tried again when the file is closed. Closed by __exit__.
        self._stream = open(path, "ab" if append else "wb", buffering=0)

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._stream.close()

    def line(self, text: str) -> str:
        """Add one line; returns it as it stands in the file: masked."""
        text = mask(text.rstrip("\r\n"), self._secrets)
        rest = memoryview((text + "\n").encode("utf-8", "replace"))
        while rest:
            rest = rest[self._stream.write(rest) :]
        if text.strip():
            self._last.append(text)
        if self._on_line:
            self._on_line(text)
        return text

    def tail(self) -> List[str]:
        """The last lines that say something, as they can stand in an error: of readable length, without colours and control characters."""
        lines = [line for line in self._last if not line.strip().startswith(_NOISE)]
        return [_CONTROL.sub("", line.replace("\t", "    "))[:_LONGEST_IN_ERRORS] for line in lines]

    def run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        commands: Commands,
        timeout: float = 0,
        folder: Optional[str] = None,
        watch: Optional[Callable[[str], None]] = None,
    ) -> int:
        """Run a command in `folder` into the log; its exit status (negative: the signal). timeout 0: none; past it, ImageError.

        `watch` sees the lines of this command only.
        """
        try:
            process = commands.start(argv, environment, folder)
        except OSError as error:
            raise ImageError("%s cannot be started: %s" % (argv[0], error.strerror)) from error
        late = threading.Event()
        timer = threading.Timer(timeout, _give_up, (process, late)) if timeout else None
        if timer:
            timer.start()
        try:
            self._copy(process, watch)
            code = process.wait()
        finally:
            if timer:
                timer.cancel()
            commands.finished(process)
        if late.is_set():
            raise ImageError("%s did not end in %d s and was stopped" % (os.path.basename(argv[0]), timeout))
        return code

    def _copy(self, process: subprocess.Popen[bytes], watch: Optional[Callable[[str], None]]) -> None:
        """The command's lines into the log until it closes its output; the command is killed when the log cannot be written."""
        with cast(IO[bytes], process.stdout) as stream:
            try:
                for raw in iter(lambda: stream.readline(_LONGEST_LINE), b""):
                    line = self.line(raw.decode("utf-8", "replace"))
                    if watch:
                        watch(line)
            except BaseException:  # also on KeyboardInterrupt: nothing may go on building without us
                signal_group(process, signal.SIGKILL)
                process.wait()
                raise


def _give_up(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """The time limit: terminate, and kill what does not listen."""
    late.set()
    signal_group(process, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a command and everything it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


def secret_lines(secrets: Iterable[str]) -> List[str]:
    """Values as they can stand in one line of a log: those of several lines (keys) line by line too."""
    values = list(secrets)
    return values + [line.strip() for value in values for line in value.splitlines() if line.strip() != value]
