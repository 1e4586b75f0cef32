#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_job
short_description: Run a Job on a Kubernetes cluster, or the runs that a campaign has for it
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs on a host that reaches the API of the cluster, usually the controller itself (C(ansible_connection=local)).
  - Without O(campaign_dir) it sees that one Job is there (V(state=present)), waits for it if asked to, or removes it with all that it owns
    (V(state=absent)). The Job is created suspended; what O(owned) says is applied with the Job as its owner; then the Job is released. A Job of
    this name that exists is left as it is.
  - With O(campaign_dir) it is the building block of the role P(mad.engine.k8s#role). A runner process, detached from the play, makes the Jobs,
    follows all of them by one watch for each kind of object, reads the logs of their pods and writes each result. Whoever dies, nothing is
    started twice.
requirements:
  - The Python package C(kubernetes) on the host that the module runs on.
options:
  state:
    description:
      - V(present) and V(absent) for a single Job; V(absent) with O(campaign_dir) removes what the campaign left, Secrets included, and nothing else.
      - V(staged) renders the objects and hands the runs over, after one check of all rights that they need.
      - V(started) sees that a runner works on the list and writes C(attempt-N.json) of each accepted run into the campaign folder.
      - V(polled) brings new results, says what runs and why something waits.
      - V(collected) brings logs and artifacts in one archive.
      - V(cancelled) removes this campaign's Jobs; their runs end as cancelled.
    type: str
    default: present
    choices: [present, staged, started, polled, collected, cancelled, absent]
  definition:
    description: The Job, as in a manifest (V(state=present)). C(apiVersion) and C(kind) may be left out.
    type: dict
  owned:
    description: Objects that belong to the Job and are removed with it - Secrets, ConfigMaps, Services. Their names are theirs to choose.
    type: list
    elements: dict
    default: []
  name:
    description: Name of the Job; with V(state=present) only needed where O(definition) has none.
    type: str
    default: ""
  namespace:
    description: Namespace; empty means the one of O(definition), else C(default).
    type: str
    default: ""
  in_cluster:
    description: Use the service account of the pod that this runs in.
    type: bool
    default: false
  wait:
    description:
      - Seconds to wait. V(state=present) waits for the end of the Job, which fails the task unless it is complete; V(state=absent) until the Job and
        its pods are gone. Unset, neither waits.
      - V(state=cancelled) waits for the end of what runs, 180 seconds unless something else is said.
    type: int
  work_dir:
    description: Work folder on the host, on a local disk. Empty means C(/var/tmp/mad-<uid>).
    type: str
    default: ""
extends_documentation_fragment:
  - mad.engine.cluster_access
  - mad.engine.target
  - mad.engine.target.patience
attributes:
  check_mode:
    support: full
    description: Says what would change; touches nothing and starts nothing.
  diff_mode:
    support: full
    description: Shows the manifest of a Job that would be made, without Secrets, and what V(state=absent) removes.
seealso:
  - module: mad.engine.container_run
  - module: mad.engine.slurm_job
"""

EXAMPLES = r"""
- name: One Job, waited for
  mad.engine.k8s_job:
    namespace: bench
    definition:
      metadata:
        name: node-burn-in
      spec:
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            containers:
              - name: burn-in
                image: registry.example.com/burn-in:1
                resources:
                  limits:
                    amd.com/gpu: 8
    wait: 3600
  delegate_to: localhost

- name: Remove it, and what it owns
  mad.engine.k8s_job:
    state: absent
    namespace: bench
    name: node-burn-in

- name: Bring new results of a campaign
  mad.engine.k8s_job:
    campaign_dir: /srv/results/20261122T101500Z
    state: polled
  register: poll
"""

RETURN = r"""
job:
  description: The Job as the API server has it (V(state=present)).
  type: dict
  returned: without O(campaign_dir), unless it is only checked
complete:
  description: Whether the Job has ended well.
  type: bool
  returned: without O(campaign_dir), V(state=present)
campaign:
  description: Name of the campaign.
  type: str
  returned: with O(campaign_dir)
campaign_dir:
  description: Its folder on the controller.
  type: str
  returned: with O(campaign_dir)
counts:
  description: The cluster's runs by where they stand. Only a run whose record is on the controller is done.
  type: dict
  returned: with O(campaign_dir), states staged, started, polled and cancelled
  sample: {total: 4, done: 2, success: 2, failure: 0, skipped: 0, running: 1, queued: 1}
running:
  description: What runs or waits in the cluster; C(waits) says why something waits.
  type: list
  elements: dict
  returned: with O(campaign_dir), states started, polled and cancelled
  sample: [{run: 0123456789abcdef, model: dummy, attempt: 1, phase: model, seconds: 12.5}]
ended:
  description: Runs whose record is new on the controller since the last return.
  type: list
  elements: dict
  returned: with O(campaign_dir), states staged, started, polled and cancelled
  sample: [{run: 0123456789abcdef, model: dummy, status: SUCCESS, failure_class: "", metric: 14164 samples_per_second, seconds: 31.2}]
more:
  description: Whether more results wait for the next poll.
  type: bool
  returned: with O(campaign_dir), states started, polled and cancelled
patient:
  description: Whether a poll may ask this host to wait for its runs (O(patience)).
  type: bool
  returned: with O(campaign_dir), states started, polled and cancelled
never_started:
  description: Ids of runs that this host never took over, because staging or starting them failed. Nobody needs to wait for them.
  type: list
  elements: str
  returned: with O(campaign_dir), states started, polled and cancelled
runs:
  description: Number of runs staged (state staged), or the ids of the runs whose files came home (state collected).
  type: raw
  returned: with O(campaign_dir), states staged and collected
images:
  description: What was done for each image; nodes pull theirs themselves.
  type: list
  elements: dict
  returned: with O(campaign_dir), state staged
  sample: [{name: registry.example.com/dummy:1, digest: "sha256:...", how: cluster, seconds: 0.0}]
folder:
  description: The campaign's folder on the inventory host; empty where nothing was brought.
  type: str
  returned: with O(campaign_dir), state staged
replaced:
  description:
    - Where the files of another campaign of the same name were put, one of another results folder in which nothing ran any more.
    - Empty where there was none.
  type: str
  returned: with O(campaign_dir), state staged
bytes:
  description: Size of the archive that was fetched.
  type: int
  returned: with O(campaign_dir), state collected
removed:
  description: What was removed, or would be in check mode.
  type: list
  elements: str
  returned: state absent
kept:
  description: Folders that were left alone, each with the reason.
  type: list
  elements: dict
  returned: with O(campaign_dir) or O(keep_days), state absent
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_single, k8s_steps
from ansible_collections.mad.engine.plugins.module_utils.k8s.arguments import ARGUMENTS


def main() -> None:
    """One state of a campaign, or a single Job."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS, job={"type": "dict"}), supports_check_mode=True)
    job = module.params["job"]
    for document in module.params["owned"]:
        if document.get("kind") == "Secret":
            found = [*(document.get("data") or {}).values(), *(document.get("stringData") or {}).values()]
            module.no_log_values.update(str(value) for value in found if value)
    try:
        if job:
            function = k8s_steps.collected if job.get("collect") else k8s_steps.STATES[module.params["state"]]
            module.exit_json(**function(job))
        if module.params["state"] not in ("present", "absent") or module.params["campaign_dir"]:
            module.fail_json(msg="a campaign's states work only together with the action plugin; call it as mad.engine.k8s_job")
        result = k8s_single.run(module.params, module.check_mode)
        if result.get("problem"):
            module.fail_json(msg=result.pop("problem"), **result)
        module.exit_json(**result)
    except MadError as error:
        module.fail_json(msg=error.message, failure_class=error.failure_class)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or "the host", error.strerror or error), failure_class="infra")


if __name__ == "__main__":
    main()
