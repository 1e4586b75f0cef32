#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a host: GPUs, container engines, machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Facts of a host for benchmarks - GPUs, container engines, machine
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Returns what a benchmark needs to know about a host, and what explains its result later.
  - GPUs of AMD, NVIDIA and Intel are found by their drivers and tools. A host without GPUs has the vendor C(NONE). The graphics unit
    inside a desktop processor and the display chip of a management controller are not GPUs.
  - It never fails because a tool is missing, broken or hangs. What could not be found out is empty, and C(problems) in RV(facts.gpu),
    RV(facts.engines) and RV(facts.problems) say why.
  - Every tool is stopped with all its child processes after 30 seconds, a container engine after 10. The slow ones are asked side by side.
  - The facts are not set as C(ansible_facts); register the result.
options:
  work_dir:
    description:
      - Folder whose free space is returned in RV(facts.free_bytes). It need not exist yet.
    type: path
    default: /var/tmp
  what:
    description:
      - Which parts to return.
      - The V(host) part is fast; V(gpu) and V(engines) run the tools of the vendors and engines.
    type: list
    elements: str
    choices: [host, gpu, engines]
    default: [host, gpu, engines]
  engine:
    description:
      - Which container engines to ask.
      - V(auto) takes the first that answers, docker before podman, and does not ask the other one, whose facts are then absent.
    type: str
    choices: [all, auto, docker, podman]
    default: all
  gpu_vendor:
    description:
      - Look for GPUs of one vendor only, on a host that has several; V(none) looks for none.
      - Empty takes what is there, NVIDIA before AMD before Intel.
    type: str
    choices: ["", amd, nvidia, intel, none]
    default: ""
  rocm_path:
    description:
      - Folder of the ROCm installation whose tools are asked.
      - Empty searches the usual places, see the environment variables E(MAD_ROCM_PATH) and E(MAD_AUTO_ROCM_PATH).
    type: path
    default: ""
attributes:
  check_mode:
    description: Can run in check mode and does the same there.
    support: full
  diff_mode:
    description: There is nothing to show, it changes nothing.
    support: none
requirements:
  - Linux
"""

EXAMPLES = r"""
- name: Learn what the hosts have
  mad.engine.gpu_info:
  register: host

- name: Show the GPUs and what is wrong with them
  ansible.builtin.debug:
    msg: "{{ host.facts.gpu.count }} x {{ host.facts.gpu.product }} {{ host.facts.gpu.problems }}"

- name: Only the engines, as root
  mad.engine.gpu_info:
    what: engines
  become: true
  register: engines
"""

RETURN = r"""
facts:
  description: The facts; keys of parts that were not asked for are absent.
  returned: always
  type: dict
  contains:
    hostname:
      description: The host's own name.
      type: str
      returned: with host
    machine_id:
      description: The content of /etc/machine-id; two inventory hosts with the same one are the same machine.
      type: str
      returned: with host
    boot_id:
      description: Changes with every boot.
      type: str
      returned: with host
    kernel:
      description: Release of the kernel.
      type: str
      returned: with host
    os:
      description: C(id), C(version), C(like) and C(name) from os-release.
      type: dict
      returned: with host
    init:
      description: V(systemd) or empty.
      type: str
      returned: with host
    cpu:
      description: C(model), C(count), C(usable) (left by affinity and cgroups), C(governor), C(architecture).
      type: dict
      returned: with host
    memory_bytes:
      description: Memory of the machine.
      type: int
      returned: with host
    memory_limit_bytes:
      description: What cgroups leave of it; 0 without a limit.
      type: int
      returned: with host
    numa_balancing:
      description: The kernel's setting; V(1) disturbs measurements.
      type: str
      returned: with host
    numa:
      description: The CPUs of each NUMA node, as V(0-31,64-95).
      type: list
      elements: str
      returned: with host
    firmware:
      description: Versions of C(bios), CPU C(microcode) and C(gpu) firmware, as far as files tell them to everybody.
      type: dict
      returned: with host
    python:
      description: Version of the Python that ran this module.
      type: str
      returned: with host
    user:
      description: Name of the user that ran this module.
      type: str
      returned: with host
    uid:
      description: Number of that user.
      type: int
      returned: with host
    free_bytes:
      description: Free space for that user in the file system of O(work_dir).
      type: int
      returned: with host
    gpu:
      description:
        - C(vendor) (AMD, NVIDIA, INTEL or NONE), C(count), C(architecture) (C(gfx942), or the product name for NVIDIA), C(product),
          C(driver), C(runtime_version) (ROCm or CUDA).
        - C(devices) is a list of C(index), C(render_node), C(uuid), C(bus), C(product), C(architecture) and, where MIG splits one,
          C(slices).
        - C(problems) are sentences for people.
      type: dict
      returned: with gpu
    engines:
      description:
        - Per engine that was asked (C(docker), C(podman)) C(available), C(version), C(problem), C(command), C(rootless), C(storage), C(cgroup),
          C(root), C(free_bytes), C(runtimes), C(host), C(notes).
      type: dict
      returned: with engines
    problems:
      description: What could not be read.
      type: list
      elements: str
      returned: always
    seconds:
      description: How long the looking took.
      type: float
      returned: always
  sample:
    hostname: n1
    gpu: {vendor: AMD, count: 8, architecture: gfx942, product: AMD Instinct MI300X, driver: 6.10.5, runtime_version: 6.4.1, problems: []}
    engines: {docker: {available: true, version: 27.3.1, problem: ""}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.containers import engines
from ansible_collections.mad.engine.plugins.module_utils.facts import host_facts


def main():
    module = AnsibleModule(
        argument_spec={
            "work_dir": {"type": "path", "default": "/var/tmp"},
            "what": {"type": "list", "elements": "str", "choices": list(host_facts.PARTS), "default": list(host_facts.PARTS)},
            "engine": {"type": "str", "choices": [engines.ALL, engines.AUTO, *engines.READERS], "default": engines.ALL},
            "gpu_vendor": {"type": "str", "choices": ["", "amd", "nvidia", "intel", "none"], "default": ""},
            "rocm_path": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    facts = host_facts.collect(options["work_dir"], options["what"], None, options["gpu_vendor"], options["rocm_path"], options["engine"])
    module.exit_json(changed=False, facts=facts)


if __name__ == "__main__":
    main()
