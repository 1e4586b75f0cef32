# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How action plugins talk to people: what goes wrong is one sentence, and nothing is printed into the output of a callback that writes JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError, file_error


def say(text: str) -> None:
    """Print for a person; not into the output of a callback that prints JSON, which must stay JSON."""
    if text and "json" not in C.config.get_config_value("DEFAULT_STDOUT_CALLBACK"):
        Display().display(text)


@contextlib.contextmanager
def failures_said(of_files: str = "") -> Iterator[None]:
    """Make a failed task of our own errors and of those of files (`of_files` says before them whose): a sentence, not a traceback."""
    try:
        yield
    # Without the cause, whose own words Ansible would append.
    except MadError as error:
        raise AnsibleActionFail(error.message) from None
    except OSError as error:
        raise AnsibleActionFail(of_files + file_error(error)) from None
