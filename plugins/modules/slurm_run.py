#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_run
short_description: Run the list of runs that a campaign has for a Slurm cluster
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Hands the runs of a campaign's plan to the cluster whose login node the host is, follows their jobs and brings their results home.
  - Runs of one node that ask for the same become one job array, a run of several nodes becomes a job of its own. What is submitted is written down
    before C(sbatch) is called, so that whoever dies, nothing is submitted twice and no job is forgotten.
  - One C(squeue) asks for all jobs of the campaign, after a second at first and every minute at last. A scheduler that does not answer is asked again.
  - The login node needs Slurm's commands and Python 3.8 or newer; compute nodes need the runtime (docker, podman or nothing) and the file system on
    which O(work_dir) lies, nothing else.
  - Building block of the role P(mad.engine.slurm#role).
options:
  state:
    description:
      - V(staged) brings scripts, runs and images to the shared file system.
      - V(started) sees that every run has a job and writes C(attempt-N.json) of each into the campaign folder.
      - V(polled) brings new results, says what runs, and submits what waits - attempts after a failure of the cluster's, and what O(campaign_dir)'s
        C(slurm.max_jobs) held back.
      - V(collected) brings logs and artifacts of all nodes of finished runs in one archive.
      - V(polled) with O(stop) drops the jobs that have not begun.
      - V(cancelled) cancels this campaign's jobs on this cluster, and nothing else.
      - V(absent) removes this campaign's folder, or with O(keep_days) everything of ours that is older. Never one that has a job without a record.
    type: str
    required: true
    choices: [staged, started, polled, collected, cancelled, absent]
  work_dir:
    description:
      - Work folder on a file system that login node and compute nodes share. Empty means C(slurm.work_dir) of the context, else C(~/mad-engine).
    type: str
    default: ""
  wait:
    description: With V(state=cancelled) seconds to wait for the end of what runs.
    type: int
    default: 180
extends_documentation_fragment:
  - mad.engine.target
attributes:
  check_mode:
    support: full
    description: Says what would change; touches nothing and submits nothing.
  diff_mode:
    support: partial
    description: Only V(state=absent) shows what it removes.
seealso:
  - module: mad.engine.slurm_job
  - module: mad.engine.container_run
"""

EXAMPLES = r"""
- name: Bring scripts and images
  mad.engine.slurm_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: staged
    secrets:
      HF_TOKEN: "{{ vault_hf_token }}"

- name: Start what is pending
  mad.engine.slurm_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: started

- name: Bring new results
  mad.engine.slurm_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: polled
    live: true
  register: poll

- name: Bring logs and artifacts
  mad.engine.slurm_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: collected

- name: Remove what campaigns of the last two weeks do not need
  mad.engine.slurm_run:
    state: absent
    keep_days: 14
"""

RETURN = r"""
campaign:
  description: Name of the campaign.
  type: str
  returned: success
campaign_dir:
  description: Its folder on the controller.
  type: str
  returned: success
counts:
  description: The host's runs by where they stand. Only a run whose record is on the controller is done.
  type: dict
  returned: success, states staged, started, polled and cancelled
  sample: {total: 4, done: 2, success: 2, failure: 0, skipped: 0, running: 1, queued: 1}
running:
  description: What runs on this host now.
  type: list
  elements: dict
  returned: success, states started, polled and cancelled
  sample: [{run: 0123456789abcdef, model: dummy, attempt: 1, phase: model, seconds: 12.5}]
ended:
  description: Runs whose record is new on the controller since the last return.
  type: list
  elements: dict
  returned: success, states staged, started, polled and cancelled
  sample: [{run: 0123456789abcdef, model: dummy, status: SUCCESS, failure_class: "", metric: 14164 samples_per_second, seconds: 31.2}]
more:
  description: Whether more results wait for the next poll.
  type: bool
  returned: success, states started, polled and cancelled
patient:
  description: Always false, since a login node is not asked to wait for its runs.
  type: bool
  returned: success, states started, polled and cancelled
never_started:
  description: Ids of runs that this host never took over, because staging or starting them failed. Nobody needs to wait for them.
  type: list
  elements: str
  returned: success, states started, polled and cancelled
runs:
  description: Number of runs staged (state staged), or the ids of the runs whose files came home (state collected).
  type: raw
  returned: success, states staged and collected
images:
  description: What was done for each image.
  type: list
  elements: dict
  returned: success, state staged
  sample: [{name: ci-dummy_dummy.ubuntu.amd, digest: "sha256:...", how: present, seconds: 0.1}]
folder:
  description: The campaign's folder on the login node; empty where nothing was brought.
  type: str
  returned: success, state staged
replaced:
  description:
    - Where the files of another campaign of the same name were put, one of another results folder in which nothing ran any more.
    - Empty where there was none.
  type: str
  returned: success, state staged
bytes:
  description: Size of the archive that was fetched.
  type: int
  returned: success, state collected
removed:
  description: What was removed, or would be in check mode.
  type: list
  elements: str
  returned: success, state absent
kept:
  description: Folders that were left alone, each with the reason.
  type: list
  elements: dict
  returned: success, state absent
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.base.packed import pack_results
from ansible_collections.mad.engine.plugins.module_utils.host.arguments import COMMON
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_steps

STATES = {
    "staged": slurm_steps.staged,
    "started": slurm_steps.started,
    "polled": slurm_steps.polled,
    "collected": slurm_steps.collected,
    "cancelled": slurm_steps.cancelled,
    "absent": slurm_steps.absent,
}


def main() -> None:
    """One state on the login node; the controller's half has decided everything else."""
    module = AnsibleModule(argument_spec=dict(COMMON, job={"type": "dict"}), supports_check_mode=True)
    job = module.params["job"]
    if not job:
        module.fail_json(msg="slurm_run works only together with its action plugin; call it as mad.engine.slurm_run")
    function = slurm_steps.collected if job.get("collect") else STATES[module.params["state"]]
    try:
        module.exit_json(**pack_results(function(job)))
    except MadError as error:
        module.fail_json(msg=error.message, failure_class=error.failure_class)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or "the login node", error.strerror or error), failure_class="infra")


if __name__ == "__main__":
    main()
