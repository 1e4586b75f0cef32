# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that the modules of all targets share; module_utils/host/arguments.py has their types."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of container_run, slurm_run and k8s_job."""

    DOCUMENTATION = r"""
options:
  campaign_dir:
    description:
      - Folder of the campaign on the controller; its C(plan.json) says what runs on this host or cluster.
      - Only O(state=absent) with O(keep_days) goes without.
    type: path
  stop:
    description:
      - With O(state=polled) a reason to start nothing more; runs that were not started become SKIPPED with it.
      - With O(state=cancelled) the reason that stands in the results.
    type: str
    default: ""
  live:
    description: With O(state=polled) show the output of running models as it comes, with host and model in front of each line.
    type: bool
    default: false
  keep_days:
    description:
      - With O(state=absent) remove folders, archives and images of all campaigns that were last used before so many days.
      - Unset, only this campaign's folder.
    type: float
  credential_file:
    description:
      - On the controller, a file with registry logins and other credentials (C(credential.json)).
      - Only what the runs need leaves the controller.
    type: str
    default: ""
  secrets:
    description:
      - Values of secret environment variables of the runs, by name. What is not here comes from where the plan has it from - the context, the card,
        the credential file - or from the controller's environment.
      - They travel in a file with mode 0600, never on a command line, and are removed when nothing is left to run.
    type: dict
    default: {}
  stage_parallel:
    description: With O(state=staged) how many hosts of this campaign are brought scripts and images at the same time; the others wait. 0 sets no limit.
    type: int
    default: 0
  job:
    description: What the controller's half hands to the host's half. Not for people.
    type: dict
"""

    # Of the targets whose hosts can wait for their runs.
    PATIENCE = r"""
options:
  patience:
    description: With O(state=polled) seconds that the host may wait for its runs to end before it answers.
    type: float
    default: 0
"""
