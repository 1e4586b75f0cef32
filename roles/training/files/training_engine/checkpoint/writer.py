# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asynchronous writer: the state is copied into staging buffers that are used again, and one thread writes it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from ..tree import Flat


class Staging:
    """Copies of tensors in host memory. The buffers of the last save are reused, so a save costs one memory copy and no allocation."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], torch.Tensor] = {}

    def copy(self, files: dict[str, Flat]) -> dict[str, Flat]:
        """The same values in memory that training does not touch. The copies are valid until the next call."""
        before, self._buffers = self._buffers, {}
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        out = {}
        for file, flat in files.items():
            copies = {}
            for name, tensor in flat.tensors.items():
                buffer = before.get((file, name))
                if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                    buffer = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                copies[name] = self._buffers[file, name] = buffer
                pairs.append((buffer, tensor))
            out[file] = Flat(copies, flat.skeleton)
        self._fill(pairs)
        return out

    @staticmethod
    def _fill(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for buffer, tensor in pairs:
            buffer.copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for dummy, tensor in pairs):
            torch.cuda.synchronize()


class BackgroundTask:
    """At most one task at a time in a thread; its error is raised where somebody waits."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a task is still running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread, after waiting for the one before it."""
        self.wait()

        def run() -> None:
            try:
                work()
            except BaseException as error:  # it is raised again by wait(), in the thread of the caller
                self._error = error

        self._thread = threading.Thread(target=run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the task and raise what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
