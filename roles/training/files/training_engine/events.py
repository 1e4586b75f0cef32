# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two logs of a run, both JSON lines.

`events.jsonl` tells what happened, with times; it is only ever appended to.
`metrics.jsonl` holds what was computed, without times; it is cut back to the checkpoint at a resume, so that a run that was killed
ends with the same bytes as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DataError

PENDING = 64  # lines that are kept until they are written out together, ...
SECONDS = 1.0  # ... or for this long
_encode = json.JSONEncoder(allow_nan=False).encode


def _plain(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers become texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _line(values: Mapping[str, Any]) -> str:
    try:
        return _encode(values)
    except (ValueError, TypeError):  # not finite, or not a plain dict
        return _encode(_plain(values))


class EventLog:
    """Appends events; each line goes to the kernel at once, so that it survives a SIGKILL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        """Append {"event": ..., "time": ..., fields}."""
        line = json.dumps(_plain({"event": event, "time": round(time.time(), 3), **fields}), default=str) + "\n"
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(line)


class MetricsLog:
    """Appends lines without times. Their length at a save is part of the checkpoint.

    Lines become text in groups, which costs a fifth of doing it in the middle of every step. A SIGKILL loses those of the last second
    at most, all of them from after the newest checkpoint: the resumed run writes them again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = open(path, "ab")  # noqa: SIM115  # lives as long as the run
        self._pending: list[Mapping[str, Any]] = []
        self._flushed = time.monotonic()

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line; `values` must not change afterwards."""
        self._pending.append(values)
        if len(self._pending) >= PENDING or time.monotonic() - self._flushed > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand the lines to the kernel."""
        lines, self._pending = self._pending, []
        self._stream.write("".join([_line(values) + "\n" for values in lines]).encode())
        self._stream.flush()
        self._flushed = time.monotonic()

    def durable_offset(self) -> int:
        """Flush and fsync; the number of bytes that are now safe."""
        self.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()

    def cut(self, offset: int) -> None:
        """Drop everything after `offset`. Raises DataError where the file is shorter than the checkpoint says."""
        self.flush()
        size = os.path.getsize(self.path)
        if size < offset:
            raise DataError(f"{self.path} has {size} bytes, but the checkpoint was made when it had {offset}: it was changed or lost; "
                            "restore the file, or move the run folder away to start anew")
        os.truncate(self.path, offset)
        self._stream.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._stream.close()
