# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter slurm_time: a time limit as sbatch takes it."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_time as times

DOCUMENTATION = r"""
name: slurm_time
short_description: A time limit as sbatch takes it
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Turns a time limit into C([days-]hours:minutes:seconds), or C(UNLIMITED) for 0.
  - A plain number is seconds, as in C(time_limit) of madengine. Every other form is read as C(sbatch --time) reads it.
positional: _input
options:
  _input:
    description: Seconds, or one of Slurm's forms.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Two hours
  ansible.builtin.debug:
    msg: "{{ 7200 | mad.engine.slurm_time }}" # 02:00:00

- name: A day and a half
  ansible.builtin.debug:
    msg: "{{ '1-12' | mad.engine.slurm_time }}" # 1-12:00:00
"""

RETURN = r"""
_value:
  description: Text for C(--time).
  type: str
"""


def slurm_time(value: t.Any) -> str:
    """[days-]hours:minutes:seconds."""
    try:
        return times.show(times.parse(value, "slurm_time"))
    except InvalidInput as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"slurm_time": slurm_time}
