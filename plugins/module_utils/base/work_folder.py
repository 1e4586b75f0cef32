# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work folder on a host (mad_work_dir): where it is, whose it is, what a campaign's part of it is called."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat

from .errors import InvalidInput, MadError


def default_work_dir() -> str:
    """Local disk, survives the login, one per user."""
    return "/var/tmp/mad-%d" % os.geteuid()


def folder_name(campaign: str, host: str) -> str:
    """Name of a campaign's folder for one inventory host: two hosts of an inventory may be one machine."""
    return "%s.%s" % (campaign, hashlib.sha256(host.encode("utf-8", "surrogateescape")).hexdigest()[:12])


def user_name(uid: int) -> str:
    """The login name of a uid, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def own_folder(path: str, mode: int) -> bool:
    """Make a folder of ours; returns whether it is new. One that is a link or belongs to somebody else is an error that names the owner."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mkdir(path, mode)
        os.chmod(path, mode)
        return True
    except FileExistsError:
        check_owner(path)
        return False
    except OSError as error:
        raise MadError(
            "the work folder %s cannot be made: %s; set mad_work_dir to a place on a local disk" % (path, error.strerror)
        ) from error


def check_owner(path: str) -> None:
    """InvalidInput unless `path` is a folder (no link) of the user we are."""
    try:
        info = os.lstat(path)
    except OSError as error:
        raise MadError("%s cannot be looked at: %s; set mad_work_dir to a place on a local disk" % (path, error.strerror)) from error
    if not stat.S_ISDIR(info.st_mode):
        raise InvalidInput("%s is not a folder; remove it or set mad_work_dir" % path)
    if info.st_uid != os.geteuid():
        raise InvalidInput(
            "%s belongs to user %s (uid %d), but this play works as %s (uid %d): use the same login and become user as the play that made it, "
            "or set mad_work_dir" % (path, user_name(info.st_uid), info.st_uid, user_name(os.geteuid()), os.geteuid())
        )
