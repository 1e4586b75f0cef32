# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a machine without trusting it: files that may be missing, tools that may fail, hang or flood."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

TOOL_TIMEOUT = 30.0  # seconds; a healthy SMI tool of an 8-GPU host answers in under 5
_MOST_OUTPUT = 4 << 20  # bytes; `nvidia-smi -q` of a 16-GPU host prints 200 kB
_MOST_FILE = 1 << 20
NO_CODE = -1000  # the exit code of a tool that has none: not started, or stopped by us
_QUOTED = 300  # characters of a tool's own words in one of our sentences
# Where tools live that the PATH of a non-login shell over SSH often lacks.
_TOOL_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Answer(NamedTuple):
    """What a tool said. `problem` is "" or one sentence: it is not there, failed, ran out of time, printed without end."""

    code: int
    out: str
    err: str
    problem: str


class System:
    """The machine that probes look at: files below `root`, tools on the PATH of `environ`. Tests give another one."""

    def __init__(self, root: str = "/", environ: Optional[Mapping[str, str]] = None) -> None:
        self.root = root
        self.environ = dict(os.environ if environ is None else environ)

    def path(self, path: str) -> str:
        """The real path of what the machine calls `path`."""
        return os.path.join(self.root, path.lstrip("/"))

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def read(self, path: str) -> str:
        """Text of a file without blanks around it; "" if it cannot be read (absent, no permission, a driver that answers EIO)."""
        try:
            with open(self.path(path), "rb") as stream:
                return stream.read(_MOST_FILE).decode("utf-8", "replace").strip("\0 \t\r\n")
        except OSError:
            return ""

    def names(self, path: str) -> List[str]:
        """Sorted names in a folder, [] if it cannot be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def find_tool(self, name: str, folders: Sequence[str] = ()) -> str:
        """Real path of an executable: on PATH, then in `folders` and the usual places below the root; "" if it is nowhere."""
        usual = [self.path(folder) for folder in (*folders, *_TOOL_FOLDERS)]
        for folder in [entry for entry in self.environ.get("PATH", "").split(os.pathsep) if entry] + usual:
            candidate = os.path.join(folder, name)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
        return ""

    def run(self, argv: Sequence[str], timeout: float = TOOL_TIMEOUT) -> Answer:
        """Run a tool to its end or to the time limit, then kill its whole process group. Never raises."""
        name = os.path.basename(argv[0])
        environ = {**self.environ, "LC_ALL": "C", "LANG": "C"}
        try:
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # its exit waits for ever on a process in state D
                list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return Answer(NO_CODE, "", "", "%s cannot be started: %s" % (name, getattr(error, "strerror", None) or error))
        return _finish(process, name, timeout)


def _finish(process: subprocess.Popen[bytes], name: str, timeout: float) -> Answer:
    """Collect a started tool's answer; what it started and left behind in its group is killed on every way out."""
    deadline = time.monotonic() + timeout
    texts = [bytearray(), bytearray()]
    ended = False
    try:
        _read_pipes(process, texts, deadline)
        while not (ended := _has_ended(process)) and time.monotonic() < deadline and _size(texts) < _MOST_OUTPUT:
            time.sleep(0.01)
    finally:
        _stop(process)
    out, err = (bytes(text).decode("utf-8", "replace") for text in texts)
    if not ended:
        reason = "printed more than %d MB" % (_MOST_OUTPUT >> 20) if _size(texts) >= _MOST_OUTPUT else "did not end within %g s" % timeout
        return Answer(NO_CODE, out, err, "%s %s and was stopped" % (name, reason))
    code = process.returncode
    return Answer(code, out, err, "" if code == 0 else "%s ended with %d: %s" % (name, code, first_words(err, out)))


def _size(texts: Sequence[bytearray]) -> int:
    return sum(len(text) for text in texts)


def _read_pipes(process: subprocess.Popen[bytes], texts: Sequence[bytearray], deadline: float) -> None:
    """Fill stdout and stderr until both are closed, the tool has ended (a daemon it left may hold them open), or a limit is reached."""
    with selectors.DefaultSelector() as selector:
        for stream, text in zip((process.stdout, process.stderr), texts):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, text)
        while selector.get_map() and time.monotonic() < deadline and _size(texts) < _MOST_OUTPUT:
            ended = _has_ended(process)
            events = selector.select(0.1)
            if ended and not events:
                return
            for key, _mask in events:
                _read_some(selector, key)


def _read_some(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, 1 << 16)
    if chunk:
        key.data.extend(chunk)
    else:
        selector.unregister(key.fileobj)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is over, without reaping it: its number stays taken, so that killing its group cannot hit somebody else."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody else in this process reaped it
        return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the group, close the pipes, reap; a process in state D inside a hung driver cannot be killed and is left alone."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def first_words(*texts: str) -> str:
    """The first lines of the first text that says anything, as one short line for a sentence."""
    for text in texts:
        words = " ".join(text.split())
        if words:
            return words[:_QUOTED] + ("..." if len(words) > _QUOTED else "")
    return "no output"


def parse_json(text: str) -> Any:
    """The JSON document in a tool's output, warnings before it skipped (amd-smi and rocm-smi print some); None if there is none."""
    decoder = json.JSONDecoder()
    for position, letter in enumerate(text[:65536]):
        if letter in "[{":
            try:
                return decoder.raw_decode(text, position)[0]
            except (ValueError, RecursionError):
                continue
    return None


def together(jobs: Mapping[str, Callable[[], Any]]) -> Dict[str, Any]:
    """Results of several slow probes run side by side, by name; a raised exception is returned as the result."""
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        return {name: future.exception() or future.result() for name, future in futures.items()}
