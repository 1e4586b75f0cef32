# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter quote_env: variables as lines of shell text."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.module_utils.base import quoting, scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput

DOCUMENTATION = r"""
name: quote_env
short_description: Variables as lines of shell text, each value quoted
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Turns a dictionary of environment variables into lines of C(export NAME=value) for a rendered shell file.
  - Every value stands for exactly its own text in any POSIX shell, whatever it holds
    (quotes, newlines, semicolons, command substitutions). Nothing is expanded.
  - A name that no shell takes and a value that is a list or a dictionary are errors.
positional: _input
options:
  _input:
    description: Names and values. Numbers and booleans become text.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: A job script with its environment
  ansible.builtin.copy:
    content: |
      #!/bin/bash
      {{ {'NCCL_DEBUG': 'INFO', 'NOTE': "it's $HOME"} | mad.engine.quote_env }}
      exec bash run.sh
    dest: /tmp/job.sh
    mode: "0700"
"""

RETURN = r"""
_value:
  description: One line for each variable, sorted by name; the empty text for no variables.
  type: str
"""


def quote_env(variables: t.Any) -> str:
    """Lines of `export NAME=value`."""
    try:
        return quoting.quote_env(scalars.text_dict(variables, "quote_env"))
    except InvalidInput as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"quote_env": quote_env}
