# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter k8s_name: any text as a name that Kubernetes takes."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_names

DOCUMENTATION = r"""
name: k8s_name
short_description: Any text as a name that Kubernetes takes
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Turns a text, such as the name of a model, into a DNS label (lower case letters, digits and C(-), a letter first).
  - A text that is one already stays as it is. A text that had to be changed or shortened gets C(-) and 8 hex digits of its hash behind it,
    so that two texts never become the same name.
positional: _input
options:
  _input:
    description: The text.
    type: str
    required: true
  length:
    description: Longest name, from 12 to 63 characters.
    type: int
    default: 63
"""

EXAMPLES = r"""
- name: A model's name as a name in Kubernetes
  ansible.builtin.debug:
    msg: "{{ 'primus_pretrain/qwen3_1.7B' | mad.engine.k8s_name }}" # primus-pretrain-qwen3-1-7b-d47543e4
"""

RETURN = r"""
_value:
  description: A DNS label.
  type: str
"""


def k8s_name(value: t.Any, length: t.Any = k8s_names.LABEL_LENGTH) -> str:
    """A DNS label."""
    if not isinstance(value, str):
        raise AnsibleFilterError("k8s_name: expected text, got %r" % (value,))
    if not isinstance(length, int) or isinstance(length, bool) or not 12 <= length <= k8s_names.LABEL_LENGTH:
        raise AnsibleFilterError("k8s_name: length: expected a number from 12 to %d, got %r" % (k8s_names.LABEL_LENGTH, length))
    return k8s_names.dns_label(value, length)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"k8s_name": k8s_name}
