# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions of the core: each one is a finished sentence for a person, with the failure class of the rows it causes."""

from __future__ import annotations

# The closed list of failure classes (a FAILURE row carries exactly one of them).
FAILURE_CLASSES = (
    "invalid",  # the input is wrong: a card, a tag, a context key
    "image",  # the image could not be built, pushed, pulled, loaded or verified
    "placement",  # the place cannot take the run (GPUs, memory, queue)
    "launch",  # the engine refused to start it
    "oom",  # the kernel or the engine killed it for memory
    "timeout",  # it ran past its time limit
    "crash",  # the model's own process ended with a non-zero status
    "error_pattern",  # it ended with 0, but an error pattern stands in its output
    "no_metric",  # it ended with 0 and printed no performance
    "parse",  # it left results that cannot be read
    "preempted",  # somebody took the machine
    "lost_contact",  # launched, acknowledged, and never heard of again
    "infra",  # the machine failed it: unreachable at the start, rebooted, disk full
    "cancelled",  # a person stopped it
)


def file_error(error: OSError) -> str:
    """What the system said of a file, as a sentence that names it."""
    return "%s: %s" % (error.filename or type(error).__name__, error.strerror or error)


class MadError(Exception):
    """An error a person can act on. `failure_class` is one of FAILURE_CLASSES."""

    failure_class = "infra"

    def __init__(self, message: str, failure_class: str = "") -> None:
        super().__init__(message)
        self.message = message
        if failure_class:
            if failure_class not in FAILURE_CLASSES:
                raise ValueError("unknown failure class %r" % failure_class)
            self.failure_class = failure_class


class InvalidInput(MadError):
    """What the user gave is wrong; the message names file, model, key, what was expected and what to do."""

    failure_class = "invalid"


class ImageError(MadError):
    """An image could not be built, moved or verified."""

    failure_class = "image"


class LaunchError(MadError):
    """An engine or a scheduler refused to start a run."""

    failure_class = "launch"
