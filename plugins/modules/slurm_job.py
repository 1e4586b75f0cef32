#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurm_job
short_description: Submit, follow and cancel a job of a Slurm cluster
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Runs on a host where C(sbatch), C(squeue) and C(scancel) work (a login node), as the user of the connection.
  - A job is known by its O(name). While one of that name waits or runs, nothing is submitted; a play that was killed after the submission finds it again.
  - For waiting, one C(squeue) is asked for all tasks, after 1 second at first and every minute at last. A scheduler that does not answer is asked again.
options:
  name:
    description: Name of the job, without blanks and commas. Two jobs with one name are one job to this module.
    type: str
    required: true
  state:
    description: V(present) submits the job unless it is there; V(absent) cancels what has this name and belongs to this user, and nothing else.
    type: str
    default: present
    choices: [present, absent]
  script:
    description: Text of the script. The directives that O(options), O(nodes), O(array) and O(output) say go behind its first line.
    type: str
  options:
    description:
      - What the job asks for, by the names of the section C(slurm) of a context - C(partition), C(account), C(qos), C(constraint), C(nodelist), C(exclude),
        C(reservation), C(gpus_per_node), C(gres), C(skip_gpus_directive), C(mem), C(cpus_per_task), C(exclusive), C(time), C(signal), C(requeue),
        C(dependency), C(mail), C(comment), C(extra).
      - C(time) is seconds or any form of Slurm's. Unlike in a campaign, C(exclusive) is off unless it is said.
    type: dict
    default: {}
  nodes:
    description: Number of nodes.
    type: int
    default: 1
  array:
    description: Indexes of a job array, as for C(sbatch --array).
    type: str
    default: ""
  output:
    description: File of the job's output on the cluster, as for C(sbatch --output).
    type: str
    default: ""
  chdir:
    description: Directory in which the job begins.
    type: str
    default: ""
  again:
    description: Submit the job although one of this name has ended. Without it such a job counts as done.
    type: bool
    default: false
  wait:
    description: Wait for the end of the job (V(present)) or until it has left the queue (V(absent)). A job that did not end well fails the task.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait, 0 without a limit. A job that is not done by then fails the task and goes on.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Says whether it would submit or cancel.
  diff_mode:
    support: full
    description: Shows the script that is submitted.
seealso:
  - module: mad.engine.container_run
"""

EXAMPLES = r"""
- name: One job, waited for
  mad.engine.slurm_job:
    name: node-burn-in
    script: |
      #!/bin/bash
      srun hostname
    nodes: 4
    options:
      partition: gpu
      time: 600
    wait: true
  register: job

- name: A task on each of three nodes
  mad.engine.slurm_job:
    name: nightly-check
    script: "{{ lookup('ansible.builtin.file', 'check.sh') }}"
    array: 0-2
    again: true
    options:
      gpus_per_node: 8
      exclusive: true

- name: Cancel it
  mad.engine.slurm_job:
    name: nightly-check
    state: absent
"""

RETURN = r"""
job:
  description: Number of the job, or of the array. 0 where there is none (check mode, absent).
  type: int
  returned: always
submitted:
  description: Whether this task submitted it.
  type: bool
  returned: always
jobs:
  description: What Slurm says of the job, one entry for each task of an array.
  type: list
  elements: dict
  returned: always
  sample: [{id: "12_0", nodes: n1, phase: ended, reason: ""}]
script:
  description: The script with its directives.
  type: str
  returned: state present
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.base.quoting import quote
from ansible_collections.mad.engine.plugins.module_utils.slurm import slurm_client, slurm_options, slurm_output, slurm_states, slurm_watch


def with_directives(params: t.Mapping[str, t.Any]) -> str:
    """The script with #SBATCH lines behind its first line."""
    given = dict({"exclusive": False}, **params["options"])
    options = slurm_options.parse(given, "options")
    shape = slurm_options.Shape(params["nodes"], options.gpus_per_node, options.time or 0, int(options.requeue))
    pairs = (("job-name", params["name"]), ("array", params["array"]), ("output", params["output"]), ("chdir", params["chdir"]))
    lines = ["--%s=%s" % (name, quote(value)) for name, value in pairs if value] + slurm_options.directives(options, shape)
    first, newline, rest = params["script"].partition("\n")
    if not first.startswith("#!"):
        raise InvalidInput("script: the first line must name an interpreter, such as #!/bin/bash, not %r" % first[:80])
    return "\n".join([first] + ["#SBATCH " + line for line in lines]) + "\n" + rest


