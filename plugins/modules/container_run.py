#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_run
short_description: Run the list of runs that a campaign has for a host
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Hands the runs of a campaign's plan to the host that they were planned for, follows them and brings their results home.
  - On the host a supervisor runs the list, detached from the connection. It survives the end of the play and of the login; whoever asks next attaches to it.
    Each attempt has a keeper process of its own, which survives the supervisor. Nothing is started twice, whoever dies.
  - One flock per machine (O(host_lock)) keeps campaigns, users and inventory aliases from measuring beside each other. Waiting for it is queue time.
  - Works with docker, podman and, without a container, on the host itself. The host needs Python 3.8 or newer and the command line of the engine, nothing else.
  - Building block of the role P(mad.engine.local#role).
options:
  state:
    description:
      - V(staged) brings scripts, runs and images to the host and verifies the image ids. A run whose image is not what was planned gets its
        result (class C(image)) and is not started.
      - V(started) sees that a supervisor works on the list and writes C(attempt-N.json) of each accepted run into the campaign folder.
      - V(polled) brings new results (at most 2 MB at a time), says what runs, and starts another supervisor if the last one died.
      - V(collected) brings logs and artifacts of finished runs in one archive.
      - V(cancelled) stops and ends this campaign's runs on this host, and nothing else.
      - V(absent) removes this campaign's folder on the host, or with O(keep_days) everything of ours that is older. Never what runs, nor a record
        that this campaign does not have yet.
    type: str
    required: true
    choices: [staged, started, polled, collected, cancelled, absent]
  work_dir:
    description: Work folder on the host, on a local disk. Empty means C(/var/tmp/mad-<uid>). A folder of another user is refused.
    type: str
    default: ""
  host_lock:
    description: The lock of the machine. Made with mode 0666, never followed through a link, never truncated or removed.
    type: str
    default: /var/tmp/mad-host.lock
  host_parallel:
    description: How many runs of this campaign may run side by side, on disjoint GPUs and CPUs. Recorded in the results.
    type: int
    default: 1
  min_free_bytes:
    description: No run starts with less space than this in the work folder; it gets class C(infra).
    type: int
    default: 268435456
  stage:
    description: With V(state=started), stage first what is not staged yet, in the same step on the host. Not in check mode.
    type: bool
    default: false
  boot_id_file:
    description: Where the kernel tells the id of this boot. For tests of what happens after a reboot.
    type: str
    default: ""
  wait:
    description: With V(state=cancelled) seconds to wait for the end of what runs.
    type: int
    default: 180
extends_documentation_fragment:
  - mad.engine.target
  - mad.engine.target.patience
attributes:
  check_mode:
    support: full
    description: Says what would change; touches nothing and starts nothing.
  diff_mode:
    support: partial
    description: Only V(state=absent) shows what it removes.
"""

EXAMPLES = r"""
- name: Bring scripts and images
  mad.engine.container_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: staged
    secrets:
      HF_TOKEN: "{{ vault_hf_token }}"

- name: Start what is pending
  mad.engine.container_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: started

- name: Both in one step on the host
  mad.engine.container_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: started
    stage: true

- name: Bring new results
  mad.engine.container_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: polled
    live: true
  register: poll

- name: Bring logs and artifacts
  mad.engine.container_run:
    campaign_dir: /srv/results/20261122T101500Z
    state: collected

- name: Remove what campaigns of the last two weeks do not need
  mad.engine.container_run:
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
  description: Whether a poll may ask this host to wait for its runs (O(patience)).
  type: bool
  returned: success, states started, polled and cancelled
never_started:
  description: Ids of runs that this host never took over, because staging or starting them failed. Nobody needs to wait for them.
  type: list
  elements: str
  returned: success, states started, polled and cancelled
waits_for:
  description:
    - What the host waits for before it starts anything, while another campaign has the machine lock.
    - Its C(pid) is 0 and its C(campaign) empty where the kernel does not tell who has it.
  type: dict
  returned: while the host waits, states started, polled and cancelled
  sample: {lock: /var/tmp/mad-host.lock, seconds: 40.2, pid: 4711, campaign: 20261122T101500Z}
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
  description: The campaign's folder on the host; empty where nothing was brought.
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

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.base.packed import pack_results
from ansible_collections.mad.engine.plugins.module_utils.host.arguments import ARGUMENTS, Answer, Job


# Only what a state needs is imported: a host compiles it anew for every task.
def _runs(state: str, job: Job) -> Answer:
    """The states of runs; large results are collected in every one of them, and a start that has an archive stages first."""
    from ansible_collections.mad.engine.plugins.module_utils.host import host_collect, host_steps

    steps: t.Dict[str, t.Callable[[Job], Answer]] = {
        "staged": host_steps.staged,
        "started": host_steps.staged_and_started if job.get("archive") else host_steps.started,
        "polled": host_collect.polled,
        "collected": host_collect.collected,
        "cancelled": host_steps.cancelled,
    }
    return steps["collected" if job.get("collect") else state](job)


def _removal(dummy_state: str, job: Job) -> Answer:
    from ansible_collections.mad.engine.plugins.module_utils.host import host_clean

    return host_clean.absent(job)


STATES = {"staged": _runs, "started": _runs, "polled": _runs, "collected": _runs, "cancelled": _runs, "absent": _removal}


def main() -> None:
    """One state on the host; the controller's half has decided everything else."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS, job={"type": "dict"}), supports_check_mode=True)
    job = module.params["job"]
    if not job:
        module.fail_json(msg="container_run works only together with its action plugin; call it as mad.engine.container_run")
    try:
        module.exit_json(**pack_results(STATES[module.params["state"]](module.params["state"], job)))
    except MadError as error:
        module.fail_json(msg=error.message, failure_class=error.failure_class)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or "the host", error.strerror or error), failure_class="infra")


if __name__ == "__main__":
    main()
