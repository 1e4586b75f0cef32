# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that dies silently must not hold up a play: ssh asks it for a sign of life, whatever the person's ansible.cfg leaves out."""

from __future__ import annotations

import typing as t

OPTION = "ssh_common_args"
SIGNS = "-o ServerAliveInterval=30 -o ServerAliveCountMax=4"  # two minutes: a host under a benchmark may be slow to answer


def keep_alive(connection: t.Any) -> None:
    """Have an Ansible connection's ssh end when its host gives no sign of life. What the person wrote into Ansible's options stays: ssh takes the first."""
    if connection.transport == "ssh":
        connection.set_option(OPTION, ("%s %s" % (connection.get_option(OPTION) or "", SIGNS)).strip())
