# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files between the controller and the play's host, for action plugins whose module answers with paths instead of contents."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.mad.engine.plugins.plugin_utils.keep_alive import keep_alive


class TransferAction(ActionBase):
    """An action plugin that hands files to its module and fetches those that it made."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """What every action does first; subclasses go on from here."""
        keep_alive(self._connection)
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return result

    def _put(self, local: str, name: str) -> str:
        """Copy a file into the connection's temporary folder (mode 0700); returns its path there."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        remote = str(self._connection._shell.join_path(folder, name))
        self._transfer_file(local, remote)
        self._fixup_perms2((folder, remote))
        return remote

    def _fetch(self, remote: str, local: str) -> None:
        """Bring a file of the outbox home and remove it there, also when it did not come: the next answer makes another."""
        try:
            self._connection.fetch_file(remote, local)
        finally:
            self._low_level_execute_command("rm -f " + self._connection._shell.quote(remote))