def check(params: t.Mapping[str, t.Any]) -> None:
    """Refuse what would not stay one value on its way."""
    if not re.match(r"[A-Za-z0-9][A-Za-z0-9_.+:@-]{0,199}\Z", params["name"]):
        raise InvalidInput("name %r: letters, digits and _.+:@- were expected, up to 200 characters" % params["name"][:80])
    for key in ("array", "output", "chdir"):
        if re.search(r"[\x00-\x1f]", params[key]):
            raise InvalidInput("%s: text of one line was expected, not %r" % (key, params[key][:80]))
    if params["array"] and not re.match(r"[0-9,:%-]+\Z", params["array"]):
        raise InvalidInput("array %r: indexes such as 0-9, 1,3,5 or 0-99%%4 were expected" % params["array"][:80])
    if params["nodes"] < 1:
        raise InvalidInput("nodes %d: at least 1 was expected" % params["nodes"])


def answer(jobs: t.Sequence[slurm_output.Job], number: int, submitted: bool = False) -> t.Dict[str, t.Any]:
    """What both states return; only tasks of the job itself."""
    own = [slurm_output.as_document(job) for job in jobs if job.job == number or not number]
    return {"job": number, "submitted": submitted, "jobs": own}


def present(module: AnsibleModule, slurm: slurm_client.Slurm) -> t.Dict[str, t.Any]:
    """Submit unless it is there; wait where asked to."""
    params, name = module.params, module.params["name"]
    script = with_directives(params)
    jobs = slurm.known([name])
    number = slurm_watch.newest(jobs)
    active = any(job.state.phase != slurm_states.ENDED for job in jobs)
    submit = number is None or (params["again"] and not active)
    number = 0 if submit or number is None else number
    result = dict(answer([] if submit else jobs, number), changed=submit, script=script)
    if submit:
        result["diff"] = {"before": "", "after": script, "after_header": "job %s" % name}
    if submit and not module.check_mode:
        number = slurm.submit(name, script)
        result.update(job=number, submitted=True)
    if params["wait"] and not module.check_mode:
        result.update(answer(slurm_client.wait(slurm, [name], params["wait_timeout"]), number, submit))
        judge(module, slurm, number, result)
    return result


def judge(module: AnsibleModule, slurm: slurm_client.Slurm, number: int, result: t.Dict[str, t.Any]) -> None:
    """Fail the task for a job that is not done or did not end well."""
    name = module.params["name"]
    jobs = [job for job in slurm.known([name]) if job.job == number]
    left = [job.shown() for job in jobs if job.state.phase != slurm_states.ENDED]
    if left:
        module.fail_json(msg="job %s is not done after %d s: %s" % (name, module.params["wait_timeout"], ", ".join(left[:20])), **result)
    bad = ["%s: %s" % (job.shown(), job.state.reason or job.reason or "it failed") for job in jobs if not job.state.good]
    if bad:
        module.fail_json(msg="job %s did not end well: %s" % (name, "; ".join(bad[:20])), **result)


def absent(module: AnsibleModule, slurm: slurm_client.Slurm) -> t.Dict[str, t.Any]:
    """Cancel what waits or runs under this name."""
    name = module.params["name"]
    active = [job for job in slurm.jobs([name]) if job.state.phase != slurm_states.ENDED]
    if active and not module.check_mode:
        slurm.cancel([name])
        if module.params["wait"]:
            slurm_client.wait(slurm, [name], module.params["wait_timeout"])
    return dict(answer(active, 0), changed=bool(active))


def main() -> None:
    """One job."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "script": {"type": "str"},
            "options": {"type": "dict", "default": {}},
            "nodes": {"type": "int", "default": 1},
            "array": {"type": "str", "default": ""},
            "output": {"type": "str", "default": ""},
            "chdir": {"type": "str", "default": ""},
            "again": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 0},
        },
        required_if=[("state", "present", ["script"])],
        supports_check_mode=True,
    )
    try:
        check(module.params)
        slurm = slurm_client.Slurm()
        module.exit_json(**(present if module.params["state"] == "present" else absent)(module, slurm))
    except MadError as error:
        module.fail_json(msg=error.message, failure_class=error.failure_class)


if __name__ == "__main__":
    main()
