# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's folder on the file system that login node and compute nodes share, with Slurm's rule of what is tried again."""

from __future__ import annotations

import base64
import os
import shutil
from typing import Any, Dict, Mapping

from ..base import files
from ..containers import registry
from ..host import host_state
from ..host.host_state import Attempt, HostFolder
from . import slurm_attempt, slurm_watch
from .slurm_submit import read_marker

DEFAULT_WORK_DIR = "~/mad-engine"  # homes are shared on nearly every cluster; slurm.work_dir says another place


class NodeFolder(Attempt):
    """What one node of an attempt left: the attempt itself for rank 0, a folder of the same form below it for the others."""

    def __init__(self, attempt: Attempt, rank: int) -> None:
        super().__init__(slurm_attempt.node_file(attempt, rank), attempt.run_id, attempt.number)
        self.rank = rank

    def marker(self, name: str) -> Dict[str, str]:
        """One of the files that this node's part of the script wrote."""
        return read_marker(self.file("io", name))


class CampaignFolder(HostFolder):
    """One campaign's folder for one login node."""

    def forget_secrets(self) -> None:
        """Remove them, and the logins of registries."""
        super().forget_secrets()
        shutil.rmtree(self.file(slurm_attempt.LOGINS), ignore_errors=True)

    def save_logins(self, credentials: Mapping[str, Any]) -> None:
        """Keep the logins of the registries that images come from (entries of the credential file), for the nodes' engines, as long as runs need them."""
        auths: Dict[str, Any] = {}
        for key in credentials:
            host = registry.HUB if key == registry.HUB_KEY else registry.host_of(key + "/")
            found = registry.credential_for(registry.HUB if host == registry.HUB else key, credentials)
            if found.get("username"):
                pair = "%s:%s" % (found["username"], found.get("password", ""))
                auths[host] = {"auth": base64.b64encode(pair.encode("utf-8")).decode("ascii")}
        if registry.HUB in auths:
            auths["https://index.docker.io/v1/"] = auths[registry.HUB]
        if auths:
            os.makedirs(self.file(slurm_attempt.LOGINS), mode=0o700, exist_ok=True)
            files.write_json(self.file(slurm_attempt.LOGINS, "config.json"), {"auths": auths}, 0o600)

    def again(self, run: Mapping[str, Any], record: Mapping[str, Any]) -> str:
        """What the cluster did to a run is tried again, what the model did is not; a resumable model that asks for it is run again for free."""
        kind = host_state.retry_kind(run, record)
        if kind == "free":
            return kind
        # Without a job there is nothing that another node could do better: sbatch refused it.
        return kind if slurm_watch.retries(record) and (record.get("target") or {}).get("job") else ""


def folder_of(job: Mapping[str, Any]) -> CampaignFolder:
    """The campaign's folder here."""
    folder = host_state.folder_of(job)
    return CampaignFolder(folder.path, folder.identity)
