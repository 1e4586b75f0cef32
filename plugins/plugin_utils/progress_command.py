# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a person stops a campaign, made of the command that resumes it; and what to do where a controller such as AWX started the play."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from ansible import constants as C

from ansible_collections.mad.engine.plugins.plugin_utils.command_line import GIVE_AGAIN

CANCEL = "mad.engine.cancel"
CALLBACK = "mad.engine.progress"


def callback_enabled() -> bool:
    """Whether the callback tells the progress: what it says, the steps do not say too."""
    return CALLBACK in C.config.get_config_value("CALLBACKS_ENABLED")  # type: ignore[no-untyped-call]


def cancel_command(resume_command: str, playbooks: Iterable[str]) -> str:
    """The playbook mad.engine.cancel with the inventory, hosts and variables of `resume_command`, in which `playbooks` name playbooks.

    Secrets that would have to be given again to resume are not asked for: nothing is started.
    """
    names = set(playbooks)
    words: list[str] = []
    done = False
    for word in shlex.split(resume_command):
        if word.startswith(GIVE_AGAIN) and words[-1:] == ["-e"]:
            words.pop()
        elif word in names or word == "mad.engine.run":
            words += [] if done else [CANCEL]
            done = True
        else:
            words.append(word)
    return " ".join(shlex.quote(word) for word in (words if done else [*words[:1], CANCEL, *words[1:]]))


def job_hint(environ: Mapping[str, str], campaign: str) -> str:
    """Under a controller such as AWX there is no command to type: "" elsewhere."""
    if environ.get("AWX_PRIVATE_DATA_DIR") or environ.get("AWX_ISOLATED_DATA_DIR"):
        return "launch the job template again with the extra variable mad_campaign=%s" % campaign
    return ""


def rerun_hint(failed: int, job: str, resume_command: str) -> str:
    """How a person has runs measured again that failed for good; `job` is what job_hint says."""
    command = "%s and mad_rerun=failed" % job if job else resume_command + " -e mad_rerun=failed"
    what = "1 failed run is final; to measure it again: " if failed == 1 else "%d failed runs are final; to measure them again: " % failed
    return what + command
